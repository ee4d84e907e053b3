//! Faults on purpose: a hub that refuses work, so that clients can be seen to cope.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::Hub;
use super::clock::Clock;
use super::error::{ErrorCode, HubError};

/// The real hub's text (rest.md 2.1).
const THROTTLED: &str = "The request has been throttled. Wait 10 seconds and try again. Operation type: CRUD";

/// The faults of one hub; none when it starts. Clones are the same. They end by the hub's clock.
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = iothub_emulator::LocalHub::start().await?;
/// hub.hub().faults().throttle(0.5, Duration::from_secs(30)); // half of all calls, for 30 seconds
/// # hub.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

/// Which of the calls a fault hits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Portion {
    /// Each with this probability, from 0 to 1; the same seed gives the same ones.
    Fraction(f64),
    /// Every nth, so 2 hits the second, the fourth, and so on. 0 hits none.
    EveryNth(u64),
}

impl From<f64> for Portion {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

#[derive(Debug, Default)]
struct Inner {
    random: Random,
    throttle: Option<Throttle>,
    throttled: u64,
}

#[derive(Debug)]
struct Throttle {
    portion: Portion,
    until: SystemTime,
    retry_after: Option<Duration>,
    calls: u64,
}

/// A call that is refused on purpose.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: HubError,
    pub(crate) retry_after: Option<Duration>,
}

impl Hub {
    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }
}

impl Faults {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, inner: Arc::default() }
    }

    /// Answers calls over HTTP with 429 `ThrottlingBacklogTimeout`, without executing them, for a time by
    /// the hub's clock. Replaces a throttling under way.
    pub fn throttle(&self, portion: impl Into<Portion>, lasting: Duration) {
        self.start_throttle(portion.into(), lasting, None);
    }

    /// As [`throttle`](Self::throttle), and the answers carry `Retry-After`, in whole seconds. The real hub was
    /// never seen to send it (rest.md 1.5).
    pub fn throttle_with_retry_after(
        &self,
        portion: impl Into<Portion>,
        lasting: Duration,
        retry_after: Duration,
    ) {
        self.start_throttle(portion.into(), lasting, Some(retry_after));
    }

    /// Starts the sequence of random decisions anew; without this it is that of seed 0.
    pub fn seed(&self, seed: u64) {
        self.lock().random = Random(seed);
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.lock().throttle = None;
    }

    /// How many calls were throttled since the hub started.
    pub fn throttled(&self) -> u64 {
        self.lock().throttled
    }

    /// Asked once for each call over HTTP that would be executed otherwise.
    pub(crate) fn http_call(&self) -> Result<(), Fault> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(throttle) = &mut inner.throttle else { return Ok(()) };
        if now >= throttle.until {
            inner.throttle = None;
            return Ok(());
        }
        throttle.calls += 1;
        let hit = match throttle.portion {
            Portion::Fraction(fraction) => inner.random.fraction() < fraction,
            Portion::EveryNth(nth) => nth != 0 && throttle.calls.is_multiple_of(nth),
        };
        if !hit {
            return Ok(());
        }
        inner.throttled += 1;
        let error = HubError::new(ErrorCode::ThrottlingBacklogTimeout, THROTTLED);
        Err(Fault { error, retry_after: throttle.retry_after })
    }

    fn start_throttle(&self, portion: Portion, lasting: Duration, retry_after: Option<Duration>) {
        let now = self.clock.now();
        // Beyond what the clock can show is for ever.
        let until = now.checked_add(lasting).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        self.lock().throttle = Some(Throttle { portion, until, retry_after, calls: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Default)]
struct Random(u64);

impl Random {
    /// From 0 to less than 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The upper 53 bits are what a double holds.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn faults() -> Faults {
        Faults::new(Clock::new())
    }

    fn hits(faults: &Faults, calls: usize) -> Vec<bool> {
        (0..calls).map(|_| faults.http_call().is_err()).collect()
    }

    #[test]
    fn nothing_is_refused_unless_asked_for() {
        let faults = faults();
        assert_eq!(hits(&faults, 3), [false; 3]);
        assert_eq!(faults.throttled(), 0);
    }

    #[test]
    fn every_nth_is_refused_in_the_hubs_words() {
        let faults = faults();
        faults.throttle(Portion::EveryNth(3), MINUTE);
        assert_eq!(hits(&faults, 6), [false, false, true, false, false, true]);
        assert_eq!(faults.throttled(), 2);
        faults.throttle_with_retry_after(Portion::EveryNth(1), MINUTE, Duration::from_secs(7));
        let fault = faults.http_call().err();
        assert_eq!(fault.as_ref().map(|fault| fault.error.code), Some(429_003));
        assert_eq!(fault.and_then(|fault| fault.retry_after), Some(Duration::from_secs(7)));
        faults.throttle(Portion::EveryNth(0), MINUTE);
        assert_eq!(hits(&faults, 2), [false; 2]);
    }

    #[test]
    fn a_fraction_is_kept_and_the_same_for_the_same_seed() {
        let faults = faults();
        faults.throttle(0.5, MINUTE);
        let first = hits(&faults, 1000);
        let count = first.iter().filter(|hit| **hit).count();
        assert!((450..550).contains(&count), "{count} of 1000");
        assert_ne!(hits(&faults, 1000), first);
        faults.seed(0);
        assert_eq!(hits(&faults, 1000), first);
        for (fraction, hit) in [(0.0, false), (1.0, true)] {
            faults.throttle(fraction, MINUTE);
            assert_eq!(hits(&faults, 100), [hit; 100]);
        }
    }

    #[test]
    fn it_ends_by_the_hubs_clock_or_when_told() {
        let faults = faults();
        faults.throttle(1.0, MINUTE);
        assert_eq!(hits(&faults, 1), [true]);
        faults.clock.advance(MINUTE);
        assert_eq!(hits(&faults, 1), [false]);
        faults.throttle(1.0, Duration::MAX);
        assert_eq!(hits(&faults, 1), [true]);
        faults.clear();
        assert_eq!(hits(&faults, 1), [false]);
    }
}
