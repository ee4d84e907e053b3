//! Messages to the application: cloud-to-device, and inputs of Edge modules (amqp.md 3.5, 3.6).
//!
//! Nothing is fetched before somebody listens, and credit follows the readers: the hub keeps what they have no
//! room for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use iothub_amqp::{
    client::link_error,
    condition,
    message::Message,
    proto::{AttachOptions, Credit, Delivery, Event, LinkId},
    types::{
        definitions::ReceiverSettleMode,
        messaging::{Accepted, DeliveryState, Rejected, Released},
    },
};
use iothub_common::{Error, ErrorKind, Identity, Result, Subject, error::error_from_amqp};
use tokio::{sync::oneshot, time::Instant};

use super::{Retry, Up, link_properties};
use crate::{
    calls::{Call, Calls, timed_out},
    mailbox::Mailbox,
    measure,
};

/// How long the hub may take to grant the link.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);
/// Largest message the hub sends is 64 KiB; what comes on inputs may have 256 KiB, properties besides.
const MAX_MESSAGE_SIZE: u64 = 1 << 19;

/// A message as the connection task hands it over.
#[derive(Debug)]
pub(crate) struct RawMessage {
    pub(crate) message: Message,
    pub(crate) ticket: Ticket,
}

/// Names a delivery: on which link, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    epoch: u64,
    delivery: u32,
}

/// What the application makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete,
    Abandon,
    Reject,
}

/// A message to be settled; the answer comes when the hub has confirmed.
pub(crate) type SettleCall = Call<(Ticket, Verdict), ()>;

type Messages = Mailbox<RawMessage>;

pub(crate) struct Inbox {
    address: String,
    what: &'static str,
    /// Messages the hub may send ahead of the readers.
    prefetch: u32,
    link: Option<LinkId>,
    ready: bool,
    give_up_at: Option<Instant>,
    retry: Retry,
    /// Counts the links: a delivery of an earlier one cannot be settled any more.
    epoch: u64,
    readers: Vec<Reader>,
    subscribing: Vec<Subscribing>,
    /// Deliveries that were handed over and have no verdict.
    held: HashSet<u32>,
    settling: Calls<(Ticket, Verdict), ()>,
    /// Which call settles which delivery.
    confirming: HashMap<u32, u64>,
}

struct Reader {
    /// Name of an input; `None` takes what no other reader wants.
    input: Option<String>,
    messages: Arc<Messages>,
}

struct Subscribing {
    messages: Arc<Messages>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Arc<Messages>>>,
}

impl Inbox {
    pub(crate) fn new(identity: &Identity, suffix: &str, what: &'static str, prefetch: u32) -> Self {
        Self {
            address: identity.amqp_path(suffix),
            what,
            prefetch,
            link: None,
            ready: false,
            give_up_at: None,
            retry: Retry::default(),
            epoch: 0,
            readers: Vec::new(),
            subscribing: Vec::new(),
            held: HashSet::new(),
            settling: Calls::default(),
            confirming: HashMap::new(),
        }
    }

    pub(crate) fn subscribe(
        &mut self,
        input: Option<String>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Arc<Messages>>>,
    ) {
        let messages = Arc::new(Messages::default());
        self.readers.push(Reader { input, messages: messages.clone() });
        self.subscribing.push(Subscribing { messages, deadline, reply });
    }

    pub(crate) fn settle(&mut self, call: SettleCall, deadline: Instant) {
        self.settling.push(call, deadline);
    }

    /// Gives back a message that the application dropped.
    pub(crate) fn release(&mut self, up: &mut Up<'_>, ticket: Ticket) {
        if let Some(link) = self.link.filter(|_| ticket.epoch == self.epoch) {
            self.held.remove(&ticket.delivery);
            up.connection.dispose(link, ticket.delivery, Released {}.into(), true);
        }
    }

    pub(crate) fn pump(&mut self, up: &mut Up<'_>) {
        self.forget_readers(up);
        match self.link {
            None if !self.readers.is_empty() && self.retry.may_try(Instant::now()) => self.attach(up),
            Some(link) if self.ready => {
                // Those that waited for the link, and those that came when it was up already.
                for waiting in self.subscribing.drain(..) {
                    waiting.reply.send(Ok(waiting.messages)).ok();
                }
                self.settle_waiting(up, link);
                if self.readers.is_empty() && self.held.is_empty() && self.settling.in_flight() == 0 {
                    up.connection.detach(link, None);
                    self.forget();
                } else if !self.readers.is_empty() {
                    self.grant(up, link);
                }
            }
            _ => {}
        }
        if self.link.is_none() {
            // Their link is gone, and with it the lock.
            while let Some((id, _)) = self.settling.start_next() {
                if let Some(call) = self.settling.finish(id) {
                    call.answer(Err(lock_lost()));
                }
            }
        }
    }

    /// True when the event was about this link. An error concerns the whole identity.
    pub(crate) fn on_event(&mut self, up: &mut Up<'_>, event: &Event) -> Result<bool> {
        match event {
            Event::Attached { link, .. } if self.link == Some(*link) => {
                self.ready = true;
                self.give_up_at = None;
                self.retry.worked();
            }
            Event::Message(delivery) if self.link == Some(delivery.link) => self.on_message(up, delivery),
            Event::Settled { link, delivery, state } if self.link == Some(*link) => {
                self.on_settled(*delivery, state.as_ref(), &up.subject());
            }
            Event::Detached { link, error } if self.link == Some(*link) => {
                let error = link_error(error.as_ref(), &up.subject());
                tracing::info!(what = self.what, %error, "a receiving link was lost");
                self.reset();
                self.retry.failed(error)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        let subscribing = self.subscribing.iter().map(|s| s.deadline).min();
        let link = [self.give_up_at, self.retry.next_deadline(!self.readers.is_empty())];
        link.into_iter().chain([self.settling.next_deadline(), subscribing]).flatten().min()
    }

    pub(crate) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        self.settling.expire(now, why);
        for late in self.subscribing.extract_if(.., |s| s.deadline <= now) {
            late.reply.send(Err(timed_out(true, why))).ok();
        }
    }

    pub(crate) fn on_timer(&mut self, up: &mut Up<'_>, now: Instant) -> Result<()> {
        if self.give_up_at.is_some_and(|at| at <= now) {
            if let Some(link) = self.link {
                up.connection.detach(link, None);
            }
            self.reset();
            let text = format!("the hub does not answer on the link for {}", self.what);
            self.retry.failed(Error::new(ErrorKind::Timeout, text))?;
        }
        Ok(())
    }

    pub(crate) fn session_lost(&mut self) {
        self.reset();
        self.retry.worked();
    }

    pub(crate) fn finish(&mut self, error: &Error) {
        self.settling.fail_all(error);
        for waiting in self.subscribing.drain(..) {
            waiting.reply.send(Err(error.clone())).ok();
        }
        self.readers.drain(..).for_each(|reader| reader.messages.end());
    }

    fn attach(&mut self, up: &mut Up<'_>) {
        self.retry.trying();
        self.epoch += 1;
        let options = AttachOptions {
            // The hub confirms what became of a message, so `complete` tells the truth about its lock.
            rcv_settle_mode: ReceiverSettleMode::Second,
            properties: Some(link_properties(None, None)),
            max_message_size: MAX_MESSAGE_SIZE,
            ..AttachOptions::receiver(
                format!("receiver-{}", uuid::Uuid::new_v4()),
                &self.address,
                Credit::Manual,
            )
        };
        self.link = up.connection.attach(up.session, options);
        self.give_up_at = Some(Instant::now() + ATTACH_LIMIT);
        up.new_links.extend(self.link);
    }

    /// Credit for what the readers have room for, given again once half of it is used.
    fn grant(&self, up: &mut Up<'_>, link: LinkId) {
        let unread: usize = self.readers.iter().map(|r| r.messages.len()).sum();
        let room = self.prefetch.saturating_sub(u32::try_from(unread).unwrap_or(u32::MAX));
        let credit = up.connection.credit(link);
        if room > credit && credit <= self.prefetch / 2 {
            up.connection.grant(link, room);
        }
    }

    fn settle_waiting(&mut self, up: &mut Up<'_>, link: LinkId) {
        while let Some((id, call)) = self.settling.start_next() {
            let (ticket, verdict) = call.kind;
            self.held.remove(&ticket.delivery);
            let settled = ticket.epoch == self.epoch
                && up.connection.dispose(link, ticket.delivery, state(verdict), false);
            if settled {
                self.confirming.insert(ticket.delivery, id);
            } else if let Some(call) = self.settling.finish(id) {
                call.answer(Err(lock_lost()));
            }
        }
    }

    fn forget_readers(&mut self, up: &mut Up<'_>) {
        let gone: Vec<_> = self.readers.extract_if(.., |r| Arc::strong_count(&r.messages) == 1).collect();
        for reader in gone {
            for unread in reader.messages.drain() {
                self.release(up, unread.ticket);
            }
        }
    }

    fn on_message(&mut self, up: &mut Up<'_>, delivery: &Delivery) {
        let ticket = Ticket { epoch: self.epoch, delivery: delivery.id };
        let message = match Message::decode(&delivery.payload) {
            Ok(message) if !delivery.oversized => message,
            Ok(_) => return self.reject(up, ticket, "it is too large"),
            Err(error) => return self.reject(up, ticket, &error.to_string()),
        };
        let input = message.annotation_text("x-opt-input-name");
        let named = self.readers.iter().find(|r| r.input.is_some() && r.input.as_deref() == input);
        let reader = named.or_else(|| self.readers.iter().find(|r| r.input.is_none()));
        match reader {
            Some(reader) => {
                self.held.insert(ticket.delivery);
                reader.messages.push(RawMessage { message, ticket });
                measure::received(self.what);
            }
            None => {
                tracing::debug!(what = self.what, "a message that nobody listens for is given back");
                self.release(up, ticket);
            }
        }
    }

    fn reject(&self, up: &mut Up<'_>, ticket: Ticket, why: &str) {
        tracing::warn!(what = self.what, why, "a message is rejected");
        if let Some(link) = self.link {
            up.connection.dispose(link, ticket.delivery, Rejected { error: None }.into(), true);
        }
    }

    fn on_settled(&mut self, delivery: u32, state: Option<&DeliveryState>, subject: &Subject<'_>) {
        let Some(call) = self.confirming.remove(&delivery).and_then(|id| self.settling.finish(id)) else {
            return;
        };
        let asked_to_reject = call.kind.1 == Verdict::Reject;
        call.answer(match state {
            // The hub's own refusal carries a reason; otherwise it repeats what was asked (amqp.md 3.5).
            Some(DeliveryState::Rejected(Rejected { error: Some(error) })) if !asked_to_reject => {
                Err(error_from_amqp(&condition(error), error.description.as_deref(), subject).context(
                    "the hub does not hold this message for us any more; it will come again or has expired",
                ))
            }
            _ => Ok(()),
        });
    }

    /// What was not confirmed comes again, with another delivery.
    fn reset(&mut self) {
        self.forget();
        self.confirming.clear();
        self.held.clear();
        self.settling.lost(&lock_lost());
        for reader in &self.readers {
            reader.messages.drain();
        }
    }

    fn forget(&mut self) {
        self.link = None;
        self.ready = false;
        self.give_up_at = None;
    }
}

fn state(verdict: Verdict) -> DeliveryState {
    match verdict {
        Verdict::Complete => Accepted {}.into(),
        Verdict::Abandon => Released {}.into(),
        Verdict::Reject => Rejected { error: None }.into(),
    }
}

fn lock_lost() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the link that brought this message is gone; the message will come again",
    )
}

/// A settle call has no body, yet its effect matters; this marks it so.
pub(crate) fn settle_body() -> Bytes {
    Bytes::from_static(b"-")
}
