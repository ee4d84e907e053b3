//! Questions to a node that answers, such as `$management`: over a pair of links, each answered or failed in time.
//! They only read, so what was on its way when the links were lost is asked again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use iothub_amqp::client::{Change, Pair, link_error};
use iothub_amqp::message::Message;
use iothub_amqp::proto::{Connection, Event, SessionId};
use iothub_amqp::types::messaging::{MessageId, Properties};
use iothub_common::{Backoff, Error, RetryPolicy, Subject};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Reply, timed_out};

/// Starts the ids of our questions.
const PREFIX: &str = "ask-";

/// A question on its way.
#[derive(Debug)]
struct Question {
    message: Message,
    reply: Reply<Message>,
}

#[derive(Debug)]
pub(super) struct Requests {
    pair: Pair,
    /// Where answers go; unique, since Event Hubs finds the link by it (amqp.md 5.7).
    reply_to: String,
    policy: RetryPolicy,
    backoff: Backoff,
    not_before: Option<Instant>,
    next: u64,
    all: BTreeMap<u64, Question>,
    waiting: BTreeSet<u64>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Requests {
    pub(super) fn new(address: &str, policy: &RetryPolicy) -> Self {
        let reply_to = Uuid::new_v4().to_string();
        Self {
            pair: Pair::new(address).reply_to(&reply_to),
            reply_to,
            policy: policy.clone(),
            backoff: policy.backoff(),
            not_before: None,
            next: 0,
            all: BTreeMap::new(),
            waiting: BTreeSet::new(),
            deadlines: BinaryHeap::new(),
        }
    }

    /// The message's ids are set here.
    pub(super) fn push(&mut self, message: Message, deadline: Instant, reply: Reply<Message>) {
        let number = self.next;
        self.next += 1;
        let properties = Properties {
            message_id: Some(MessageId::String(format!("{PREFIX}{number}"))),
            reply_to: Some(self.reply_to.clone()),
            ..message.properties.unwrap_or_default()
        };
        let message = Message { properties: Some(properties), ..message };
        self.all.insert(number, Question { message, reply });
        self.waiting.insert(number);
        self.deadlines.push(Reverse((deadline, number)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Attaches the links when they are needed, and sends what waits.
    pub(super) fn pump(&mut self, connection: &mut Connection, session: SessionId, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        if self.pair.is_down() && self.not_before.is_none_or(|at| at <= now) {
            self.pair.attach(connection, session, false, None);
        }
        if !self.pair.is_ready() {
            return;
        }
        for number in std::mem::take(&mut self.waiting) {
            match self.all.get(&number) {
                Some(question) if question.reply.is_closed() => drop(self.all.remove(&number)),
                Some(question) => {
                    self.pair.send(connection, question.message.encode(), false);
                }
                None => {}
            }
        }
    }

    /// Takes an event; false when it is about something else.
    pub(super) fn on_event(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        subject: &Subject<'_>,
        now: Instant,
    ) -> bool {
        match self.pair.on_event(connection, event) {
            Change::None => return false,
            Change::Ready | Change::Noted | Change::Outcome { .. } => {}
            Change::Message(answer) => self.on_answer(*answer),
            Change::Lost(error) => self.on_lost(&link_error(error.as_ref(), subject), now),
        }
        true
    }

    fn on_answer(&mut self, answer: Message) {
        let number = match answer.correlation_id() {
            Some(MessageId::String(id)) => id.strip_prefix(PREFIX).and_then(|number| number.parse().ok()),
            _ => None,
        };
        let Some(question) = number.and_then(|number: u64| self.all.remove(&number)) else {
            tracing::debug!("an answer to no question of ours, or a late one");
            return;
        };
        self.backoff.reset();
        // Nobody listens when the caller dropped its future.
        question.reply.send(Ok(answer)).ok();
    }

    fn on_lost(&mut self, error: &Error, now: Instant) {
        let wait = if error.is_retryable() { self.backoff.next() } else { None };
        match wait {
            Some(wait) => {
                self.not_before = Some(now + wait);
                self.ask_again();
            }
            None => self.fail_all(error),
        }
    }

    /// The connection is gone; on the next one everything is asked again.
    pub(super) fn disconnected(&mut self) {
        self.pair.forget();
        self.not_before = None;
        self.ask_again();
    }

    fn ask_again(&mut self) {
        self.waiting = self.all.keys().copied().collect();
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        for (_, question) in std::mem::take(&mut self.all) {
            question.reply.send(Err(error.clone())).ok();
        }
        self.waiting.clear();
        self.deadlines.clear();
        self.backoff = self.policy.backoff();
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        if self.all.is_empty() {
            return self.pair.deadline();
        }
        let not_before = self.not_before.filter(|_| self.pair.is_down());
        [self.pair.deadline(), not_before, self.first_deadline()].into_iter().flatten().min()
    }

    /// Whether the hub has not granted the links in time.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.pair.deadline().is_some_and(|at| at <= now)
    }

    fn first_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, number))) = self.deadlines.peek() {
            if self.all.contains_key(number) {
                return Some(*deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Ends the calls whose time is up. `why` is what stands in the way of being connected.
    pub(super) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        while self.first_deadline().is_some_and(|deadline| deadline <= now) {
            let Some(Reverse((_, number))) = self.deadlines.pop() else { return };
            let sent = !self.waiting.remove(&number);
            if let Some(question) = self.all.remove(&number) {
                question.reply.send(Err(timed_out(sent, why))).ok();
            }
        }
    }
}
