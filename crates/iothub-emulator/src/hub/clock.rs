//! The hub's clock: the system's time plus an offset that tests move.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// Offsets beyond this are cut, so that times stay within what dates can show.
const MAX_OFFSET: Duration = Duration::from_secs(200 * 365 * 24 * 3600);

/// A sleep is cut here, so that a step of the system's own clock is noticed too.
const MAX_SLEEP: Duration = Duration::from_secs(600);

/// The hub's time: the system's plus an offset that only grows. Clones share the offset.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: Arc<watch::Sender<Duration>>,
}

impl Clock {
    /// A clock that shows the system's time.
    pub fn new() -> Self {
        Self { offset: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        let offset = *self.offset.borrow();
        let real = SystemTime::now();
        real.checked_add(offset).unwrap_or(real)
    }

    /// Moves the clock forward; tokens and locks that end meanwhile end at once. 200 years in all at most.
    pub fn advance(&self, by: Duration) {
        self.offset.send_modify(|offset| *offset = offset.saturating_add(by).min(MAX_OFFSET));
    }

    /// Tells of every [`advance`](Self::advance); the value is the offset from the system's time.
    pub fn moves(&self) -> watch::Receiver<Duration> {
        self.offset.subscribe()
    }

    /// Returns when the clock shows `at` or later, whether time passed or the clock was moved.
    ///
    /// Dropping the future has no effect.
    pub async fn reached(&self, at: SystemTime) {
        let mut moves = self.moves();
        loop {
            let left = at.duration_since(self.now()).unwrap_or(Duration::ZERO);
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(MAX_SLEEP)) => {}
                // Cannot fail: this clock holds the sender.
                _ = moves.changed() => {}
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moving_the_clock_wakes_who_waits_for_a_time() {
        let clock = Clock::new();
        let at = clock.now() + Duration::from_secs(3600);
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.reached(at).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(Duration::from_secs(3600));
        let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(matches!(ended, Ok(Ok(()))));
        assert!(clock.now() >= at);
    }

    #[tokio::test]
    async fn a_time_in_the_past_is_reached() {
        let clock = Clock::new();
        clock.reached(SystemTime::UNIX_EPOCH).await;
    }

    #[test]
    fn absurd_moves_do_no_harm() {
        let clock = Clock::new();
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert!(clock.now() > SystemTime::now());
    }
}
