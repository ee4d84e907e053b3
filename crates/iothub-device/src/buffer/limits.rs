//! How much waits, and what happens when it would be more.

use std::fmt;

use iothub_common::{Error, ErrorKind};

/// What happens to a message for which a buffer has no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The push waits until there is room, up to its time limit.
    #[default]
    Wait,
    /// The messages that have waited longest make room.
    DropOldest,
    /// The new message is not taken; the push fails with
    /// [`QuotaExceeded`](iothub_common::ErrorKind::QuotaExceeded).
    DropNewest,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// How much waits, or would.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// With one more message.
    pub(super) fn with(mut self, bytes: usize) -> Self {
        self.add(bytes);
        self
    }

    pub(super) fn fits(self, limits: Limits) -> bool {
        self.messages <= limits.messages && self.bytes <= limits.bytes
    }
}

impl Limits {
    pub(super) fn full(self) -> Error {
        let text = format!("the telemetry buffer is full ({self}); the message was not taken");
        Error::new(ErrorKind::QuotaExceeded, text)
    }

    pub(super) fn full_too_long(self) -> Error {
        let text = format!("the telemetry buffer stayed full ({self}) for the time of the push");
        Error::new(ErrorKind::Timeout, text)
    }

    pub(super) fn never_fits(self, bytes: usize) -> Error {
        let text =
            format!("the message takes {bytes} bytes; the telemetry buffer has room for {}", self.bytes);
        Error::new(ErrorKind::InvalidInput, text)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages or {} bytes", self.messages, self.bytes)
    }
}
