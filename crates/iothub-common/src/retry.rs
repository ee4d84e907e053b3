//! How long to wait before the next attempt. Nothing here sleeps.

use std::{fmt, time::Duration};

use crate::error::{Error, ErrorKind};

/// Decides when a lost connection is tried again. [`RetryPolicy`] is the one to begin with.
pub trait ReconnectPolicy: fmt::Debug + Send + Sync {
    /// How long to wait before the next attempt, or `None` to give up.
    ///
    /// `failures` counts the failed attempts and lost connections since the connection was last established,
    /// this one included, so it is at least 1. `error` is why.
    fn next_try(&self, failures: u32, error: &Error) -> Option<Duration>;
}

/// A hub that throttles, or whose quota is used up, is left alone for at least this long.
const SLOW_DOWN: Duration = Duration::from_secs(10);

impl ReconnectPolicy for RetryPolicy {
    /// As [`Backoff`]; at least as long as the hub asked for, and at least 10 s when it throttles.
    fn next_try(&self, failures: u32, error: &Error) -> Option<Duration> {
        let wait = self.wait(failures.saturating_sub(1), random())?;
        let floor = match error.kind() {
            ErrorKind::Throttled | ErrorKind::QuotaExceeded => SLOW_DOWN,
            _ => Duration::ZERO,
        };
        Some(error.retry_after().unwrap_or(floor) + wait)
    }
}

/// When to try again, and how often. The waits between attempts are those of [`Backoff`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest first wait.
    pub initial: Duration,
    /// What the waits grow to at most.
    pub ceiling: Duration,
    /// How many times to try again after the first attempt; `None` is without end.
    pub max_retries: Option<u32>,
}

impl RetryPolicy {
    /// One attempt, no second.
    #[must_use]
    pub fn never() -> Self {
        Self { max_retries: Some(0), ..Self::default() }
    }

    /// The waits of one series of attempts, from the start.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        Backoff { policy: self.clone(), retries: 0 }
    }

    /// The wait after `retries` earlier ones.
    fn wait(&self, retries: u32, random: u64) -> Option<Duration> {
        if self.max_retries.is_some_and(|max| retries >= max) {
            return None;
        }
        let factor = 1_u32.checked_shl(retries).unwrap_or(u32::MAX);
        Some(portion(self.initial.saturating_mul(factor).min(self.ceiling), random))
    }
}

impl Default for RetryPolicy {
    /// Up to 100 ms at first, doubled each time up to 30 s, without end.
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), ceiling: Duration::from_secs(30), max_retries: None }
    }
}

/// The waits of one series of attempts, an iterator that ends when the policy says to give up.
///
/// Each wait is anything between zero and a bound that doubles each time up to the ceiling ("full jitter"):
/// many devices that lost their hub at once must not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    retries: u32,
}

impl Backoff {
    /// The next wait, with a random number from the caller.
    pub fn next_with(&mut self, random: u64) -> Option<Duration> {
        let wait = self.policy.wait(self.retries, random)?;
        self.retries = self.retries.saturating_add(1);
        Some(wait)
    }

    /// Starts over: to be called once an attempt has really worked.
    pub fn reset(&mut self) {
        self.retries = 0;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.next_with(random())
    }
}

/// Without random numbers the full wait is as good as any.
fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_or(u64::MAX, |()| u64::from_ne_bytes(bytes))
}

/// `random` of `u64::MAX` parts of `bound`.
fn portion(bound: Duration, random: u64) -> Duration {
    let nanos = bound.as_nanos().min(u128::from(u64::MAX));
    let part = nanos * u128::from(random) / u128::from(u64::MAX);
    // Not more than `nanos`, which fits.
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(policy: &RetryPolicy, random: u64, count: usize) -> Vec<u128> {
        let mut backoff = policy.backoff();
        std::iter::from_fn(|| backoff.next_with(random)).take(count).map(|wait| wait.as_millis()).collect()
    }

    #[test]
    fn bounds_double_up_to_the_ceiling() {
        let policy = RetryPolicy {
            initial: Duration::from_millis(100),
            ceiling: Duration::from_millis(1500),
            max_retries: None,
        };
        assert_eq!(millis(&policy, u64::MAX, 7), [100, 200, 400, 800, 1500, 1500, 1500]);
        assert_eq!(millis(&policy, u64::MAX / 2, 5), [49, 99, 199, 399, 749]);
        assert_eq!(millis(&policy, 0, 3), [0, 0, 0]);
    }

    #[test]
    fn it_ends_when_the_policy_says_so_and_starts_over_on_reset() {
        let policy = RetryPolicy { max_retries: Some(2), ..RetryPolicy::default() };
        let mut backoff = policy.backoff();
        assert_eq!(backoff.by_ref().count(), 2);
        backoff.reset();
        assert_eq!(backoff.next_with(u64::MAX), Some(Duration::from_millis(100)));
        assert_eq!(RetryPolicy::never().backoff().count(), 0);
    }

    #[test]
    fn long_series_and_huge_durations_do_not_overflow() {
        let policy = RetryPolicy { initial: Duration::MAX, ceiling: Duration::MAX, max_retries: None };
        let mut backoff = policy.backoff();
        for _ in 0..200 {
            assert!(backoff.next_with(u64::MAX).is_some());
        }
        let mut backoff = RetryPolicy::default().backoff();
        let last = (0..200).filter_map(|_| backoff.next_with(u64::MAX)).last();
        assert_eq!(last, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_hub_that_throttles_or_says_when_is_left_alone_that_long() {
        let policy = RetryPolicy::default();
        let seconds = Duration::from_secs;
        let error = |kind| Error::new(kind, "x");
        let first = |error: &Error| policy.next_try(1, error).unwrap_or_default();
        assert!(first(&error(ErrorKind::Unavailable)) <= Duration::from_millis(100));
        assert!(first(&error(ErrorKind::Throttled)) >= seconds(10));
        assert!(first(&error(ErrorKind::QuotaExceeded)) >= seconds(10));
        assert!(first(&error(ErrorKind::Throttled).with_retry_after(seconds(3))) < seconds(4));
        assert!(first(&error(ErrorKind::Unavailable).with_retry_after(seconds(3))) >= seconds(3));
        assert_eq!(RetryPolicy::never().next_try(1, &error(ErrorKind::Unavailable)), None);
    }

    #[test]
    fn random_waits_stay_within_the_bounds() {
        let policy = RetryPolicy::default();
        for (wait, bound) in policy.backoff().zip([100, 200, 400, 800]) {
            assert!(wait <= Duration::from_millis(bound), "{wait:?}");
        }
    }
}
