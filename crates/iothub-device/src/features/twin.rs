//! Twin: read, report, desired properties (amqp.md 3.8, twins.md 2.7).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use iothub_amqp::{
    client::{Change, Pair, link_error},
    message::{Body, Message, annotations},
    proto::Event,
    serde_amqp::Value,
    types::messaging::{MessageId, Properties as MessageProperties},
};
use iothub_common::{
    Error, ErrorKind, Identity, Properties, Result, TwinProperties, error::error_from_twin_status,
};
use tokio::{sync::oneshot, time::Instant};

use super::{Retry, Up};
use crate::{
    calls::{Call, Calls, timed_out},
    desired::{Queue, Tracker},
};

/// The hub's answer to a request that the client made for itself.
const OWN_REQUEST_LIMIT: Duration = Duration::from_secs(30);
const DESIRED: &str = "/notifications/twin/properties/desired";

/// What an application asks of its twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TwinKind {
    Get,
    Report,
}

/// A request; the answer is a body and a version.
pub(crate) type TwinCall = Call<TwinKind, (Bytes, u64)>;

/// An application that waits for its first snapshot.
struct Subscribing {
    queue: Arc<Queue>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Arc<Queue>>>,
}

pub(crate) struct TwinLinks {
    pair: Pair,
    retry: Retry,
    subscribed: bool,
    /// The read that answers the subscription, and when to stop waiting for it.
    read: Option<(u64, Instant)>,
    calls: Calls<TwinKind, (Bytes, u64)>,
    desired: Tracker,
    subscribing: Vec<Subscribing>,
    /// Numbers for requests of our own.
    next_number: u64,
}

impl TwinLinks {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            pair: Pair::new(identity.amqp_path("twin")),
            retry: Retry::default(),
            subscribed: false,
            read: None,
            calls: Calls::default(),
            desired: Tracker::default(),
            subscribing: Vec::new(),
            next_number: 0,
        }
    }

    pub(crate) fn call(&mut self, call: TwinCall, deadline: Instant) {
        self.calls.push(call, deadline);
    }

    pub(crate) fn subscribe(&mut self, deadline: Instant, reply: oneshot::Sender<Result<Arc<Queue>>>) {
        let queue = self.desired.subscribe();
        self.subscribing.push(Subscribing { queue, deadline, reply });
    }

    /// Starts whatever can be started.
    pub(crate) fn pump(&mut self, up: &mut Up<'_>) {
        let listening = self.desired.has_readers();
        if self.pair.is_down() {
            let wanted = listening || self.calls.is_waiting();
            if wanted && self.retry.may_try(Instant::now()) {
                self.retry.trying();
                let properties = up.pair_properties("twin");
                self.pair.attach_with(up.connection, up.session, true, properties);
                up.new_links.extend(self.pair.links());
            }
            return;
        }
        if !self.pair.is_ready() {
            return;
        }
        if listening != self.subscribed {
            self.subscribed = listening;
            let operation = if listening { "PUT" } else { "DELETE" };
            self.own_request(up, "subscribe", operation, Some(DESIRED));
        }
        if self.subscribed && self.desired.wants_read() {
            let number = self.own_request(up, "read", "GET", None);
            self.read = Some((number, Instant::now() + OWN_REQUEST_LIMIT));
        }
        while let Some((id, call)) = self.calls.start_next() {
            let message = match call.kind {
                TwinKind::Get => request(&format!("call-{id}"), "GET", None, blank()),
                TwinKind::Report => {
                    request(&format!("call-{id}"), "PATCH", Some("/properties/reported"), call.body.clone())
                }
            };
            self.pair.send(up.connection, message, true);
        }
    }

    /// True when the event was about these links. An error concerns the whole identity.
    pub(crate) fn on_event(&mut self, up: &mut Up<'_>, event: &Event) -> Result<bool> {
        match self.pair.on_event(up.connection, event) {
            Change::None => return Ok(false),
            Change::Ready | Change::Noted | Change::Outcome { .. } => {}
            Change::Message(message) => self.on_message(up, *message)?,
            Change::Lost(error) => self.on_lost(link_error(error.as_ref(), &up.subject()))?,
        }
        Ok(true)
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        let subscribing = self.subscribing.iter().map(|s| s.deadline).min();
        let read = self.read.map(|(_, at)| at);
        let wanted = self.desired.has_readers() || self.calls.is_waiting();
        let links = [read, self.retry.next_deadline(wanted), self.pair.deadline()];
        links.into_iter().chain([self.calls.next_deadline(), subscribing]).flatten().min()
    }

    /// Ends calls whose time is up, connected or not.
    pub(crate) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        self.calls.expire(now, why);
        for late in self.subscribing.extract_if(.., |s| s.deadline <= now) {
            late.reply.send(Err(timed_out(true, why))).ok();
        }
    }

    pub(crate) fn on_timer(&mut self, up: &mut Up<'_>, now: Instant) -> Result<()> {
        if self.pair.deadline().is_some_and(|at| at <= now) || self.read.is_some_and(|(_, at)| at <= now) {
            self.pair.detach(up.connection);
            self.on_lost(Error::new(ErrorKind::Timeout, "the hub does not answer on the twin links"))?;
        }
        Ok(())
    }

    /// The session is gone, and with it links and subscription.
    pub(crate) fn session_lost(&mut self, error: &Error) {
        self.pair.forget();
        self.retry.worked();
        self.reset(error);
    }

    /// The client is closed.
    pub(crate) fn finish(&mut self, error: &Error) {
        self.calls.fail_all(error);
        for waiting in self.subscribing.drain(..) {
            waiting.reply.send(Err(error.clone())).ok();
        }
        self.desired.end();
    }

    fn on_lost(&mut self, error: Error) -> Result<()> {
        tracing::info!(%error, "the twin links were lost");
        self.reset(&error);
        self.retry.failed(error)
    }

    /// Without the links nothing is subscribed and no answer comes.
    fn reset(&mut self, error: &Error) {
        self.subscribed = false;
        self.read = None;
        self.desired.lost();
        self.calls.lost(error);
    }

    fn on_message(&mut self, up: &mut Up<'_>, message: Message) -> Result<()> {
        let status = message.annotation_number("status").map_or(200, |s| i32::try_from(s).unwrap_or(500));
        let version = message.annotation_number("version").and_then(|v| u64::try_from(v).ok());
        let id = match message.correlation_id() {
            Some(MessageId::String(id)) => Some(id.clone()),
            _ => None,
        };
        let body = message.body.into_bytes().unwrap_or_default();
        let Some(id) = id else {
            // No correlation id: a notification (amqp.md 3.8).
            self.on_notification(&body);
            return Ok(());
        };
        let result = if (200..300).contains(&status) {
            self.retry.worked();
            Ok((body, version.unwrap_or(0)))
        } else {
            Err(error_from_twin_status(status, &body, &up.subject()))
        };
        let number = |n: &str| n.parse::<u64>().ok();
        match id.split_once('-').and_then(|(kind, n)| Some((kind, number(n)?))) {
            Some(("call", number)) => {
                if let Some(call) = self.calls.finish(number) {
                    call.answer(result);
                }
                Ok(())
            }
            Some(("read", number)) if self.read.is_some_and(|(read, _)| read == number) => {
                self.read = None;
                match result.and_then(|(body, _)| TwinProperties::from_slice(&body)) {
                    Ok(twin) => self.on_read(&twin),
                    Err(error) => return self.on_refused(up, error),
                }
                Ok(())
            }
            Some(("subscribe", _)) => match result {
                Ok(_) => Ok(()),
                Err(error) => self.on_refused(up, error),
            },
            _ => Ok(()),
        }
    }

    fn on_notification(&mut self, body: &[u8]) {
        match Properties::from_slice(body) {
            Ok(patch) if self.subscribed => self.desired.on_patch(patch),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a desired-property notification could not be read; reading the twin");
                self.desired.lost();
            }
        }
    }

    fn on_read(&mut self, twin: &TwinProperties) {
        if self.desired.on_read(&twin.desired) {
            for ready in self.subscribing.drain(..) {
                ready.reply.send(Ok(ready.queue)).ok();
            }
        }
    }

    /// The hub answers, but with an error: who waits for a first item is told, others go on waiting.
    fn on_refused(&mut self, up: &mut Up<'_>, error: Error) -> Result<()> {
        if !error.is_retryable() {
            for waiting in self.subscribing.drain(..) {
                waiting.reply.send(Err(error.clone())).ok();
            }
        }
        self.pair.detach(up.connection);
        self.on_lost(error)
    }

    fn own_request(
        &mut self,
        up: &mut Up<'_>,
        kind: &str,
        operation: &str,
        resource: Option<&'static str>,
    ) -> u64 {
        self.next_number += 1;
        let id = format!("{kind}-{}", self.next_number);
        self.pair.send(up.connection, request(&id, operation, resource, blank()), true);
        self.next_number
    }
}

fn request(id: &str, operation: &str, resource: Option<&'static str>, body: Bytes) -> Bytes {
    let text = |s: &str| Value::String(s.to_owned());
    let what = [("operation", text(operation))];
    let to = resource.map(|resource| ("resource", text(resource)));
    let message = Message {
        properties: Some(MessageProperties::builder().correlation_id(id.to_owned()).build()),
        annotations: Some(annotations(what.into_iter().chain(to))),
        application_properties: None,
        body: Body::Data(body),
    };
    message.encode()
}

/// Requests without content carry one space, as from Node and C (amqp.md 3.8).
fn blank() -> Bytes {
    Bytes::from_static(b" ")
}
