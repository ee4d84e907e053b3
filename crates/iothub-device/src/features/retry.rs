//! When lost links are asked for again.

use std::time::Duration;

use iothub_common::{Error, ErrorKind, Result};
use tokio::time::Instant;

/// Losses in a row before the whole session is begun anew.
const MAX_FAILURES: u32 = 5;

/// Counts losses and spaces attempts.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    at: Option<Instant>,
    failures: u32,
}

impl Retry {
    pub(crate) fn may_try(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// When to try again, if anybody wants the links: a time that nobody acts on would be due for ever.
    pub(crate) fn next_deadline(&self, wanted: bool) -> Option<Instant> {
        self.at.filter(|_| wanted)
    }

    /// The links work.
    pub(crate) fn worked(&mut self) {
        *self = Self::default();
    }

    /// An attempt begins.
    pub(crate) fn trying(&mut self) {
        self.at = None;
    }

    /// The links were lost. An error is one that concerns the whole identity.
    pub(crate) fn failed(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        let identity =
            matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::NotFound) || is_displaced(&error);
        if identity || self.failures >= MAX_FAILURES {
            *self = Self::default();
            return Err(error);
        }
        self.at = Some(Instant::now() + Duration::from_millis(50 << self.failures));
        Ok(())
    }
}

/// Another client opened the same links (amqp.md 3.5, 6). For receiving links the hub says so by a number.
pub(crate) fn is_displaced(error: &Error) -> bool {
    matches!(error.hub_code(), Some("amqp:link:stolen" | "400027"))
}
