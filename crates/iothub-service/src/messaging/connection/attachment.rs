//! One link that is wanted again whenever it is lost: when to ask for it, and when to stop. No I/O.

use std::time::Duration;

use iothub_amqp::proto::LinkId;
use iothub_common::{Backoff, Error, ErrorKind, RetryPolicy};
use tokio::time::Instant;

/// How long the hub may take to answer an attach.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);
/// A link that was up this long worked: what comes after is a new series of attempts.
const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// The condition of a link that somebody else has now.
pub(super) const STOLEN: &str = "amqp:link:stolen";

#[derive(Debug)]
pub(super) struct Attachment {
    state: State,
    backoff: Backoff,
    /// It was up once.
    was_up: bool,
    /// It was refused for its token, and a new one was shown.
    refused: bool,
}

#[derive(Debug)]
enum State {
    Down { not_before: Option<Instant> },
    Attaching { link: LinkId, give_up_at: Instant },
    Up { link: LinkId, since: Instant },
}

/// What to do about a link that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for it again when [`Attachment::may_attach`] says so.
    Again,
    /// The same, and show a token before: the last one may have ended.
    NewToken,
    /// Asking again is of no use.
    Never,
}

impl Attachment {
    pub(super) fn new(policy: &RetryPolicy) -> Self {
        let state = State::Down { not_before: None };
        Self { state, backoff: policy.backoff(), was_up: false, refused: false }
    }

    pub(super) fn may_attach(&self, now: Instant) -> bool {
        matches!(self.state, State::Down { not_before } if not_before.is_none_or(|at| at <= now))
    }

    /// It was asked for.
    pub(super) fn attaching(&mut self, link: LinkId, now: Instant) {
        self.state = State::Attaching { link, give_up_at: now + ATTACH_LIMIT };
    }

    /// It was granted.
    pub(super) fn up(&mut self, link: LinkId, now: Instant) {
        self.was_up = true;
        self.state = State::Up { link, since: now };
    }

    /// Something came of it.
    pub(super) fn works(&mut self) {
        self.refused = false;
        self.backoff.reset();
    }

    /// The link, asked for or up.
    pub(super) fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Attaching { link, .. } | State::Up { link, .. } => Some(link),
            State::Down { .. } => None,
        }
    }

    /// The link, up.
    pub(super) fn ready(&self) -> Option<LinkId> {
        match self.state {
            State::Up { link, .. } => Some(link),
            _ => None,
        }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Down { not_before } => not_before,
            State::Attaching { give_up_at, .. } => Some(give_up_at),
            State::Up { .. } => None,
        }
    }

    /// Whether the hub has not answered in time.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        matches!(self.state, State::Attaching { give_up_at, .. } if give_up_at <= now)
    }

    /// The connection is gone; on the next one it may be asked for at once.
    pub(super) fn disconnected(&mut self) {
        self.state = State::Down { not_before: None };
    }

    /// The hub ended or refused it.
    pub(super) fn lost(&mut self, condition: Option<&str>, error: &Error, now: Instant) -> Next {
        if matches!(self.state, State::Up { since, .. } if now >= since + PROVEN_AFTER) {
            self.works();
        }
        self.state = State::Down { not_before: None };
        let next = self.judge(condition, error);
        if next == Next::Never {
            return next;
        }
        let Some(wait) = self.backoff.next() else { return Next::Never };
        self.state = State::Down { not_before: Some(now + wait) };
        next
    }

    fn judge(&mut self, condition: Option<&str>, error: &Error) -> Next {
        // Somebody else has it now. To take it back would start a fight (amqp.md 5.7, 8).
        if condition == Some(STOLEN) {
            return Next::Never;
        }
        match error.kind() {
            ErrorKind::Unauthorized if self.refused => Next::Never,
            ErrorKind::Unauthorized => {
                self.refused = true;
                Next::NewToken
            }
            // After a loss the hub may count the link that was lost for a while.
            ErrorKind::QuotaExceeded if self.was_up => Next::Again,
            ErrorKind::NotFound
            | ErrorKind::InvalidInput
            | ErrorKind::Rejected
            | ErrorKind::QuotaExceeded
            | ErrorKind::PreconditionFailed => Next::Never,
            _ => Next::Again,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_amqp::proto::{Config, Connection, Side};

    use super::*;

    fn link() -> LinkId {
        let mut connection = Connection::new(Side::Client, Config::new("test"), std::time::Instant::now());
        let session = connection.begin().unwrap();
        connection.attach(session, iothub_amqp::proto::AttachOptions::sender("s", "a")).unwrap()
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "test")
    }

    fn up(now: Instant) -> Attachment {
        let mut attachment = Attachment::new(&RetryPolicy::default());
        attachment.attaching(link(), now);
        attachment.up(link(), now);
        attachment
    }

    /// (what the hub said, what to do when the link was never up, what to do when it was).
    const TABLE: &[(ErrorKind, Next, Next)] = &[
        (ErrorKind::Unavailable, Next::Again, Next::Again),
        (ErrorKind::Throttled, Next::Again, Next::Again),
        (ErrorKind::Timeout, Next::Again, Next::Again),
        (ErrorKind::Protocol, Next::Again, Next::Again),
        (ErrorKind::Unauthorized, Next::NewToken, Next::NewToken),
        (ErrorKind::QuotaExceeded, Next::Never, Next::Again),
        (ErrorKind::NotFound, Next::Never, Next::Never),
        (ErrorKind::InvalidInput, Next::Never, Next::Never),
        (ErrorKind::Rejected, Next::Never, Next::Never),
    ];

    #[test]
    fn what_is_asked_for_again() {
        let now = Instant::now();
        for &(kind, never_up, was_up) in TABLE {
            let mut fresh = Attachment::new(&RetryPolicy::default());
            fresh.attaching(link(), now);
            assert_eq!(fresh.lost(None, &error(kind), now), never_up, "{kind:?}");
            assert_eq!(up(now).lost(None, &error(kind), now), was_up, "{kind:?}");
        }
    }

    #[test]
    fn a_stolen_link_is_left_to_the_thief() {
        let now = Instant::now();
        let next = up(now).lost(Some(STOLEN), &error(ErrorKind::Unavailable), now);
        assert_eq!(next, Next::Never);
    }

    #[test]
    fn a_new_token_is_tried_once_and_again_after_it_has_worked() {
        let now = Instant::now();
        let unauthorized = error(ErrorKind::Unauthorized);
        let mut attachment = up(now);
        assert_eq!(attachment.lost(None, &unauthorized, now), Next::NewToken);
        attachment.attaching(link(), now);
        assert_eq!(attachment.lost(None, &unauthorized, now), Next::Never);

        for worked in [|a: &mut Attachment, _| a.works(), |a: &mut Attachment, now| a.up(link(), now)] {
            let mut attachment = up(now);
            attachment.lost(None, &unauthorized, now);
            worked(&mut attachment, now);
            let later = now + PROVEN_AFTER;
            assert_eq!(attachment.lost(None, &unauthorized, later), Next::NewToken);
        }
    }

    #[test]
    fn pauses_grow_until_something_works_and_a_new_connection_has_none() {
        let policy = RetryPolicy { max_retries: Some(2), ..RetryPolicy::default() };
        let now = Instant::now();
        let away = error(ErrorKind::Unavailable);
        let mut attachment = Attachment::new(&policy);
        assert!(attachment.may_attach(now));
        assert_eq!(attachment.lost(None, &away, now), Next::Again);
        let at = attachment.deadline().unwrap();
        assert!(at <= now + policy.initial && attachment.may_attach(at));
        attachment.disconnected();
        assert!(attachment.may_attach(now) && attachment.deadline().is_none());
        assert_eq!(attachment.lost(None, &away, now), Next::Again);
        assert_eq!(attachment.lost(None, &away, now), Next::Never, "the policy allows two");
        attachment.works();
        assert_eq!(attachment.lost(None, &away, now), Next::Again);
    }

    #[test]
    fn an_attach_that_is_not_answered_is_late() {
        let now = Instant::now();
        let mut attachment = Attachment::new(&RetryPolicy::default());
        attachment.attaching(link(), now);
        assert!(attachment.ready().is_none() && !attachment.may_attach(now));
        let at = attachment.deadline().unwrap();
        assert!(!attachment.is_late(now) && attachment.is_late(at));
        attachment.up(link(), now);
        assert!(attachment.ready().is_some() && !attachment.is_late(at));
    }
}
