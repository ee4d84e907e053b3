//! What a refusal by the hub means for a message that waits.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use iothub_common::{Error, ErrorKind};

use crate::message::Message;

/// A refusal that may or may not be for good counts as such after this many.
const MAX_DOUBTS: u32 = 5;

/// A message that the hub refused for good. It has left the buffer, or is about to.
#[derive(Debug)]
#[non_exhaustive]
pub struct RefusedMessage {
    /// The message.
    pub message: Message,
    /// The output of an Edge module that it was meant for.
    pub output: Option<String>,
    /// Why the hub refused it.
    pub error: Error,
}

/// Whom the application wants to know of refused messages.
#[derive(Clone, Default)]
pub(super) struct OnRefused(Option<Arc<dyn Fn(RefusedMessage) + Send + Sync>>);

impl OnRefused {
    pub(super) fn new(tell: impl Fn(RefusedMessage) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Logs and tells. A panic of the application stays here.
    pub(super) fn tell(&self, bytes: &Bytes, error: Error) {
        // Nobody but the buffer writes to a store, so there is always a message; the bytes are better than nothing.
        let (message, output) =
            Message::decode(bytes).unwrap_or_else(|_| (Message::new(bytes.clone()), None));
        tracing::warn!(id = message.id(), %error, "the hub refused a buffered message; it leaves the buffer");
        let Some(tell) = &self.0 else { return };
        let refused = RefusedMessage { message, output, error };
        if std::panic::catch_unwind(AssertUnwindSafe(|| tell(refused))).is_err() {
            tracing::error!("the handler of refused messages panicked");
        }
    }
}

impl fmt::Debug for OnRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnRefused").field(&self.0.is_some()).finish()
    }
}

/// Doubts about the message that was refused last.
#[derive(Debug, Default)]
pub(super) struct Doubts(Option<(u64, u32)>);

impl Doubts {
    /// Whether the hub will never take the message at `position`.
    pub(super) fn is_final(&mut self, position: u64, error: &Error) -> bool {
        match meaning(error) {
            Meaning::Final => true,
            Meaning::Later => false,
            Meaning::Doubtful => {
                let before = self.0.filter(|(known, _)| *known == position).map_or(0, |(_, count)| count);
                self.0 = Some((position, before + 1));
                before + 1 >= MAX_DOUBTS
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// The message is at fault.
    Final,
    /// Something else is.
    Later,
    /// It does not say.
    Doubtful,
}

fn meaning(error: &Error) -> Meaning {
    // A suspended hub refuses everything, until it is paid for.
    if error.hub_code().is_some_and(|code| code.contains("suspended")) {
        return Meaning::Later;
    }
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::Rejected => Meaning::Final,
        ErrorKind::Certificate
        | ErrorKind::Closed
        | ErrorKind::Connect
        | ErrorKind::NotFound
        | ErrorKind::QuotaExceeded
        | ErrorKind::Throttled
        | ErrorKind::Timeout
        | ErrorKind::Unauthorized
        | ErrorKind::Unavailable => Meaning::Later,
        _ => Meaning::Doubtful,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "no")
    }

    #[test]
    fn only_what_the_message_is_to_blame_for_takes_it_out() {
        let mut doubts = Doubts::default();
        for kind in [ErrorKind::InvalidInput, ErrorKind::Rejected] {
            assert!(doubts.is_final(1, &error(kind)), "{kind:?}");
        }
        for kind in
            [ErrorKind::Throttled, ErrorKind::QuotaExceeded, ErrorKind::Unauthorized, ErrorKind::Closed]
        {
            assert!((0..10).all(|_| !doubts.is_final(1, &error(kind))), "{kind:?}");
        }
        let suspended = error(ErrorKind::Rejected).with_hub_code("com.microsoft:iot-hub-suspended");
        assert!(!doubts.is_final(1, &suspended));
    }

    #[test]
    fn a_doubtful_refusal_takes_it_out_when_it_comes_again_and_again() {
        let mut doubts = Doubts::default();
        let error = error(ErrorKind::Protocol);
        let answers: Vec<_> = [7, 7, 7, 8, 7, 7, 7, 7, 7].map(|at| doubts.is_final(at, &error)).into();
        assert_eq!(answers, [false, false, false, false, false, false, false, false, true]);
    }
}
