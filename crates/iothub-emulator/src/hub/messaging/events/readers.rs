//! Who reads which partition, and who has to go (amqp.md 5.7, 8).

use std::collections::BTreeMap;

/// Readers without an epoch in one consumer group of a partition, as many as Event Hubs allows.
const MAX_READERS: usize = 5;

/// Why a reader was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderRefused {
    /// The reader there has a higher epoch, or has one at all while this one has none.
    Epoch {
        /// Of the reader that is there.
        current: i64,
    },
    /// Five read already.
    TooMany,
}

/// The readers of all partitions.
#[derive(Debug, Default)]
pub(super) struct Readers {
    at: BTreeMap<(String, u32), Vec<Reader>>,
    last_id: u64,
}

#[derive(Debug)]
struct Reader {
    id: u64,
    epoch: Option<i64>,
}

impl Readers {
    /// Admits a reader, and sends away those whose place it takes: with an epoch everybody else's.
    pub(super) fn enter(
        &mut self,
        group: &str,
        partition: u32,
        epoch: Option<i64>,
    ) -> Result<u64, ReaderRefused> {
        let id = self.last_id + 1;
        let key = (group.to_ascii_lowercase(), partition);
        let readers = self.at.entry(key.clone()).or_default();
        let current = readers.iter().filter_map(|reader| reader.epoch).max();
        let refused = match (epoch, current) {
            (Some(epoch), Some(current)) if epoch < current => Some(ReaderRefused::Epoch { current }),
            (None, Some(current)) => Some(ReaderRefused::Epoch { current }),
            (None, None) if readers.len() >= MAX_READERS => Some(ReaderRefused::TooMany),
            _ => None,
        };
        if let Some(refused) = refused {
            return Err(refused);
        }
        if epoch.is_some() {
            readers.clear();
        }
        readers.push(Reader { id, epoch });
        self.last_id = id;
        Ok(id)
    }

    /// Whether a reader has not been sent away.
    pub(super) fn has(&self, group: &str, partition: u32, id: u64) -> bool {
        let readers = self.at.get(&(group.to_ascii_lowercase(), partition));
        readers.is_some_and(|readers| readers.iter().any(|reader| reader.id == id))
    }

    pub(super) fn leave(&mut self, group: &str, partition: u32, id: u64) {
        let key = (group.to_ascii_lowercase(), partition);
        let Some(readers) = self.at.get_mut(&key) else { return };
        readers.retain(|reader| reader.id != id);
        if readers.is_empty() {
            self.at.remove(&key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_or_equal_epoch_takes_the_place_of_all() {
        let mut readers = Readers::default();
        let plain = [(); 2].map(|()| readers.enter("g", 0, None).unwrap());
        let low = readers.enter("g", 0, Some(1)).unwrap();
        assert!(!plain.iter().any(|id| readers.has("g", 0, *id)));
        let same = readers.enter("g", 0, Some(1)).unwrap();
        assert!(!readers.has("g", 0, low) && readers.has("g", 0, same));
        let refused = ReaderRefused::Epoch { current: 1 };
        assert_eq!(readers.enter("g", 0, Some(0)), Err(refused));
        assert_eq!(readers.enter("g", 0, None), Err(refused));
        assert!(readers.has("g", 0, same));
        // Elsewhere nobody minds.
        readers.enter("g", 1, None).unwrap();
        readers.enter("other", 0, None).unwrap();
        readers.leave("g", 0, same);
        readers.enter("G", 0, None).unwrap();
    }

    #[test]
    fn five_may_read_without_an_epoch() {
        let mut readers = Readers::default();
        let ids = [(); 5].map(|()| readers.enter("g", 0, None).unwrap());
        assert_eq!(readers.enter("g", 0, None), Err(ReaderRefused::TooMany));
        readers.leave("g", 0, ids[2]);
        let sixth = readers.enter("g", 0, None).unwrap();
        assert!(ids.iter().all(|id| *id != sixth));
        ids.iter().chain([&sixth]).for_each(|id| readers.leave("g", 0, *id));
        assert!(readers.at.is_empty());
    }
}
