//! Put-token for any number of identities on one connection: first, renewed, answered.
//!
//! Renewal is another put-token on the same links; the identity's own links stay as they are (amqp.md 2.5).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::{Duration, SystemTime},
};

use iothub_common::{Error, ErrorKind, Result, Subject, TokenSource, error::error_from_twin_status};
use tokio::time::Instant;

use super::{
    endpoint::link_error,
    pair::{Change, Pair},
};
use crate::{
    cbs,
    message::Message,
    proto::{Connection, Event, SessionId},
    types::messaging::MessageId,
};

/// The hub's answer to a token, before it is sent once more.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A token is shown again after this time though it is good for longer: clocks cannot count to the end of some.
const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
/// The token links lost one after the other, before the connection is given up.
const MAX_FAILURES: u32 = 5;

/// What came of a token.
#[derive(Debug)]
pub enum TokenEvent {
    /// The hub accepted it; the next one will be due by itself.
    Accepted {
        /// Whose.
        key: u64,
    },
    /// The hub refused it.
    Refused {
        /// Whose.
        key: u64,
        /// Status of the answer; the HTTP code, 401 or 404 for instance.
        status: i32,
        /// The hub's words.
        description: String,
    },
}

impl TokenEvent {
    /// The error for a refusal.
    pub fn refusal(status: i32, description: &str, subject: &Subject<'_>) -> Error {
        error_from_twin_status(status, description.as_bytes(), subject)
    }
}

/// The token links of a connection and what is on its way on them. `key` names an identity.
#[derive(Debug)]
pub struct Tokens {
    pair: Pair,
    session: SessionId,
    next_number: u64,
    in_flight: HashMap<u64, Flight>,
    /// Which number is the latest for a key; older answers do not count.
    latest: HashMap<u64, u64>,
    /// When something is to be looked at: a renewal, or an answer that is late.
    alarms: BinaryHeap<Reverse<(Instant, Alarm)>>,
    failures: u32,
}

#[derive(Debug)]
struct Flight {
    key: u64,
    renew_after: Duration,
    second_try: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The token that was accepted under this number is to be renewed.
    Renew { key: u64, number: u64 },
    /// The token of this number should have been answered.
    Late { number: u64 },
}

/// Who is due for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub key: u64,
    second_try: bool,
}

impl Due {
    /// Whether the hub did not answer to the token last shown, rather than that it ends soon.
    pub fn is_second_try(&self) -> bool {
        self.second_try
    }
}

impl Tokens {
    /// Begins a session; the token links are attached with the first token, since who has a certificate shows none
    /// (amqp.md 1.2). `None` when the hub allows no session.
    pub fn new(connection: &mut Connection) -> Option<Self> {
        Some(Self {
            pair: Pair::new(cbs::ADDRESS),
            session: connection.begin()?,
            next_number: 0,
            in_flight: HashMap::new(),
            latest: HashMap::new(),
            alarms: BinaryHeap::new(),
            failures: 0,
        })
    }

    /// The session of the token links.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Shows a token for the first time, or anew. Single-flight: a later one replaces an earlier one.
    ///
    /// # Errors
    ///
    /// Those of the token source, such as a ready-made token that has expired.
    pub fn put(
        &mut self,
        connection: &mut Connection,
        key: u64,
        source: &TokenSource,
        audience: &str,
    ) -> Result<()> {
        self.send(connection, Due { key, second_try: false }, source, audience)
    }

    /// Shows a token that [`Tokens::on_timer`] said is due.
    ///
    /// # Errors
    ///
    /// As [`Tokens::put`].
    pub fn send(
        &mut self,
        connection: &mut Connection,
        due: Due,
        source: &TokenSource,
        audience: &str,
    ) -> Result<()> {
        let now = SystemTime::now();
        let token = source.token(now)?;
        if self.pair.is_down() {
            self.pair.attach(connection, self.session, false, None);
        }
        let number = self.next_number;
        self.next_number += 1;
        if let Some(old) = self.latest.insert(due.key, number) {
            self.in_flight.remove(&old);
        }
        let renew_after = token.renew_at.duration_since(now).unwrap_or_default().min(LONGEST_USE);
        self.in_flight.insert(number, Flight { key: due.key, renew_after, second_try: due.second_try });
        self.alarms.push(Reverse((Instant::now() + ANSWER_LIMIT, Alarm::Late { number })));
        let request = cbs::put_token(&format!("token-{number}"), audience, token.secret.reveal());
        self.pair.send(connection, request.encode(), false);
        Ok(())
    }

    /// An identity is gone: nothing more about it.
    pub fn forget(&mut self, key: u64) {
        if let Some(number) = self.latest.remove(&key) {
            self.in_flight.remove(&number);
        }
    }

    /// Takes an event if it is about the token links. `None`: it is about something else.
    ///
    /// # Errors
    ///
    /// When the links cannot be kept up and the connection should be given up.
    pub fn on_event(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        subject: &Subject<'_>,
    ) -> Option<Result<Option<TokenEvent>>> {
        match self.pair.on_event(connection, event) {
            Change::Message(reply) => Some(Ok(self.on_reply(&reply))),
            Change::Lost(error) => {
                tracing::info!("the token links were lost");
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    return Some(Err(link_error(error.as_ref(), subject)));
                }
                // Answers on their way are lost: ask again at once.
                let now = Instant::now();
                let late = self.in_flight.keys().map(|n| Reverse((now, Alarm::Late { number: *n })));
                self.alarms.extend(late);
                Some(Ok(None))
            }
            Change::Ready | Change::Noted | Change::Outcome { .. } => Some(Ok(None)),
            Change::None => None,
        }
    }

    /// When [`Tokens::on_timer`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        [alarm, self.pair.deadline()].into_iter().flatten().min()
    }

    /// Who is to show a token now, with [`Tokens::send`].
    ///
    /// # Errors
    ///
    /// When the hub does not answer to a token even the second time, or does not grant the links.
    pub fn on_timer(&mut self, now: Instant) -> Result<Vec<Due>> {
        if self.pair.deadline().is_some_and(|at| at <= now) {
            return Err(Error::new(ErrorKind::Timeout, "the hub does not answer on the token links"));
        }
        let mut due = Vec::new();
        while let Some(Reverse((at, alarm))) = self.alarms.peek().copied() {
            if at > now {
                break;
            }
            self.alarms.pop();
            match alarm {
                Alarm::Renew { key, number } if self.latest.get(&key) == Some(&number) => {
                    due.push(Due { key, second_try: false });
                }
                Alarm::Late { number } => match self.in_flight.remove(&number) {
                    Some(Flight { second_try: true, .. }) => {
                        return Err(Error::new(ErrorKind::Timeout, "the hub did not answer to a token"));
                    }
                    Some(flight) => due.push(Due { key: flight.key, second_try: true }),
                    None => {}
                },
                Alarm::Renew { .. } => {}
            }
        }
        Ok(due)
    }

    fn on_reply(&mut self, reply: &Message) -> Option<TokenEvent> {
        let number = match reply.correlation_id()? {
            MessageId::String(id) => id.strip_prefix("token-")?.parse().ok()?,
            _ => return None,
        };
        let Flight { key, renew_after, .. } = self.in_flight.remove(&number)?;
        let (status, description) = cbs::status(reply);
        if !(200..300).contains(&status) {
            return Some(TokenEvent::Refused { key, status, description });
        }
        self.failures = 0;
        self.alarms.push(Reverse((Instant::now() + renew_after, Alarm::Renew { key, number })));
        Some(TokenEvent::Accepted { key })
    }
}
