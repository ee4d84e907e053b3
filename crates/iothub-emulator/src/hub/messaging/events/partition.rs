//! One partition of the built-in endpoint: a log that forgets its oldest events. Pure: the caller passes the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Event, Origin, PartitionInfo, Start};
use crate::hub::messaging::message::Message;

/// Events of a partition.
const MAX_EVENTS: usize = 100_000;
/// Their bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an event takes beside what is in the message, about.
const OVERHEAD: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Partition {
    log: VecDeque<Arc<Event>>,
    bytes: usize,
    next_sequence: i64,
    next_offset: i64,
    last_time: Option<SystemTime>,
}

impl Partition {
    pub(super) fn append(&mut self, origin: &Origin, message: Message, now: SystemTime, retention: Duration) {
        let now = whole_millis(now);
        let size = cost(&message);
        let event = Event {
            sequence: self.next_sequence,
            offset: self.next_offset,
            // Times never go back, whatever the clock does.
            enqueued_at: self.last_time.map_or(now, |last| last.max(now)),
            identity: origin.identity.clone(),
            generation: origin.generation,
            auth: origin.auth,
            message,
        };
        self.last_time = Some(event.enqueued_at);
        self.next_sequence += 1;
        self.next_offset += size as i64;
        self.bytes += size;
        self.log.push_back(Arc::new(event));
        while self.log.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            self.forget_oldest();
        }
        self.expire(now, retention);
    }

    /// Forgets all events; the next one has the next number.
    pub(super) fn clear(&mut self) {
        self.log.clear();
        self.bytes = 0;
    }

    /// Forgets events older than `retention`.
    pub(super) fn expire(&mut self, now: SystemTime, retention: Duration) {
        while self.log.front().is_some_and(|oldest| oldest.enqueued_at + retention <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.log.pop_front() {
            self.bytes -= cost(&oldest.message);
        }
    }

    /// The sequence number to begin with.
    pub(super) fn find(&self, start: Start) -> i64 {
        let is_before = |event: &Arc<Event>| match start {
            Start::Earliest => false,
            Start::Latest => true,
            Start::Offset { offset, inclusive } => before(event.offset, offset, inclusive),
            Start::Sequence { sequence, inclusive } => before(event.sequence, sequence, inclusive),
            Start::EnqueuedAfter(at) => event.enqueued_at <= at,
        };
        let skip = self.log.partition_point(is_before);
        self.log.get(skip).map_or(self.next_sequence, |event| event.sequence)
    }

    /// At most `max` events from sequence number `from` on; those that are forgotten are left out.
    pub(super) fn read(&self, from: i64, max: usize) -> impl Iterator<Item = &Arc<Event>> {
        let skip = self.log.partition_point(|event| event.sequence < from);
        self.log.range(skip..).take(max)
    }

    pub(super) fn info(&self) -> PartitionInfo {
        let last_event = self.next_sequence > 0;
        PartitionInfo {
            first_sequence: self.log.front().map_or(self.next_sequence, |event| event.sequence),
            last_sequence: self.next_sequence - 1,
            last_offset: last_event.then(|| self.last_offset()),
            last_enqueued_at: self.last_time,
            is_empty: self.log.is_empty(),
        }
    }

    fn last_offset(&self) -> i64 {
        // With an empty log any number below the next offset names the end.
        self.log.back().map_or(self.next_offset - 1, |event| event.offset)
    }
}

/// Whether an event at `of` comes before the place to begin.
fn before(of: i64, at: i64, inclusive: bool) -> bool {
    if inclusive { of < at } else { of <= at }
}

/// As readers see it, and name it when they ask for what came later.
fn whole_millis(at: SystemTime) -> SystemTime {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

fn cost(message: &Message) -> usize {
    let system: usize = message.system.iter().map(|(name, value)| name.len() + value.len()).sum();
    OVERHEAD + message.size() + system
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use iothub_common::Identity;

    use super::*;
    use crate::hub::messaging::events::ConnectionAuth;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn message(size: usize) -> Message {
        Message { body: Bytes::from(vec![7; size]), ..Message::default() }
    }

    /// An event every ten seconds.
    fn partition(events: u64) -> Partition {
        let mut partition = Partition::default();
        (0..events).for_each(|n| partition.append(&origin(), message(100), at(n * 10), DAY));
        partition
    }

    fn origin() -> Origin {
        let identity = Identity::device("d").unwrap();
        Origin { identity, generation: 1, auth: ConnectionAuth::DEVICE_SAS }
    }

    #[test]
    fn every_kind_of_start_is_found() {
        let partition = partition(5);
        let offsets: Vec<_> = partition.read(0, 99).map(|event| event.offset).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "{offsets:?}");
        for (start, first) in [
            (Start::Earliest, 0),
            (Start::Latest, 5),
            (Start::Offset { offset: -1, inclusive: false }, 0),
            (Start::Offset { offset: offsets[2], inclusive: false }, 3),
            (Start::Offset { offset: offsets[2], inclusive: true }, 2),
            (Start::Sequence { sequence: 2, inclusive: false }, 3),
            (Start::Sequence { sequence: 2, inclusive: true }, 2),
            (Start::Sequence { sequence: 99, inclusive: true }, 5),
            (Start::EnqueuedAfter(at(19)), 2),
            (Start::EnqueuedAfter(at(20)), 3),
            (Start::EnqueuedAfter(at(99)), 5),
        ] {
            assert_eq!(partition.find(start), first, "{start:?}");
        }
        assert_eq!(Partition::default().find(Start::Latest), 0);
    }

    #[test]
    fn reading_takes_so_many_and_skips_what_is_forgotten() {
        let mut partition = partition(5);
        let read = |partition: &Partition, from, max| -> Vec<i64> {
            partition.read(from, max).map(|event| event.sequence).collect()
        };
        assert_eq!(read(&partition, 1, 2), [1, 2]);
        assert_eq!(read(&partition, 5, 2), [0; 0]);
        // The third event came at 20 s.
        partition.expire(at(20) + DAY, DAY);
        assert_eq!(read(&partition, 0, 99), [3, 4]);
        assert_eq!(partition.info().first_sequence, 3);
    }

    #[test]
    fn it_holds_so_many_bytes() {
        let mut partition = Partition::default();
        for _ in 0..300 {
            partition.append(&origin(), message(256 * 1024), at(0), DAY);
        }
        assert!(partition.bytes <= MAX_BYTES);
        assert_eq!(partition.read(0, 999).count(), 255, "64 MiB hold 255 of 256 KiB and a bit");
        let info = partition.info();
        assert_eq!((info.first_sequence, info.last_sequence), (45, 299));
    }

    #[test]
    fn an_empty_partition_says_so_and_one_that_forgot_remembers_where_it_was() {
        let info = Partition::default().info();
        assert_eq!((info.first_sequence, info.last_sequence), (0, -1));
        assert!(info.is_empty && info.last_offset.is_none() && info.last_enqueued_at.is_none());

        let mut partition = partition(2);
        let before = partition.info();
        assert_eq!((before.last_sequence, before.is_empty), (1, false));
        assert_eq!(before.last_enqueued_at, Some(at(10)));
        partition.expire(at(99) + DAY, DAY);
        let after = partition.info();
        assert_eq!((after.first_sequence, after.last_sequence, after.is_empty), (2, 1, true));
    }
}
