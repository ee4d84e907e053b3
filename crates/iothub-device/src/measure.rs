//! What an application can see of the inside: spans of calls, and numbers for its metrics (docs/metrics.md).
//! Without the feature `metrics` the numbers cost nothing.

#[cfg(not(feature = "metrics"))]
#[path = "measure/off.rs"]
mod numbers;
#[cfg(feature = "metrics")]
#[path = "measure/on.rs"]
mod numbers;

use iothub_common::{Identity, Result};
use tracing::Span;

pub(crate) use numbers::{
    Presence, Waiting, buffer_dropped, buffer_refused, received, sent, token_refused, token_renewed,
};

use numbers::Timer;

/// The names that calls have in spans and numbers.
pub(crate) mod call_name {
    pub(crate) const TWIN_GET: &str = "twin_get";
    pub(crate) const TWIN_REPORT: &str = "twin_report";
    pub(crate) const SEND: &str = "send";
    pub(crate) const METHOD_ANSWER: &str = "method_answer";
    pub(crate) const SETTLE: &str = "settle";
}

/// A call from beginning to end: a span at trace level, and its numbers. Dropped before its end it counts as such.
pub(crate) struct Measured {
    span: Span,
    timer: Timer,
}

impl Measured {
    pub(crate) fn start(name: &'static str, identity: &Identity) -> Self {
        Self { span: tracing::trace_span!("call", call = name, %identity), timer: Timer::start(name) }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn end<T>(self, result: Result<T>) -> Result<T> {
        self.timer.end(result.as_ref().err());
        self.span.in_scope(|| match &result {
            Ok(_) => tracing::trace!("done"),
            Err(error) => tracing::trace!(%error, kind = ?error.kind(), "failed"),
        });
        result
    }
}
