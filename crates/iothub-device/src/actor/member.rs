//! One identity on a connection: its token, its session, what it does there, and how it is doing.

use std::time::Duration;

use iothub_amqp::{
    client::{TokenEvent, Tokens, link_error},
    proto::{Connection, Event, LinkId, SessionId},
};
use iothub_common::{Backoff, Error, ErrorKind, Identity, Result, RetryPolicy, Subject, TokenSource};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::command::{Command, Key};
use crate::{
    client::closed_error,
    features::{Features, Up},
    status::ConnectionStatus,
};

/// A session that lived this long counts as established: what comes after is a new series of attempts.
const ESTABLISHED_AFTER: Duration = Duration::from_secs(30);

pub(crate) struct Member {
    pub(super) identity: Identity,
    audience: String,
    tokens: TokenSource,
    status: watch::Sender<ConnectionStatus>,
    /// Cancelled once nothing of this identity is on the connection any more.
    pub(super) done: CancellationToken,
    phase: Phase,
    attempt: u32,
    backoff: Backoff,
    trouble: Option<Error>,
    /// The time that the actor's timer has for this member.
    pub(super) scheduled: Option<Instant>,
    features: Features,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection.
    Offline,
    /// The token is on its way.
    Authorizing,
    Up {
        session: SessionId,
        since: Instant,
    },
    /// The connection is fine, this identity is not: its token is shown again then.
    Waiting {
        until: Instant,
    },
}

/// What is to become of a member after something went wrong with it.
#[derive(Debug)]
pub(super) enum Fate {
    Stays,
    /// Nothing helps; it is told and leaves.
    Ends(Error),
}

impl Member {
    pub(crate) fn new(
        identity: Identity,
        hub: &str,
        tokens: TokenSource,
        retry: &RetryPolicy,
        status: watch::Sender<ConnectionStatus>,
        done: CancellationToken,
        prefetch: u32,
    ) -> Self {
        Self {
            audience: identity.audience(hub),
            tokens,
            status,
            done,
            phase: Phase::Offline,
            attempt: 0,
            backoff: retry.backoff(),
            trouble: None,
            scheduled: None,
            features: Features::new(&identity, prefetch),
            identity,
        }
    }

    pub(super) fn take(&mut self, command: Command) {
        self.features.take(command);
    }

    /// A connection is there: shows the token.
    pub(super) fn authorize(&mut self, key: Key, connection: &mut Connection, tokens: &mut Tokens) -> Fate {
        self.phase = Phase::Authorizing;
        match tokens.put(connection, key, &self.tokens, &self.audience) {
            Ok(()) => Fate::Stays,
            Err(error) => Fate::Ends(error),
        }
    }

    /// The token is to be renewed, or was not answered.
    pub(super) fn renew(
        &mut self,
        due: iothub_amqp::client::Due,
        connection: &mut Connection,
        tokens: &mut Tokens,
    ) -> Fate {
        tracing::debug!(identity = %self.identity, "renewing the token");
        match tokens.send(connection, due, &self.tokens, &self.audience) {
            Ok(()) => Fate::Stays,
            Err(error) => Fate::Ends(error),
        }
    }

    /// The hub answered to a token. Returns the session to route here, if one was begun.
    pub(super) fn on_token(
        &mut self,
        connection: &mut Connection,
        event: &TokenEvent,
    ) -> Result<Option<SessionId>, Fate> {
        if let TokenEvent::Refused { status, description, .. } = event {
            let error = TokenEvent::refusal(*status, description, &Subject::from(&self.identity));
            return Err(self.failed(connection, error));
        }
        if self.phase != Phase::Authorizing {
            // A renewal: nobody notices.
            return Ok(None);
        }
        let Some(session) = connection.begin() else {
            let error =
                Error::new(ErrorKind::QuotaExceeded, "the hub allows no more sessions on a connection");
            return Err(self.failed(connection, error));
        };
        self.phase = Phase::Up { session, since: Instant::now() };
        self.trouble = None;
        self.status.send_replace(ConnectionStatus::Connected);
        tracing::info!(identity = %self.identity, "connected");
        Ok(Some(session))
    }

    /// An event of one of its links.
    pub(super) fn on_event(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        new_links: &mut Vec<LinkId>,
    ) -> Fate {
        let Phase::Up { session, .. } = self.phase else { return Fate::Stays };
        let up = &mut Up { connection, session, identity: &self.identity, new_links };
        let result = self.features.on_event(up, event);
        match result {
            Ok(_) => Fate::Stays,
            Err(error) => self.failed(connection, error),
        }
    }

    /// Its session is gone, by the hub's will.
    pub(super) fn on_session_ended(&mut self, connection: &mut Connection, event: &Event) -> Fate {
        let Event::Ended { session: ended, error, .. } = event else { return Fate::Stays };
        match self.phase {
            Phase::Up { session, .. } if session == *ended => {
                let error = link_error(error.as_ref(), &Subject::from(&self.identity));
                self.failed(connection, error)
            }
            _ => Fate::Stays,
        }
    }

    /// Starts whatever can be started.
    pub(super) fn pump(&mut self, connection: &mut Connection, new_links: &mut Vec<LinkId>) {
        let Phase::Up { session, .. } = self.phase else { return };
        let up = &mut Up { connection, session, identity: &self.identity, new_links };
        self.features.pump(up);
    }

    /// Lets a feature do something on the session, if there is one.
    pub(super) fn with_up(
        &mut self,
        connection: &mut Connection,
        new_links: &mut Vec<LinkId>,
        what: impl FnOnce(&mut Features, &mut Up<'_>),
    ) {
        if let Phase::Up { session, .. } = self.phase {
            let up = &mut Up { connection, session, identity: &self.identity, new_links };
            what(&mut self.features, up);
        }
    }

    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let waiting = match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        };
        [waiting, self.features.next_deadline()].into_iter().flatten().min()
    }

    /// Ends calls whose time is up, connected or not.
    pub(super) fn expire(&mut self, now: Instant) {
        self.features.expire(now, self.trouble.as_ref());
    }

    /// Does what is due on a connection that is up.
    pub(super) fn on_timer(
        &mut self,
        key: Key,
        connection: &mut Connection,
        tokens: &mut Tokens,
        new_links: &mut Vec<LinkId>,
        now: Instant,
    ) -> Fate {
        self.expire(now);
        match self.phase {
            Phase::Waiting { until } if until <= now => self.authorize(key, connection, tokens),
            Phase::Up { session, .. } => {
                let up = &mut Up { connection, session, identity: &self.identity, new_links };
                match self.features.on_timer(up, now) {
                    Ok(()) => Fate::Stays,
                    Err(error) => self.failed(connection, error),
                }
            }
            _ => Fate::Stays,
        }
    }

    /// The connection is gone. The next attempt begins after `wait`.
    pub(super) fn connection_lost(&mut self, attempt: u32, wait: Duration, error: &Error) {
        self.features.session_lost(error);
        self.phase = Phase::Offline;
        self.retrying(attempt, wait, error.clone());
    }

    /// The end: calls and streams are told, the session ends. Returns it, to be waited for.
    pub(super) fn finish(
        &mut self,
        connection: Option<&mut Connection>,
        error: Option<Error>,
    ) -> Option<SessionId> {
        match &error {
            Some(error) => tracing::warn!(identity = %self.identity, %error, "gave up"),
            None => tracing::debug!(identity = %self.identity, "closed"),
        }
        self.status.send_replace(ConnectionStatus::Closed { error: error.clone() });
        let error = error.unwrap_or_else(closed_error);
        self.features.finish(&error);
        match (connection, self.phase) {
            (Some(connection), Phase::Up { session, .. }) => {
                connection.end(session, None);
                Some(session)
            }
            _ => None,
        }
    }

    /// Something went wrong with this identity alone: its token is shown again after a pause, unless the hub
    /// has refused it for good.
    fn failed(&mut self, connection: &mut Connection, error: Error) -> Fate {
        let was_up = matches!(self.phase, Phase::Up { .. });
        if let Phase::Up { session, since } = self.phase {
            connection.end(session, None);
            if since.elapsed() >= ESTABLISHED_AFTER {
                self.backoff.reset();
                self.attempt = 0;
            }
        }
        self.features.session_lost(&error);
        // Links that are refused may only mean an old token; the answer to a new one decides.
        if !was_up && is_final(&error, true) {
            return Fate::Ends(error);
        }
        let Some(wait) = self.backoff.next() else { return Fate::Ends(error) };
        self.phase = Phase::Waiting { until: Instant::now() + wait };
        self.attempt += 1;
        self.retrying(self.attempt, wait, error);
        Fate::Stays
    }

    fn retrying(&mut self, attempt: u32, wait: Duration, error: Error) {
        tracing::warn!(identity = %self.identity, attempt, ?wait, %error, "not connected, trying again");
        self.trouble = Some(error.clone());
        self.status.send_replace(ConnectionStatus::Retrying { attempt, next_try: wait, error });
    }
}

/// Whether trying again is of no use. A certificate that was fine before may be so again.
pub(super) fn is_final(error: &Error, was_connected: bool) -> bool {
    match error.kind() {
        ErrorKind::Unauthorized | ErrorKind::NotFound | ErrorKind::InvalidInput => true,
        ErrorKind::Certificate => !was_connected,
        _ => false,
    }
}
