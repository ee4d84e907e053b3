//! One identity on a connection: its token, its session, what it does there, and how it is doing.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use iothub_amqp::{
    client::{TokenEvent, Tokens, link_error},
    proto::{AttachOptions, Connection, Event, LinkId, SessionId},
};
use iothub_common::{Error, ErrorKind, Identity, ReconnectPolicy, Result, Subject, Token};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    asks::Asks,
    command::{Command, Key},
    proof::{Proof, Shown},
    recovery::is_final,
};
use crate::{
    client::{Settings, closed_error},
    features::{Features, Up, is_displaced},
    measure,
    status::ConnectionStatus,
};

/// A session that lived this long counts as established: what comes after is a new series of attempts.
const ESTABLISHED_AFTER: Duration = Duration::from_secs(30);
/// How long the hub may take to let somebody with a certificate in.
const PROOF_LIMIT: Duration = Duration::from_secs(20);

/// Takeovers by another client within [`DISPLACED_WITHIN`] before this one gives way for good.
const MAX_DISPLACED: usize = 5;
const DISPLACED_WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Member {
    pub(super) identity: Identity,
    model_id: Option<String>,
    proof: Proof,
    status: watch::Sender<ConnectionStatus>,
    /// Cancelled once nothing of this identity is on the connection any more.
    pub(super) done: CancellationToken,
    phase: Phase,
    /// Failures since it was last established.
    failures: u32,
    retry: Arc<dyn ReconnectPolicy>,
    /// When another client took over, lately.
    displaced: VecDeque<Instant>,
    trouble: Option<Error>,
    /// The time that the actor's timer has for this member.
    pub(super) scheduled: Option<Instant>,
    features: Features,
    presence: measure::Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection.
    Offline,
    /// The token is on its way, or the provider is asked for one.
    Authorizing,
    /// TLS has shown the certificate; the hub says what it makes of it when a link is asked for (amqp.md 1.2).
    Proving {
        session: SessionId,
        link: LinkId,
        until: Instant,
    },
    Up {
        session: SessionId,
        since: Instant,
    },
    /// The connection is fine, this identity is not: its token is shown again then.
    Waiting {
        until: Instant,
    },
}

/// What a member needs of the connection to prove who it is.
pub(super) struct Access<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) tokens: &'a mut Tokens,
    pub(super) asks: &'a mut Asks,
    pub(super) new_links: &'a mut Vec<LinkId>,
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
        settings: Settings,
        status: watch::Sender<ConnectionStatus>,
        done: CancellationToken,
    ) -> Self {
        let Settings { identity, hub, credentials, retry, prefetch, model_id, .. } = settings;
        Self {
            proof: Proof::new(credentials, &identity, &hub),
            model_id,
            status,
            done,
            phase: Phase::Offline,
            failures: 0,
            retry,
            displaced: VecDeque::new(),
            trouble: None,
            scheduled: None,
            features: Features::new(&identity, prefetch),
            identity,
            presence: measure::Presence::new(),
        }
    }

    pub(super) fn take(&mut self, command: Command) {
        self.features.take(command);
    }

    /// A connection is there: shows the token, or lets a link show what the certificate is worth. Returns the
    /// session to route here, if one was begun.
    pub(super) fn authorize(&mut self, key: Key, wire: &mut Access<'_>) -> Result<Option<SessionId>, Fate> {
        self.phase = Phase::Authorizing;
        match self.proof.show(key, wire.connection, wire.tokens, wire.asks) {
            Ok(Shown::Asked) => Ok(None),
            Ok(Shown::Certificate) => self.prove(wire).map(Some),
            Err(error) => Err(Fate::Ends(error)),
        }
    }

    /// The token is to be renewed, or was not answered.
    pub(super) fn renew(&mut self, due: iothub_amqp::client::Due, wire: &mut Access<'_>) -> Fate {
        tracing::debug!(identity = %self.identity, "renewing the token");
        match self.proof.renew(due, wire.connection, wire.tokens, wire.asks) {
            Ok(()) => Fate::Stays,
            Err(error) => Fate::Ends(error),
        }
    }

    /// The provider's answer. It is kept without a connection too.
    pub(super) fn on_provided(
        &mut self,
        key: Key,
        answer: Result<Token>,
        wire: Option<&mut Access<'_>>,
    ) -> Fate {
        let kept = self.proof.provided(answer);
        let Some(wire) = wire else { return Fate::Stays };
        match (self.phase, kept) {
            (Phase::Authorizing | Phase::Up { .. }, Ok(())) => {
                match self.proof.show(key, wire.connection, wire.tokens, wire.asks) {
                    Ok(_) => Fate::Stays,
                    Err(error) => Fate::Ends(error),
                }
            }
            (Phase::Authorizing, Err(error)) if !self.proof.has_token() => {
                self.failed(wire.connection, error)
            }
            (_, Err(error)) => {
                tracing::warn!(identity = %self.identity, %error, "no new token yet, trying again");
                Fate::Stays
            }
            (_, Ok(())) => Fate::Stays,
        }
    }

    /// Asks for a link that it has no other use for.
    fn prove(&mut self, wire: &mut Access<'_>) -> Result<SessionId, Fate> {
        let name = format!("proof-{}", uuid::Uuid::new_v4());
        let options = AttachOptions::sender(name, self.identity.amqp_path("messages/events"));
        let begun = wire.connection.begin();
        let asked = begun.and_then(|session| Some((session, wire.connection.attach(session, options)?)));
        let Some((session, link)) = asked else { return Err(self.no_session(wire.connection)) };
        wire.new_links.push(link);
        self.phase = Phase::Proving { session, link, until: Instant::now() + PROOF_LIMIT };
        Ok(session)
    }

    /// An event of the link that proves. Credit, not the attach alone, says that the hub has agreed.
    fn on_proof(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        session: SessionId,
        proof: LinkId,
    ) -> Fate {
        match event {
            Event::Credit { link } if *link == proof => {
                connection.detach(proof, None);
                self.up(session);
                Fate::Stays
            }
            Event::Detached { link, error } if *link == proof => {
                let error = link_error(error.as_ref(), &Subject::from(&self.identity));
                let error = self.proof.explain(error, &self.identity);
                self.failed(connection, error)
            }
            _ => Fate::Stays,
        }
    }

    fn no_session(&mut self, connection: &mut Connection) -> Fate {
        let error = Error::new(ErrorKind::QuotaExceeded, "the hub allows no more sessions on a connection");
        self.failed(connection, error)
    }

    fn up(&mut self, session: SessionId) {
        self.phase = Phase::Up { session, since: Instant::now() };
        self.trouble = None;
        self.presence.up();
        self.status.send_replace(ConnectionStatus::Connected);
        tracing::info!(identity = %self.identity, "connected");
    }

    /// The hub answered to a token. Returns the session to route here, if one was begun.
    pub(super) fn on_token(
        &mut self,
        connection: &mut Connection,
        event: &TokenEvent,
    ) -> Result<Option<SessionId>, Fate> {
        if let TokenEvent::Refused { status, description, .. } = event {
            let error = TokenEvent::refusal(*status, description, &Subject::from(&self.identity));
            // An old token of a provider: it is asked for a new one after a pause.
            let old = self.proof.refused();
            if self.phase != Phase::Authorizing {
                measure::token_refused();
            }
            return Err(if old { self.pause(connection, error) } else { self.failed(connection, error) });
        }
        self.proof.accepted();
        if self.phase != Phase::Authorizing {
            // A renewal: nobody notices.
            measure::token_renewed();
            return Ok(None);
        }
        let Some(session) = connection.begin() else { return Err(self.no_session(connection)) };
        self.up(session);
        Ok(Some(session))
    }

    /// An event of one of its links.
    pub(super) fn on_event(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        new_links: &mut Vec<LinkId>,
    ) -> Fate {
        if let Phase::Proving { session, link, .. } = self.phase {
            return self.on_proof(connection, event, session, link);
        }
        let Phase::Up { session, .. } = self.phase else { return Fate::Stays };
        let model_id = self.model_id.as_deref();
        let up = &mut Up { connection, session, identity: &self.identity, model_id, new_links };
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
            Phase::Up { session, .. } | Phase::Proving { session, .. } if session == *ended => {
                let error = link_error(error.as_ref(), &Subject::from(&self.identity));
                self.failed(connection, error)
            }
            _ => Fate::Stays,
        }
    }

    /// Starts whatever can be started.
    pub(super) fn pump(&mut self, connection: &mut Connection, new_links: &mut Vec<LinkId>) {
        let Phase::Up { session, .. } = self.phase else { return };
        let model_id = self.model_id.as_deref();
        let up = &mut Up { connection, session, identity: &self.identity, model_id, new_links };
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
            let model_id = self.model_id.as_deref();
            let up = &mut Up { connection, session, identity: &self.identity, model_id, new_links };
            what(&mut self.features, up);
        }
    }

    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let waiting = match self.phase {
            Phase::Waiting { until } | Phase::Proving { until, .. } => Some(until),
            _ => None,
        };
        // Without a connection there is nothing to prove.
        let proof = self.proof.next_deadline().filter(|_| self.phase != Phase::Offline);
        [waiting, proof, self.features.next_deadline()].into_iter().flatten().min()
    }

    /// Ends calls whose time is up, connected or not.
    pub(super) fn expire(&mut self, now: Instant) {
        self.features.expire(now, self.trouble.as_ref());
    }

    /// Does what is due on a connection that is up. Returns the session to route here, if one was begun.
    pub(super) fn on_timer(
        &mut self,
        key: Key,
        wire: &mut Access<'_>,
        now: Instant,
    ) -> Result<Option<SessionId>, Fate> {
        self.expire(now);
        self.proof.on_timer(key, wire.asks, now);
        match self.phase {
            Phase::Waiting { until } if until <= now => return self.authorize(key, wire),
            Phase::Proving { until, .. } if until <= now => {
                let error = Error::new(ErrorKind::Timeout, "the hub does not say whether it lets us in");
                return Err(self.failed(wire.connection, error));
            }
            Phase::Up { session, .. } => {
                let connection = &mut *wire.connection;
                let (model_id, new_links) = (self.model_id.as_deref(), &mut *wire.new_links);
                let up = &mut Up { connection, session, identity: &self.identity, model_id, new_links };
                if let Err(error) = self.features.on_timer(up, now) {
                    return Err(self.failed(wire.connection, error));
                }
            }
            _ => {}
        }
        Ok(None)
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
        self.presence.down(error.as_ref());
        self.status.send_replace(ConnectionStatus::Closed { error: error.clone() });
        let error = error.unwrap_or_else(closed_error);
        self.features.finish(&error);
        match (connection, self.phase) {
            (Some(connection), Phase::Up { session, .. } | Phase::Proving { session, .. }) => {
                connection.end(session, None);
                Some(session)
            }
            _ => None,
        }
    }

    /// Something went wrong with this identity alone: its token is shown again after a pause, unless the hub
    /// has refused it for good.
    fn failed(&mut self, connection: &mut Connection, error: Error) -> Fate {
        // Links that are refused may only mean an old token; the answer to a new one decides.
        if !matches!(self.phase, Phase::Up { .. }) && is_final(&error, true) {
            self.lose_session(connection, &error);
            return Fate::Ends(error);
        }
        self.pause(connection, error)
    }

    fn lose_session(&mut self, connection: &mut Connection, error: &Error) {
        if let Phase::Up { session, .. } | Phase::Proving { session, .. } = self.phase {
            connection.end(session, None);
        }
        if let Phase::Up { since, .. } = self.phase
            && since.elapsed() >= ESTABLISHED_AFTER
        {
            self.failures = 0;
        }
        self.phase = Phase::Authorizing;
        self.features.session_lost(error);
    }

    /// Its token is shown again after a while, or nothing more is tried.
    fn pause(&mut self, connection: &mut Connection, error: Error) -> Fate {
        self.lose_session(connection, &error);
        if is_displaced(&error) && self.displaced_too_often() {
            return Fate::Ends(error.context(format!(
                "other clients connected as {} took over {MAX_DISPLACED} times within {DISPLACED_WITHIN:?}; \
                 give each client an identity of its own",
                self.identity
            )));
        }
        self.failures += 1;
        let Some(wait) = self.retry.next_try(self.failures, &error) else { return Fate::Ends(error) };
        self.phase = Phase::Waiting { until: Instant::now() + wait };
        self.retrying(self.failures, wait, error);
        Fate::Stays
    }

    fn displaced_too_often(&mut self) -> bool {
        let now = Instant::now();
        self.displaced.retain(|at| now.duration_since(*at) < DISPLACED_WITHIN);
        self.displaced.push_back(now);
        self.displaced.len() >= MAX_DISPLACED
    }

    fn retrying(&mut self, attempt: u32, wait: Duration, error: Error) {
        tracing::warn!(identity = %self.identity, attempt, ?wait, %error, "not connected, trying again");
        self.presence.down(Some(&error));
        self.trouble = Some(error.clone());
        let next_try = wait;
        self.status.send_replace(if is_displaced(&error) {
            ConnectionStatus::Displaced { next_try, error }
        } else {
            ConnectionStatus::Retrying { attempt, next_try, error }
        });
    }
}
