//! One error type for every iothub crate.
//!
//! [`Error`] is opaque and cheap to clone, so that every waiter on a lost connection sees the same cause.
//! [`ErrorKind`] answers "what would I do differently?"; the rest is detail for logs and support cases.

mod connect;
mod hub;
mod hub_answer;
mod hub_codes;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use connect::connect_error;
pub use hub::{Subject, error_from_amqp, error_from_http, error_from_twin_status};

/// What the iothub crates return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error from any part of the SDK.
///
/// [`Display`](fmt::Display) prints one sentence that names the thing and, where there is one, the way out;
/// what caused it is in [`source`](StdError::source) and is not repeated. Clones share the same content.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    status: Option<u16>,
    hub_code: Option<String>,
    tracking_id: Option<String>,
    retry_after: Option<Duration>,
    may_have_been_applied: bool,
}

/// The kinds of error, by what a program would do about them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// What was to be created is there already: read or update it instead.
    AlreadyExists,
    /// The certificate of the other side is not trusted, or there is nothing to check it against.
    Certificate,
    /// The client was closed, by the program or for good by the hub: connect anew.
    Closed,
    /// No connection could be made to the address in the message. Retryable.
    Connect,
    /// The program gave something that cannot be right: change it. Nothing was done.
    InvalidInput,
    /// The hub, device, module or other thing named in the message does not exist or is disabled.
    NotFound,
    /// It was changed by somebody else since its etag was read: read it again and repeat the change.
    PreconditionFailed,
    /// The other side broke the protocol, or sent something that was not understood.
    Protocol,
    /// A quota is used up, such as messages per day or devices per hub: wait for the reset or buy more.
    QuotaExceeded,
    /// The hub understood and declined, in this state or for good.
    Rejected,
    /// Too many calls in a short time: slow down, see [`Error::retry_after`]. Retryable.
    Throttled,
    /// No answer within the deadline. Retryable, but see [`Error::may_have_been_applied`].
    Timeout,
    /// The credentials were not accepted: check key, rights, host name and clock.
    Unauthorized,
    /// The hub or device cannot serve right now. Retryable.
    Unavailable,
}

impl Error {
    /// What went wrong, by what one would do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without any change.
    ///
    /// For calls that must not happen twice look at [`may_have_been_applied`](Self::may_have_been_applied) too.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ErrorKind::{Connect, Throttled, Timeout, Unavailable};
        matches!(self.0.kind, Connect | Throttled | Timeout | Unavailable)
    }

    /// How long the hub asked to wait before the next attempt, when it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the hub may have done what was asked in spite of this error.
    ///
    /// `false` means that it certainly has not.
    #[must_use]
    pub fn may_have_been_applied(&self) -> bool {
        self.0.may_have_been_applied
    }

    /// The HTTP status the hub answered with; over AMQP the status of a twin or token answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The hub's own name for the error, such as `DeviceNotFound`; its number as text when it has no known
    /// name; the AMQP condition when the hub gave nothing else.
    #[must_use]
    pub fn hub_code(&self) -> Option<&str> {
        self.0.hub_code.as_deref()
    }

    /// What to quote in a support case: the hub finds the request in its logs by it.
    #[must_use]
    pub fn tracking_id(&self) -> Option<&str> {
        self.0.tracking_id.as_deref()
    }
}

/// For building errors: used by the sibling crates, not by applications.
impl Error {
    /// An error with a message that names the thing and the way out. It must never contain a key or token.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
            status: None,
            hub_code: None,
            tracking_id: None,
            retry_after: None,
            may_have_been_applied: false,
        }))
    }

    /// Sets what caused it.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Arc::from(source.into());
        self.change(|inner| inner.source = Some(source))
    }

    /// Sets the status, see [`status`](Self::status).
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        self.change(|inner| inner.status = Some(status))
    }

    /// Sets the hub's code, see [`hub_code`](Self::hub_code).
    #[must_use]
    pub fn with_hub_code(self, code: impl Into<String>) -> Self {
        self.change(|inner| inner.hub_code = Some(code.into()))
    }

    /// Sets the tracking id, see [`tracking_id`](Self::tracking_id).
    #[must_use]
    pub fn with_tracking_id(self, id: impl Into<String>) -> Self {
        self.change(|inner| inner.tracking_id = Some(id.into()))
    }

    /// Sets how long to wait, see [`retry_after`](Self::retry_after).
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.change(|inner| inner.retry_after = Some(wait))
    }

    /// Sets [`may_have_been_applied`](Self::may_have_been_applied).
    #[must_use]
    pub fn with_may_have_been_applied(self, maybe: bool) -> Self {
        self.change(|inner| inner.may_have_been_applied = maybe)
    }

    /// Says the same on a higher level: kind and details stay, this error becomes the source.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.message = message.into();
        inner.source = Some(Arc::new(self));
        Self(Arc::new(inner))
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source: &(dyn StdError + 'static) = self.0.source.as_deref()?;
        Some(source)
    }
}

/// What is set, and the causes as text; `main` returning an error prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(status) = inner.status {
            out.field("status", &status);
        }
        if let Some(code) = &inner.hub_code {
            out.field("hub_code", code);
        }
        if let Some(id) = &inner.tracking_id {
            out.field("tracking_id", id);
        }
        if let Some(wait) = inner.retry_after {
            out.field("retry_after", &wait);
        }
        if inner.may_have_been_applied {
            out.field("may_have_been_applied", &true);
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests;
