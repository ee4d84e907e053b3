//! Rules: what goes wrong, for whom, how often and for how long.

use std::time::Duration;

use iothub_common::Identity;

/// Something that goes wrong from now on: for all, always and for ever, unless narrowed.
///
/// ```
/// use std::time::Duration;
/// use iothub_emulator::hub::{Effect, Rule};
///
/// // Every second answer about twins is lost, ten in all, within a minute.
/// let rule = Rule::new(Effect::SwallowTwinReplies)
///     .portion(iothub_emulator::hub::Portion::EveryNth(2))
///     .times(10)
///     .lasting(Duration::from_secs(60));
/// # drop(rule);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(super) effect: Effect,
    pub(super) identity: Option<Identity>,
    pub(super) portion: Portion,
    pub(super) times: Option<u64>,
    pub(super) lasting: Option<Duration>,
}

/// What a [`Rule`] does. All times are by the hub's clock.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// A twin request is carried out, its answer is never sent.
    SwallowTwinReplies,
    /// Answers to twin requests come so much later. Those of a link that is gone by then are lost.
    DelayTwinReplies(Duration),
    /// Notifications of desired properties come so much later; others may overtake them.
    DelayNotifications(Duration),
    /// A notification of desired properties waits until the next one has gone, for a second at most.
    ReorderNotifications,
    /// New AMQP connections go nowhere. Not for single identities, which are not known yet.
    RefuseConnections(Reception),
    /// Good tokens on `$cbs` are refused with a status, like 401, 429, 500 or 503, and do not count.
    RefuseTokens(u16),
    /// Good tokens on `$cbs` are not answered and do not count.
    SwallowTokens,
    /// Telemetry over AMQP is refused.
    RefuseTelemetry(TelemetryRefusal),
    /// Calls over HTTP are carried out so much later.
    SlowHttp(Duration),
    /// Calls over HTTP are answered with a status from 500 to 599 and not carried out.
    FailHttp(u16),
    /// Calls over HTTP are answered with 429 and not carried out. With a duration the answer carries `Retry-After`
    /// in whole seconds, which the real hub was never seen to send (rest.md 1.5).
    ThrottleHttp(Option<Duration>),
    /// A device or module that attaches a link is sent to another port of the hub's host.
    Redirect {
        /// With `amqp:connection:redirect` for the connection, or `amqp:link:redirect` for the link.
        whole_connection: bool,
        /// The port to go to.
        port: u16,
    },
    /// FLOW frames on new connections lack `next-incoming-id`, which AMQP forbids after `begin` and some brokers do.
    /// Not for single identities.
    OmitNextIncomingId,
    /// Queries see the identities and twins as they were, at most so long ago: a copy is taken when none is there or
    /// it is older than this. Not for single identities; portions and counts hit queries.
    QueryLag(Duration),
}

/// What becomes of a new connection, TLS done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It is dropped at once.
    Close,
    /// It stays open, nothing is ever said on it.
    Silence,
}

/// What telemetry is refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TelemetryRefusal {
    /// `com.microsoft:device-container-throttled`.
    Throttled,
    /// `amqp:resource-limit-exceeded`.
    Quota,
    /// `amqp:unauthorized-access`.
    Unauthorized,
}

/// Which of the occasions a fault takes.
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

impl Rule {
    /// For all devices and modules, on every occasion, until [`clear`](super::Faults::clear).
    pub fn new(effect: Effect) -> Self {
        Self { effect, identity: None, portion: Portion::EveryNth(1), times: None, lasting: None }
    }

    /// Only for one device or module.
    pub fn only_for(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Only on some occasions.
    pub fn portion(mut self, portion: impl Into<Portion>) -> Self {
        self.portion = portion.into();
        self
    }

    /// Ends after so many hits.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Ends after so long by the hub's clock.
    pub fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = Some(lasting);
        self
    }
}

impl TelemetryRefusal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttleTelemetry",
            Self::Quota => "exceedTelemetryQuota",
            Self::Unauthorized => "refuseTelemetry",
        }
    }
}

impl Effect {
    /// How it is called in [`Counters::faults`](crate::hub::Counters::faults) and over HTTP.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SwallowTwinReplies => "swallowTwinReplies",
            Self::DelayTwinReplies(_) => "delayTwinReplies",
            Self::DelayNotifications(_) => "delayNotifications",
            Self::ReorderNotifications => "reorderNotifications",
            Self::RefuseConnections(Reception::Close) => "closeNewConnections",
            Self::RefuseConnections(Reception::Silence) => "silenceNewConnections",
            Self::RefuseTokens(_) => "refuseTokens",
            Self::SwallowTokens => "swallowTokens",
            Self::RefuseTelemetry(refusal) => refusal.name(),
            Self::SlowHttp(_) => "slowHttp",
            Self::FailHttp(_) => "failHttp",
            Self::ThrottleHttp(_) => "throttleHttp",
            Self::Redirect { whole_connection: true, .. } => "redirectConnections",
            Self::Redirect { whole_connection: false, .. } => "redirectLinks",
            Self::OmitNextIncomingId => "omitNextIncomingId",
            Self::QueryLag(_) => "queryLag",
        }
    }
}
