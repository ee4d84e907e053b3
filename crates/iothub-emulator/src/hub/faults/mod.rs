//! Faults on purpose: a hub that misbehaves, so that clients can be seen to cope.

mod book;
mod disruption;
mod random;
mod rule;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use iothub_common::Identity;
use tokio::sync::watch;

pub use disruption::{Disruption, LinkKind};
pub use rule::{Effect, Portion, Reception, Rule, TelemetryRefusal};

use self::book::Book;
use super::error::{ErrorCode, HubError};
use super::live::Push;
use super::{Hub, Inner};

/// The real hub's text (rest.md 2.1).
const THROTTLED: &str = "The request has been throttled. Wait 10 seconds and try again. Operation type: CRUD";

/// The faults of one hub; none when it starts. Clones are the same.
///
/// ```
/// use std::time::Duration;
/// use iothub_emulator::hub::{Effect, Rule};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = iothub_emulator::LocalHub::start().await?;
/// let faults = hub.hub().faults();
/// faults.throttle(0.5, Duration::from_secs(30)); // half of all calls over HTTP, for 30 seconds
/// faults.add(Rule::new(Effect::SwallowTwinReplies).times(3)); // the next three answers
/// # drop(faults);
/// # hub.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    hub: Hub,
}

/// What a hub keeps of its faults.
#[derive(Default)]
pub(super) struct Board {
    book: Mutex<Book>,
    /// Counts how often all faults were ended.
    cleared: watch::Sender<u64>,
    /// What queries see, and since when.
    lagging: Mutex<Option<(SystemTime, Arc<Inner>)>>,
}

/// A call that is refused on purpose.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: HubError,
    pub(crate) retry_after: Option<Duration>,
}

/// What becomes of an answer about a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFault {
    Swallow,
    Delay(Duration),
}

/// What becomes of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotificationFault {
    Delay(Duration),
    Reorder,
}

/// What becomes of a good token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    Refuse(u16),
    Swallow,
}

/// Where a client is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redirection {
    pub(crate) whole_connection: bool,
    pub(crate) port: u16,
}

impl Hub {
    /// What goes wrong on purpose.
    pub fn faults(&self) -> Faults {
        Faults { hub: self.clone() }
    }
}

impl Faults {
    /// Does something to the live connections of a device or module: how many were told. They do it at once, but not
    /// before this returns.
    pub fn disrupt(&self, identity: &Identity, disruption: Disruption) -> usize {
        self.hub.lock().live.tell(identity, &Push::Disrupt(disruption))
    }

    /// From now on a rule holds. Where several fit an occasion the first one that hits decides.
    pub fn add(&self, rule: Rule) {
        let now = self.hub.now();
        self.book().add(rule, now);
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
        self.book().seed(seed);
    }

    /// Ends all rules, and connections are read again. What was delayed comes when it is due.
    pub fn clear(&self) {
        self.book().clear();
        *self.lagging() = None;
        self.board().cleared.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How many calls over HTTP were throttled since the hub started.
    pub fn throttled(&self) -> u64 {
        self.hub.tally().faults_named(Effect::ThrottleHttp(None).name())
    }

    fn start_throttle(&self, portion: Portion, lasting: Duration, retry_after: Option<Duration>) {
        let now = self.hub.now();
        let mut book = self.book();
        book.remove(|effect| matches!(effect, Effect::ThrottleHttp(_)));
        book.add(Rule::new(Effect::ThrottleHttp(retry_after)).portion(portion).lasting(lasting), now);
    }

    fn board(&self) -> &Board {
        &self.hub.shared.faults
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while it is held.
        self.board().book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lagging(&self) -> MutexGuard<'_, Option<(SystemTime, Arc<Inner>)>> {
        // Nothing panics while it is held.
        self.board().lagging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn occasion<T>(&self, identity: Option<&Identity>, pick: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        let now = self.hub.now();
        let (picked, name) = self.book().occasion(identity, now, pick)?;
        self.hub.tally().fault(name);
        Some(picked)
    }
}

/// Occasions: each is asked for once, where it would happen.
impl Faults {
    /// A call over HTTP that would be executed otherwise.
    pub(crate) fn http_call(&self) -> Result<(), Fault> {
        let fault = self.occasion(None, |effect| match effect {
            Effect::ThrottleHttp(retry_after) => {
                let error = HubError::new(ErrorCode::ThrottlingBacklogTimeout, THROTTLED);
                Some(Fault { error, retry_after: *retry_after })
            }
            Effect::FailHttp(status) => Some(Fault { error: http_failure(*status), retry_after: None }),
            _ => None,
        });
        fault.map_or(Ok(()), Err)
    }

    /// How long a call over HTTP is to wait.
    pub(crate) fn http_delay(&self) -> Option<Duration> {
        self.occasion(None, |effect| if let Effect::SlowHttp(by) = effect { Some(*by) } else { None })
    }

    pub(crate) fn twin_reply(&self, identity: &Identity) -> Option<ReplyFault> {
        self.occasion(Some(identity), |effect| match effect {
            Effect::SwallowTwinReplies => Some(ReplyFault::Swallow),
            Effect::DelayTwinReplies(by) => Some(ReplyFault::Delay(*by)),
            _ => None,
        })
    }

    pub(crate) fn notification(&self, identity: &Identity) -> Option<NotificationFault> {
        self.occasion(Some(identity), |effect| match effect {
            Effect::DelayNotifications(by) => Some(NotificationFault::Delay(*by)),
            Effect::ReorderNotifications => Some(NotificationFault::Reorder),
            _ => None,
        })
    }

    pub(crate) fn reception(&self) -> Option<Reception> {
        self.occasion(None, |effect| match effect {
            Effect::RefuseConnections(reception) => Some(*reception),
            _ => None,
        })
    }

    pub(crate) fn omits_next_incoming_id(&self) -> bool {
        self.occasion(None, |effect| (*effect == Effect::OmitNextIncomingId).then_some(())).is_some()
    }

    /// `identity` is whose key the token was made with; none for a policy's.
    pub(crate) fn token(&self, identity: Option<&Identity>) -> Option<TokenFault> {
        self.occasion(identity, |effect| match effect {
            Effect::RefuseTokens(status) => Some(TokenFault::Refuse(*status)),
            Effect::SwallowTokens => Some(TokenFault::Swallow),
            _ => None,
        })
    }

    pub(crate) fn telemetry(&self, identity: &Identity) -> Option<TelemetryRefusal> {
        self.occasion(Some(identity), |effect| match effect {
            Effect::RefuseTelemetry(refusal) => Some(*refusal),
            _ => None,
        })
    }

    pub(crate) fn redirection(&self, identity: &Identity) -> Option<Redirection> {
        self.occasion(Some(identity), |effect| match effect {
            Effect::Redirect { whole_connection, port } => {
                Some(Redirection { whole_connection: *whole_connection, port: *port })
            }
            _ => None,
        })
    }

    /// What a query sees instead of the hub as it is.
    pub(in crate::hub) fn query(&self) -> Option<Arc<Inner>> {
        let lag = self.occasion(None, |effect| match effect {
            Effect::QueryLag(lag) => Some(*lag),
            _ => None,
        })?;
        let now = self.hub.now();
        let mut lagging = self.lagging();
        if let Some((since, copy)) = &*lagging
            && now.duration_since(*since).is_ok_and(|age| age < lag)
        {
            return Some(Arc::clone(copy));
        }
        let copy = Arc::new(Inner { state: self.hub.lock().state.clone(), ..Inner::default() });
        *lagging = Some((now, Arc::clone(&copy)));
        Some(copy)
    }

    /// Tells when all faults are ended.
    pub(crate) fn cleared(&self) -> watch::Receiver<u64> {
        self.board().cleared.subscribe()
    }
}

fn http_failure(status: u16) -> HubError {
    let code = match status {
        503 => ErrorCode::ServiceUnavailable,
        504 => ErrorCode::GatewayTimeout,
        _ => ErrorCode::ServerError,
    };
    let error = HubError::new(code, "As asked for by a fault rule.");
    // What is no status of a fault of the hub would be taken for something else.
    if (500..600).contains(&status) { HubError { status, ..error } } else { error }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
