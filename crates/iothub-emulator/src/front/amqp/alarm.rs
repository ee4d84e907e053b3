//! Waking up at a time of the hub's clock.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::time::SystemTime;

use crate::hub::Clock;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One time to wake up at, which can be changed.
pub(super) struct Alarm {
    clock: Clock,
    at: Option<SystemTime>,
    waiting: Option<Waiting>,
}

impl Alarm {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, at: None, waiting: None }
    }

    /// Sets the time, `None` for never.
    pub(super) fn set(&mut self, at: Option<SystemTime>) {
        if self.at == at {
            return;
        }
        self.at = at;
        self.waiting = at.map(|at| {
            let clock = self.clock.clone();
            Box::pin(async move { clock.reached(at).await }) as Waiting
        });
    }

    /// Returns once when the time has come, also when the clock was moved. Dropping the future loses nothing.
    pub(super) async fn rings(&mut self) {
        match &mut self.waiting {
            Some(waiting) => waiting.await,
            None => pending().await,
        }
        self.at = None;
        self.waiting = None;
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn it_rings_once_at_the_time_set_last() {
        let clock = Clock::new();
        let mut alarm = Alarm::new(clock.clone());
        assert!(alarm.rings().now_or_never().is_none());
        let now = clock.now();
        alarm.set(Some(now + Duration::from_secs(100)));
        assert!(alarm.rings().now_or_never().is_none());
        clock.advance(Duration::from_secs(100));
        alarm.set(Some(now + Duration::from_secs(10_000)));
        assert!(alarm.rings().now_or_never().is_none());
        clock.advance(Duration::from_secs(10_000));
        assert!(alarm.rings().now_or_never().is_some());
        assert!(alarm.rings().now_or_never().is_none());
    }
}
