//! Where messages wait.

use bytes::Bytes;
use iothub_common::Result;

/// Where the messages of a [`TelemetryBuffer`](super::TelemetryBuffer) wait until the hub has them: a queue whose
/// entries can be removed anywhere. [`MemoryStore`](super::MemoryStore) is the one that a buffer has by default;
/// with the feature `file-buffer` there is `FileStore`.
///
/// A position names a message. Positions rise in the order of pushing, and are never used twice while the store is
/// open. What the bytes mean is the buffer's affair.
///
/// A buffer calls the methods one after the other, on a thread where they may block.
pub trait MessageStore: Send + 'static {
    /// Appends messages in order: all of them, or none when it fails. They are as safe as the store makes them when
    /// this returns.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from taking them. Who pushes is told.
    fn push(&mut self, messages: &[Bytes]) -> Result<()>;

    /// The oldest messages at `from` or later, at most `max`, with their positions.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from reading. The buffer tries again later.
    fn read(&self, from: u64, max: usize) -> Result<Vec<(u64, Bytes)>>;

    /// Removes messages. Positions without a message are passed over.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from removing them. The buffer tries again later.
    fn remove(&mut self, positions: &[u64]) -> Result<()>;

    /// The position of the next message, above all that there are.
    fn end(&self) -> u64;

    /// How many messages there are.
    fn len(&self) -> usize;

    /// Their bytes, added up.
    fn bytes(&self) -> u64;

    /// Whether there is no message.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
