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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_common::{Credential, SymmetricKey};

    use super::*;
    use crate::proto::{AcceptOptions, Config, Credit, Side};

    const SECOND: Duration = Duration::from_secs(1);

    /// A client whose token links are up, and a hub that says nothing by itself.
    struct Bench {
        client: Connection,
        hub: Connection,
        tokens: Tokens,
        source: TokenSource,
        requests: Vec<cbs::PutToken>,
        replies: Option<crate::proto::LinkId>,
        answered: Vec<TokenEvent>,
    }

    impl Bench {
        fn new() -> Self {
            let now = std::time::Instant::now();
            let mut client = Connection::new(Side::Client, Config::new("client"), now);
            let hub = Connection::new(Side::Server, Config::new("hub"), now);
            let key = SymmetricKey::from_base64("aW52ZW50ZWQtaW52ZW50ZWQ=").unwrap();
            let source = TokenSource::new(Credential::SharedAccessKey(key), "hub/devices/d", None).unwrap();
            let tokens = Tokens::new(&mut client).unwrap();
            let (requests, answered) = (Vec::new(), Vec::new());
            Self { client, hub, tokens, source, requests, replies: None, answered }
        }

        fn exchange(&mut self) {
            let now = std::time::Instant::now();
            loop {
                let to_hub: Vec<_> = std::iter::from_fn(|| self.client.poll_transmit(now)).collect();
                let to_client: Vec<_> = std::iter::from_fn(|| self.hub.poll_transmit(now)).collect();
                if to_hub.is_empty() && to_client.is_empty() {
                    return;
                }
                to_hub.into_iter().for_each(|frame| self.hub.handle_frame(frame, now));
                to_client.into_iter().for_each(|frame| self.client.handle_frame(frame, now));
                while let Some(event) = self.hub.poll_event() {
                    self.on_hub_event(event);
                }
                while let Some(event) = self.client.poll_event() {
                    let subject = Subject::Hub("hub");
                    if let Some(result) = self.tokens.on_event(&mut self.client, &event, &subject) {
                        self.answered.extend(result.unwrap());
                    }
                }
            }
        }

        fn on_hub_event(&mut self, event: Event) {
            match event {
                Event::AttachRequested { link, attach, .. } => {
                    if attach.role == crate::types::definitions::Role::Receiver {
                        self.replies = Some(link);
                    }
                    let credit = Credit::Auto(100);
                    self.hub
                        .accept(link, AcceptOptions { credit, max_message_size: 1 << 20, properties: None });
                }
                Event::Message(delivery) => {
                    let message = Message::decode(&delivery.payload).unwrap();
                    self.requests.push(cbs::PutToken::from_message(message));
                }
                _ => {}
            }
        }

        fn answer(&mut self, request: usize, status: i32) {
            let reply = cbs::reply(self.requests[request].message_id.clone(), status, "").encode();
            let message =
                crate::proto::Outgoing { payload: reply, format: 0, tag: None, settled: true, token: 0 };
            assert!(self.hub.send(self.replies.unwrap(), message));
            self.exchange();
        }
    }

    #[test]
    fn an_answer_that_does_not_come_is_asked_for_once_more_and_then_the_connection_is_given_up() {
        let mut bench = Bench::new();
        bench.tokens.put(&mut bench.client, 7, &bench.source, "hub").unwrap();
        bench.exchange();
        assert_eq!(bench.requests.len(), 1);
        let now = Instant::now();
        assert!(bench.tokens.on_timer(now + ANSWER_LIMIT - SECOND).unwrap().is_empty(), "not late yet");
        let due = bench.tokens.on_timer(now + ANSWER_LIMIT + SECOND).unwrap();
        assert_eq!(due.iter().map(|due| due.key).collect::<Vec<_>>(), [7]);
        bench.tokens.send(&mut bench.client, due[0], &bench.source, "hub").unwrap();
        bench.exchange();
        assert_eq!(bench.requests.len(), 2);
        let error = bench.tokens.on_timer(Instant::now() + ANSWER_LIMIT + SECOND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn an_answer_in_time_makes_the_next_token_due_at_four_fifths_of_its_life_and_late_ones_do_not_count() {
        let mut bench = Bench::new();
        bench.tokens.put(&mut bench.client, 7, &bench.source, "hub").unwrap();
        // Single-flight: the second one replaces the first.
        bench.tokens.put(&mut bench.client, 7, &bench.source, "hub").unwrap();
        bench.exchange();
        bench.answer(0, 200);
        assert!(bench.answered.is_empty(), "an answer to a token that was replaced");
        bench.answer(1, 200);
        assert!(matches!(bench.answered[..], [TokenEvent::Accepted { key: 7 }]));
        let now = Instant::now();
        assert!(bench.tokens.on_timer(now + 47 * 60 * SECOND).unwrap().is_empty());
        let due = bench.tokens.on_timer(now + 49 * 60 * SECOND).unwrap();
        assert_eq!(due.iter().map(|due| due.key).collect::<Vec<_>>(), [7]);
    }
}
