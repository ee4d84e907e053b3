//! Messages in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use iothub_common::Result;

use super::store::MessageStore;

/// Messages in memory: fast, and gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    messages: BTreeMap<u64, Bytes>,
    end: u64,
    bytes: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl MessageStore for MemoryStore {
    fn push(&mut self, messages: &[Bytes]) -> Result<()> {
        for message in messages {
            self.bytes += message.len() as u64;
            self.messages.insert(self.end, message.clone());
            self.end += 1;
        }
        Ok(())
    }

    fn read(&self, from: u64, max: usize) -> Result<Vec<(u64, Bytes)>> {
        let found = self.messages.range(from..).take(max);
        Ok(found.map(|(position, message)| (*position, message.clone())).collect())
    }

    fn remove(&mut self, positions: &[u64]) -> Result<()> {
        for position in positions {
            if let Some(message) = self.messages.remove(position) {
                self.bytes -= message.len() as u64;
            }
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn len(&self) -> usize {
        self.messages.len()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
