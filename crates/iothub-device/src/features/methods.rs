//! Direct methods: requests to the application, its answers to the hub (amqp.md 3.7).

use std::sync::Arc;

use bytes::Bytes;
use iothub_amqp::{
    client::{Change, Pair, link_error},
    message::{Body, Message, application_properties},
    proto::{Event, Outcome},
    types::{
        messaging::{MessageId, Properties},
        primitives::SimpleValue,
    },
};
use iothub_common::{Error, ErrorKind, Identity, Result};
use tokio::{sync::oneshot, time::Instant};

use super::{Retry, Up};
use crate::{
    calls::{Call, Calls, timed_out},
    mailbox::Mailbox,
    measure,
};

/// Requests a reader may have before further ones are answered for it.
const MAX_WAITING: usize = 100;
const NOT_ANSWERED: i32 = 500;
const NO_HANDLER: i32 = 501;
const BUSY: i32 = 503;

/// A request as the connection task hands it over.
#[derive(Debug)]
pub(crate) struct RawRequest {
    pub(crate) name: String,
    pub(crate) payload: Bytes,
    pub(crate) answer_to: AnswerTo,
}

/// Where an answer belongs: to this request, on these links.
#[derive(Debug, Clone)]
pub(crate) struct AnswerTo {
    id: MessageId,
    epoch: u64,
}

/// An answer; its body is the encoded message.
pub(crate) type AnswerCall = Call<u64, ()>;

type Requests = Mailbox<RawRequest>;

pub(crate) struct Methods {
    pair: Pair,
    retry: Retry,
    /// Counts the link pairs: an answer on later links is for nobody.
    epoch: u64,
    readers: Vec<Reader>,
    subscribing: Vec<Subscribing>,
    answers: Calls<u64, ()>,
}

struct Reader {
    /// `None` takes what no other reader wants.
    name: Option<String>,
    requests: Arc<Requests>,
}

struct Subscribing {
    requests: Arc<Requests>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Arc<Requests>>>,
}

impl AnswerTo {
    /// The encoded answer and the links it must go out on.
    pub(crate) fn encode(&self, status: i32, payload: Bytes) -> (Bytes, u64) {
        let message = Message {
            properties: Some(Properties { correlation_id: Some(self.id.clone()), ..Properties::default() }),
            annotations: None,
            application_properties: Some(application_properties([(
                "IoThub-status",
                SimpleValue::Int(status),
            )])),
            body: Body::Data(payload),
        };
        (message.encode(), self.epoch)
    }

    /// The answer to a request that the application dropped.
    pub(crate) fn encode_dropped(&self) -> (Bytes, u64) {
        self.encode(NOT_ANSWERED, Bytes::from_static(br#""the module dropped the request""#))
    }
}

impl Methods {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            pair: Pair::new(identity.amqp_path("methods/devicebound")),
            retry: Retry::default(),
            epoch: 0,
            readers: Vec::new(),
            subscribing: Vec::new(),
            answers: Calls::default(),
        }
    }

    pub(crate) fn subscribe(
        &mut self,
        name: Option<String>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Arc<Requests>>>,
    ) {
        let requests = Arc::new(Requests::default());
        self.readers.push(Reader { name, requests: requests.clone() });
        self.subscribing.push(Subscribing { requests, deadline, reply });
    }

    pub(crate) fn answer(&mut self, call: AnswerCall, deadline: Instant) {
        self.answers.push(call, deadline);
    }

    /// Answers for an application that dropped a request.
    pub(crate) fn answer_dropped(&mut self, up: &mut Up<'_>, answer_to: &AnswerTo) {
        let (message, epoch) = answer_to.encode_dropped();
        if epoch == self.epoch {
            self.pair.send(up.connection, message, true);
        }
    }

    pub(crate) fn pump(&mut self, up: &mut Up<'_>) {
        self.forget_readers(up);
        if self.pair.is_down() {
            if !self.readers.is_empty() && self.retry.may_try(Instant::now()) {
                self.retry.trying();
                self.epoch += 1;
                let properties = up.pair_properties("methods");
                self.pair.attach_with(up.connection, up.session, false, properties);
                up.new_links.extend(self.pair.links());
            }
        } else if self.readers.is_empty() && self.answers.in_flight() == 0 && !self.answers.is_waiting() {
            // Nobody listens: the hub tells callers so at once.
            self.pair.detach(up.connection);
        }
        while let Some((id, call)) = self.answers.start_next() {
            let sent = call.kind == self.epoch
                && self.pair.send_tracked(up.connection, call.body.clone(), false, id);
            if !sent && let Some(call) = self.answers.finish(id) {
                call.answer(Err(too_late()));
            }
        }
        if self.pair.is_ready() {
            for waiting in self.subscribing.drain(..) {
                waiting.reply.send(Ok(waiting.requests)).ok();
            }
        }
    }

    /// True when the event was about these links. An error concerns the whole identity.
    pub(crate) fn on_event(&mut self, up: &mut Up<'_>, event: &Event) -> Result<bool> {
        match self.pair.on_event(up.connection, event) {
            Change::None => return Ok(false),
            Change::Ready | Change::Noted => {}
            Change::Message(message) => {
                self.retry.worked();
                self.on_request(up, *message);
            }
            Change::Outcome { token, outcome } => self.on_outcome(token, &outcome),
            Change::Lost(error) => {
                let error = link_error(error.as_ref(), &up.subject());
                tracing::info!(%error, "the method links were lost");
                self.reset(&error);
                self.retry.failed(error)?;
            }
        }
        Ok(true)
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        let subscribing = self.subscribing.iter().map(|s| s.deadline).min();
        let links = [self.pair.deadline(), self.retry.next_deadline(!self.readers.is_empty())];
        links.into_iter().chain([self.answers.next_deadline(), subscribing]).flatten().min()
    }

    pub(crate) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        self.answers.expire(now, why);
        for late in self.subscribing.extract_if(.., |s| s.deadline <= now) {
            late.reply.send(Err(timed_out(true, why))).ok();
        }
    }

    pub(crate) fn on_timer(&mut self, up: &mut Up<'_>, now: Instant) -> Result<()> {
        if self.pair.deadline().is_some_and(|at| at <= now) {
            self.pair.detach(up.connection);
            let error = Error::new(ErrorKind::Timeout, "the hub does not answer on the method links");
            self.reset(&error);
            self.retry.failed(error)?;
        }
        Ok(())
    }

    pub(crate) fn session_lost(&mut self, error: &Error) {
        self.pair.forget();
        self.retry.worked();
        self.reset(error);
    }

    pub(crate) fn finish(&mut self, error: &Error) {
        self.answers.fail_all(error);
        for waiting in self.subscribing.drain(..) {
            waiting.reply.send(Err(error.clone())).ok();
        }
        self.readers.drain(..).for_each(|reader| reader.requests.end());
    }

    /// Requests that nobody has read are for nobody now: the callers have been told.
    fn reset(&mut self, error: &Error) {
        self.answers.lost(error);
        for reader in &self.readers {
            reader.requests.drain();
        }
    }

    fn forget_readers(&mut self, up: &mut Up<'_>) {
        for gone in self.readers.extract_if(.., |r| Arc::strong_count(&r.requests) == 1) {
            for request in gone.requests.drain() {
                let (message, _) = request.answer_to.encode_dropped();
                self.pair.send(up.connection, message, true);
            }
        }
    }

    fn on_request(&mut self, up: &mut Up<'_>, message: Message) {
        let Some(id) = message.correlation_id().cloned() else {
            tracing::warn!("a method request without correlation id");
            return;
        };
        let name = message.application_text("IoThub-methodname").unwrap_or_default().to_owned();
        let payload = message.body.into_bytes().unwrap_or_default();
        let answer_to = AnswerTo { id, epoch: self.epoch };
        let reader = self.reader_for(&name);
        let refusal = match reader {
            None => Some((NO_HANDLER, format!("no handler for method `{name}`"))),
            Some(reader) if reader.requests.len() >= MAX_WAITING => {
                Some((BUSY, format!("{MAX_WAITING} requests wait already")))
            }
            Some(reader) => {
                reader.requests.push(RawRequest { name, payload, answer_to: answer_to.clone() });
                measure::received("methods");
                None
            }
        };
        if let Some((status, text)) = refusal {
            let text = serde_json::Value::String(text).to_string();
            let (message, _) = answer_to.encode(status, text.into());
            self.pair.send(up.connection, message, true);
        }
    }

    fn reader_for(&self, name: &str) -> Option<&Reader> {
        let named = self.readers.iter().find(|r| r.name.as_deref() == Some(name));
        named.or_else(|| self.readers.iter().find(|r| r.name.is_none()))
    }

    fn on_outcome(&mut self, id: u64, outcome: &Outcome) {
        if matches!(outcome, Outcome::Lost { .. }) {
            // The links' end follows.
            return;
        }
        let Some(call) = self.answers.finish(id) else { return };
        call.answer(match outcome {
            Outcome::Accepted | Outcome::Settled => Ok(()),
            _ => Err(too_late()),
        });
    }
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the caller has gone: its request ended with the connection or its time",
    )
}
