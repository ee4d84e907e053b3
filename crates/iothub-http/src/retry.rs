//! When a request is sent again, and after how long. No clocks and no sockets here: every decision is a function.

use std::time::Duration;

use iothub_common::{Backoff, Error, ErrorKind, RetryPolicy};

/// How many times one call tries to connect: a hub that is down shall be told of soon, not at the end of the call.
const CONNECTION_ATTEMPTS: u32 = 4;

/// The policy unless the program says otherwise: the time for the whole call is the limit.
pub fn default_policy() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_millis(200),
        ceiling: Duration::from_secs(10),
        ..RetryPolicy::default()
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub struct Attempts {
    backoff: Backoff,
    repeat: Repeat,
    not_connected: u32,
}

impl Attempts {
    /// A call with no attempt behind it.
    pub fn new(policy: &RetryPolicy, repeat: Repeat) -> Self {
        Self { backoff: policy.backoff(), repeat, not_connected: 0 }
    }

    /// How long to wait after a failure before sending again, or `None` when to give up.
    pub fn pause_after(&mut self, failure: &Failure) -> Option<Duration> {
        if failure.reach == Reach::NotSent {
            self.not_connected += 1;
        }
        if !failure.may_be_repeated(self.repeat) || self.not_connected >= CONNECTION_ATTEMPTS {
            return None;
        }
        // The server knows better than we do when it will listen again. All whom it told so must not come back at once.
        let asked = failure.error.retry_after().unwrap_or_default();
        self.backoff.next().map(|pause| asked.saturating_add(pause))
    }
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads.
    Safe,
    /// It changes something: only when the first one certainly did nothing.
    OnlyUnsent,
}

/// How far a request got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No byte of it left.
    NotSent,
    /// The server answered with this status.
    Answered(u16),
    /// It may have reached the server; no answer came.
    Unknown,
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// How far the request got.
    pub reach: Reach,
}

impl Failure {
    /// Before a byte left.
    pub fn not_sent(error: Error) -> Self {
        Self { error, reach: Reach::NotSent }
    }

    /// The server answered, and declined.
    pub fn answered(status: u16, error: Error) -> Self {
        Self { error, reach: Reach::Answered(status) }
    }

    /// Some time after the first byte may have left.
    pub fn unknown(error: Error) -> Self {
        Self { error, reach: Reach::Unknown }
    }

    fn may_be_repeated(&self, repeat: Repeat) -> bool {
        match self.reach {
            // Nobody's certificate gets better by asking again.
            Reach::NotSent => self.error.kind() == ErrorKind::Connect,
            Reach::Answered(408 | 429 | 500 | 502 | 503 | 504) => {
                repeat == Repeat::Safe || !self.error.may_have_been_applied()
            }
            Reach::Answered(_) => false,
            Reach::Unknown => repeat == Repeat::Safe && self.error.kind() != ErrorKind::Protocol,
        }
    }

    /// The error for the caller: says for a change whether the hub may have made it.
    pub fn into_error(self, repeat: Repeat) -> Error {
        let applied = match (repeat, self.reach) {
            (Repeat::Safe, _) | (_, Reach::NotSent) => false,
            (Repeat::OnlyUnsent, Reach::Unknown) => true,
            (Repeat::OnlyUnsent, Reach::Answered(_)) => self.error.may_have_been_applied(),
        };
        self.error.with_may_have_been_applied(applied)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_common::Subject;
    use iothub_common::error::error_from_http;

    use super::*;

    fn failure(reach: Reach, kind: ErrorKind) -> Failure {
        let error = match reach {
            Reach::Answered(status) => error_from_http(status, None, b"", &Subject::Device("d")),
            _ => Error::new(kind, "test"),
        };
        Failure { error, reach }
    }

    /// (how far it got, kind, reads are repeated, changes are repeated, a change may have been applied).
    /// The kind is that of failures without an answer.
    const TABLE: &[(Reach, ErrorKind, bool, bool, bool)] = &[
        (Reach::NotSent, ErrorKind::Connect, true, true, false),
        (Reach::NotSent, ErrorKind::Certificate, false, false, false),
        (Reach::NotSent, ErrorKind::InvalidInput, false, false, false),
        (Reach::NotSent, ErrorKind::Unauthorized, false, false, false),
        (Reach::Unknown, ErrorKind::Connect, true, false, true),
        (Reach::Unknown, ErrorKind::Protocol, false, false, true),
        (Reach::Answered(400), ErrorKind::InvalidInput, false, false, false),
        (Reach::Answered(401), ErrorKind::Unauthorized, false, false, false),
        (Reach::Answered(403), ErrorKind::QuotaExceeded, false, false, false),
        (Reach::Answered(404), ErrorKind::NotFound, false, false, false),
        (Reach::Answered(408), ErrorKind::Timeout, true, false, true),
        (Reach::Answered(409), ErrorKind::AlreadyExists, false, false, false),
        (Reach::Answered(412), ErrorKind::PreconditionFailed, false, false, false),
        (Reach::Answered(429), ErrorKind::Throttled, true, true, false),
        (Reach::Answered(500), ErrorKind::Unavailable, true, false, true),
        (Reach::Answered(501), ErrorKind::Rejected, false, false, false),
        (Reach::Answered(502), ErrorKind::Unavailable, true, false, true),
        (Reach::Answered(503), ErrorKind::Unavailable, true, true, false),
        (Reach::Answered(504), ErrorKind::Unavailable, true, false, true),
    ];

    fn is_repeated(failure: &Failure, repeat: Repeat) -> bool {
        Attempts::new(&default_policy(), repeat).pause_after(failure).is_some()
    }

    #[test]
    fn what_is_repeated() {
        for &(reach, kind, reads, changes, applied) in TABLE {
            let failure = failure(reach, kind);
            let name = format!("{reach:?} {kind:?}");
            assert_eq!(is_repeated(&failure, Repeat::Safe), reads, "{name}");
            assert_eq!(is_repeated(&failure, Repeat::OnlyUnsent), changes, "{name}");
            assert_eq!(failure.into_error(Repeat::OnlyUnsent).may_have_been_applied(), applied, "{name}");
        }
    }

    #[test]
    fn a_read_is_never_applied() {
        for &(reach, kind, ..) in TABLE {
            assert!(!failure(reach, kind).into_error(Repeat::Safe).may_have_been_applied());
        }
    }

    #[test]
    fn the_hub_may_ask_for_a_longer_pause() {
        let error = Error::new(ErrorKind::Throttled, "slow down").with_retry_after(Duration::from_secs(30));
        let failure = Failure { error, reach: Reach::Answered(429) };
        let pause = Attempts::new(&default_policy(), Repeat::OnlyUnsent).pause_after(&failure).unwrap();
        // The first pause of the policy is up to 200 ms.
        assert!((30_000..=30_200).contains(&pause.as_millis()), "{pause:?}");
    }

    /// A hub that throttles half of all calls for 30 s gets every call within the 60 s a call has.
    #[test]
    fn half_a_minute_of_throttling_is_survived() {
        let throttled = |asked| {
            let error = Error::new(ErrorKind::Throttled, "slow down").with_retry_after(asked);
            Failure { error, reach: Reach::Answered(429) }
        };
        for asked in [0, 1, 10] {
            let failure = throttled(Duration::from_secs(asked));
            let mut attempts = Attempts::new(&default_policy(), Repeat::OnlyUnsent);
            // The worst case: throttled every time, until 30 s are over.
            let mut passed = Duration::ZERO;
            while passed < Duration::from_secs(30) {
                passed += attempts.pause_after(&failure).unwrap();
            }
            assert!(passed < Duration::from_secs(55), "{asked}: {passed:?}");
        }
    }

    #[test]
    fn connections_are_given_up_soon_and_throttled_requests_are_not() {
        let count = |failure: &Failure| {
            let mut attempts = Attempts::new(&default_policy(), Repeat::Safe);
            (0..1000).take_while(|_| attempts.pause_after(failure).is_some()).count()
        };
        assert_eq!(count(&failure(Reach::NotSent, ErrorKind::Connect)), 3);
        assert_eq!(count(&failure(Reach::Answered(429), ErrorKind::Throttled)), 1000);
    }

    #[test]
    fn never_means_never() {
        let refused = failure(Reach::NotSent, ErrorKind::Connect);
        assert_eq!(Attempts::new(&RetryPolicy::never(), Repeat::Safe).pause_after(&refused), None);
    }
}
