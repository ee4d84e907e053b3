//! Messages to be sent: waiting, in flight, answered. Order is kept, deadlines hold, nothing is sent twice that the
//! hub may have.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use iothub_amqp::proto::Outcome;
use iothub_common::error::error_from_amqp;
use iothub_common::{Backoff, Error, ErrorKind, Identity, RetryPolicy, Subject};
use tokio::time::Instant;

use super::{Reply, timed_out};

/// A message on its way.
#[derive(Debug)]
struct Sending {
    payload: Bytes,
    to: Identity,
    deadline: Instant,
    backoff: Backoff,
    reply: Reply<()>,
}

/// Messages by number; numbers rise in the order of the calls.
#[derive(Debug)]
pub(super) struct Outbox {
    policy: RetryPolicy,
    next: u64,
    all: BTreeMap<u64, Sending>,
    waiting: BTreeSet<u64>,
    /// Given back by the hub, to be sent again later.
    resting: BinaryHeap<Reverse<(Instant, u64)>>,
    in_flight: BTreeSet<u64>,
    /// Were in flight when the link was lost; the reason is about to be known.
    lost: Vec<u64>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Outbox {
    pub(super) fn new(policy: &RetryPolicy) -> Self {
        Self {
            policy: policy.clone(),
            next: 0,
            all: BTreeMap::new(),
            waiting: BTreeSet::new(),
            resting: BinaryHeap::new(),
            in_flight: BTreeSet::new(),
            lost: Vec::new(),
            deadlines: BinaryHeap::new(),
        }
    }

    pub(super) fn push(&mut self, payload: Bytes, to: Identity, deadline: Instant, reply: Reply<()>) {
        let number = self.next;
        self.next += 1;
        let backoff = self.policy.backoff();
        self.all.insert(number, Sending { payload, to, deadline, backoff, reply });
        self.waiting.insert(number);
        self.deadlines.push(Reverse((deadline, number)));
    }

    /// Whether there is something for which a link is needed.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The next message to send. Those that nobody waits for any more are not sent.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<(u64, Bytes)> {
        while let Some(Reverse((at, number))) = self.resting.peek().copied() {
            if at > now {
                break;
            }
            self.resting.pop();
            if self.all.contains_key(&number) {
                self.waiting.insert(number);
            }
        }
        while let Some(number) = self.waiting.pop_first() {
            match self.all.get(&number) {
                Some(sending) if sending.reply.is_closed() => drop(self.all.remove(&number)),
                Some(sending) => {
                    self.in_flight.insert(number);
                    return Some((number, sending.payload.clone()));
                }
                None => {}
            }
        }
        None
    }

    /// How a message ended; true when the hub took it.
    pub(super) fn on_outcome(&mut self, number: u64, outcome: Outcome, now: Instant) -> bool {
        if !self.in_flight.remove(&number) {
            return false;
        }
        match outcome {
            Outcome::Lost { sent: false } => {
                self.waiting.insert(number);
                return false;
            }
            Outcome::Lost { sent: true } => {
                self.lost.push(number);
                return false;
            }
            _ => {}
        }
        let Some(sending) = self.all.get_mut(&number) else { return false };
        let error = match refusal(&outcome, &sending.to) {
            None => {
                self.finish(number, None);
                return true;
            }
            Some(error) => error,
        };
        match sending.rest(&outcome, &error, now) {
            Some(until) => self.resting.push(Reverse((until, number))),
            None => self.finish(number, Some(error)),
        }
        false
    }

    /// The link or connection is gone, and this is why. Follows the outcomes of what was in flight.
    pub(super) fn on_lost(&mut self, error: &Error) {
        for number in std::mem::take(&mut self.lost) {
            let Some(sending) = self.all.get(&number) else { continue };
            let message = format!(
                "the connection was lost before the hub confirmed the message to {}; it may or may not have it",
                sending.to
            );
            let error = error.clone().context(message).with_may_have_been_applied(true);
            self.finish(number, Some(error));
        }
    }

    /// Nothing more will be sent.
    pub(super) fn fail_all(&mut self, error: &Error) {
        for number in self.all.keys().copied().collect::<Vec<_>>() {
            let sent = self.in_flight.contains(&number) || self.lost.contains(&number);
            self.finish(number, Some(error.clone().with_may_have_been_applied(sent)));
        }
        *self = Self { next: self.next, ..Self::new(&self.policy) };
    }

    /// When [`Outbox::expire`] or [`Outbox::start_next`] has something to do.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let resting = self.resting.peek().map(|Reverse((at, _))| *at);
        [resting, self.first_deadline()].into_iter().flatten().min()
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
            let sent = self.in_flight.remove(&number);
            self.waiting.remove(&number);
            self.finish(number, Some(timed_out(sent, why).with_may_have_been_applied(sent)));
        }
    }

    fn finish(&mut self, number: u64, error: Option<Error>) {
        if let Some(sending) = self.all.remove(&number) {
            // Nobody listens when the caller dropped its future.
            sending.reply.send(error.map_or(Ok(()), Err)).ok();
        }
    }
}

impl Sending {
    /// Until when to rest before it is sent again; `None` when it is not.
    fn rest(&mut self, outcome: &Outcome, error: &Error, now: Instant) -> Option<Instant> {
        let untouched = *outcome == Outcome::Released || error.kind() == ErrorKind::Throttled;
        if !untouched || error.may_have_been_applied() {
            return None;
        }
        let wait: Duration = self.backoff.next()? + error.retry_after().unwrap_or_default();
        Some(now + wait).filter(|until| *until < self.deadline)
    }
}

/// What the hub's answer means for the caller; `None` when it took the message.
fn refusal(outcome: &Outcome, to: &Identity) -> Option<Error> {
    let subject = Subject::from(to);
    let error = match outcome {
        Outcome::Accepted | Outcome::Lost { .. } => return None,
        Outcome::Rejected(Some(error)) => {
            let condition = iothub_amqp::condition(error);
            advise(error_from_amqp(&condition, error.description.as_deref(), &subject), to)
        }
        Outcome::Rejected(None) => {
            Error::new(ErrorKind::Rejected, format!("the hub refused the message to {to} without saying why"))
        }
        Outcome::Released => {
            Error::new(ErrorKind::Unavailable, format!("the hub gave the message to {to} back"))
        }
        Outcome::Modified | Outcome::Settled => {
            let message = format!("the hub did not say what became of the message to {to}");
            Error::new(ErrorKind::Unavailable, message).with_may_have_been_applied(true)
        }
    };
    Some(error)
}

/// The way out of a full queue: to services this condition means the queue of the device (amqp.md 5.2).
fn advise(error: Error, to: &Identity) -> Error {
    if error.kind() != ErrorKind::QuotaExceeded || error.hub_code() == Some("IotHubQuotaExceeded") {
        return error;
    }
    error.context(format!(
        "the queue of {to} is full; wait until it has fetched messages, or empty it with purge_message_queue"
    ))
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
