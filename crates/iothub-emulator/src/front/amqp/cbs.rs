//! `$cbs`: tokens (amqp.md 2).

use std::collections::VecDeque;

use bytes::Bytes;
use iothub_amqp::cbs::{self, PutToken};
use iothub_amqp::message::Message;
use iothub_amqp::proto::{AcceptOptions, Connection, Credit, Delivery, LinkId, Outgoing, SessionId};
use iothub_amqp::types::messaging::{Accepted, DeliveryState};
use iothub_common::Secret;

use super::grants::Held;
use super::peer::Peer;
use super::refusal::Refusal;
use crate::hub::{ErrorCode, HubError, TokenFault, Who};

/// `$cbs` links of a connection, both directions; no client has more than two.
const MAX_LINKS: usize = 8;
/// Answers that wait for a receiver, its credit or its settling.
const MAX_WAITING: usize = 1000;
/// Compared without regard to case (amqp.md 2.2).
const TOKEN_TYPES: [&str; 2] = ["servicebus.windows.net:sastoken", "azure-devices.net:sastoken"];

/// How the hub answers a `$cbs` attach, seen from the real one (amqp.md 1.4).
pub(super) const OPTIONS: AcceptOptions =
    AcceptOptions { credit: Credit::Auto(100), max_message_size: 1_048_576, properties: None };

/// The `$cbs` links of a connection.
#[derive(Debug, Default)]
pub(super) struct Cbs {
    links: usize,
    /// Where answers go.
    answers: Vec<(SessionId, LinkId)>,
    /// Answers from before there was a link for them.
    early: VecDeque<Bytes>,
    /// Answers without an outcome yet.
    unsettled: usize,
}

impl Cbs {
    pub(super) fn add(
        &mut self,
        link: LinkId,
        session: SessionId,
        client_sends: bool,
    ) -> Result<(), Refusal> {
        if self.links >= MAX_LINKS {
            return Err(Refusal::too_many(format!("A connection has at most {MAX_LINKS} $cbs links.")));
        }
        self.links += 1;
        if !client_sends {
            self.answers.push((session, link));
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        self.links = self.links.saturating_sub(1);
        self.answers.retain(|(_, answers)| *answers != link);
    }

    /// Once a receiver is there.
    pub(super) fn send_early(&mut self, engine: &mut Connection) {
        let Some((_, link)) = self.answers.last().copied() else { return };
        for payload in std::mem::take(&mut self.early) {
            self.send(engine, link, payload);
        }
    }

    /// One answer had its outcome.
    pub(super) fn settled(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }

    fn is_full(&self) -> bool {
        self.unsettled + self.early.len() >= MAX_WAITING
    }

    /// Answers on the session the request came on, where a receiver is there, else on the newest receiver: reply-to
    /// names nothing (amqp.md 2.2).
    fn answer(&mut self, engine: &mut Connection, session: SessionId, payload: Bytes) {
        let same = self.answers.iter().rev().find(|(of, _)| *of == session);
        match same.or(self.answers.last()).copied() {
            Some((_, link)) => self.send(engine, link, payload),
            None => self.early.push_back(payload),
        }
    }

    /// Unsettled, with the engine's counter as tag: so does the real hub (amqp.md 2.4).
    fn send(&mut self, engine: &mut Connection, link: LinkId, payload: Bytes) {
        if engine.send(link, Outgoing { payload, format: 0, tag: None, settled: false, token: 0 }) {
            self.unsettled += 1;
        }
    }
}

impl Peer {
    pub(super) fn on_put_token(&mut self, engine: &mut Connection, session: SessionId, request: &Delivery) {
        if self.cbs.is_full() {
            let refusal = Refusal::too_many("Too many $cbs answers wait for a receiver that takes them.");
            return self.detach(engine, request.link, &refusal);
        }
        let message = match read(request) {
            Ok(message) => message,
            Err(refusal) if request.settled => return self.detach(engine, request.link, &refusal),
            Err(refusal) => {
                engine.dispose(request.link, request.id, refusal.to_outcome(self.hub.now()), true);
                return;
            }
        };
        if !request.settled {
            // Whatever the token is worth: this only says that the request arrived (amqp.md 2.4).
            engine.dispose(request.link, request.id, DeliveryState::Accepted(Accepted {}), true);
        }
        let known_type = has_known_type(&message);
        let put = PutToken::from_message(message);
        let done = self.put_token(put.token.map(Secret::from), known_type);
        let tally = self.hub.tally();
        let count =
            if matches!(done, Ok(None)) { &tally.put_tokens_accepted } else { &tally.put_tokens_refused };
        count.add(1);
        let (status, text) = match &done {
            Ok(None) => (200, "OK"),
            Ok(Some(TokenFault::Refuse(status))) => (i32::from(*status), "As asked for by a fault rule."),
            Ok(Some(TokenFault::Swallow)) => return,
            Err(error) => (i32::from(error.status), error.text.as_str()),
        };
        let answer = cbs::reply(put.message_id, status, text).encode();
        self.cbs.answer(engine, session, answer);
        self.wind_alarm();
    }

    /// Takes a token, or not on purpose.
    fn put_token(&mut self, token: Option<Secret>, known_type: bool) -> Result<Option<TokenFault>, HubError> {
        let malformed = |text: &str| HubError::new(ErrorCode::GenericBadRequest, text);
        let Some(token) = token else {
            return Err(malformed(
                "The request is no put-token: it needs the application properties operation (put-token), type \
                 and name, and the token as its text value.",
            ));
        };
        if !known_type {
            return Err(malformed("The token type is not supported; SAS tokens are."));
        }
        let grant = self.hub.check_token(token.reveal())?;
        let identity = if let Who::Identity(identity) = &grant.who { Some(identity) } else { None };
        if let Some(fault) = self.hub.faults().token(identity) {
            return Ok(Some(fault));
        }
        self.grants.put(Held { grant, token, only: None })?;
        Ok(None)
    }
}

fn read(request: &Delivery) -> Result<Message, Refusal> {
    if request.oversized {
        return Err(Refusal::too_large("The put-token request is too large."));
    }
    Message::decode(&request.payload)
        .map_err(|error| Refusal::undecodable(format!("The put-token request cannot be read: {error}")))
}

fn has_known_type(message: &Message) -> bool {
    let kind = message.application_text("type").unwrap_or_default();
    TOKEN_TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind))
}
