//! What a buffer has done so far.

/// What a [`TelemetryBuffer`](super::TelemetryBuffer) holds, and what it has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferStats {
    /// Messages that wait: stored, and not known to be with the hub.
    pub waiting: usize,
    /// Bytes in the store, encoded as they travel.
    pub waiting_bytes: u64,
    /// Of those that wait, the ones on their way to the hub.
    pub in_flight: usize,
    /// Messages taken from the application.
    pub pushed: u64,
    /// Messages that the hub has.
    pub sent: u64,
    /// Messages that were given up for lack of room. With [`DropOldest`](super::WhenFull::DropOldest) the hub may
    /// have some of them all the same.
    pub dropped: u64,
    /// Messages that the hub refused for good.
    pub refused: u64,
}
