//! While the connection is up: twin requests, the desired-property subscription, token renewal.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iothub_amqp::{
    message::{Body, Message, annotations, fields},
    proto::Event,
    serde_amqp::Value,
    types::messaging::{MessageId, Properties as MessageProperties},
};
use iothub_common::{
    Error, ErrorKind, Properties, Result, Subject, TwinProperties, error::error_from_twin_status,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Actor, CLOSE_LIMIT, MAX_CALLS,
    command::{Reply, TwinOp},
    connect::{self, Wire, link_lost},
    pair::{Change, Pair},
    wait_until,
};
use crate::desired::Queue;

const API_VERSION: &str = "2021-04-12";
/// The hub's answer to a request that the client made for itself.
const OWN_REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The hub's answer to a new token, before it is sent once more.
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);
/// Link pairs lost one after the other before the connection is given up.
const MAX_LINK_FAILURES: u32 = 5;
/// Commands taken before their requests are written, so that they share a write.
const COMMANDS_PER_WRITE: usize = 128;

/// An application that waits for its first snapshot.
pub(super) struct Subscribing {
    pub(super) queue: Arc<Queue>,
    pub(super) deadline: Instant,
    pub(super) reply: Reply<Arc<Queue>>,
}

/// How serving ended.
pub(super) enum Ended {
    /// The application closed the client or dropped its last handle.
    Closed,
    Lost(Error),
}

/// Everything that belongs to one connection.
struct Up {
    wire: Wire,
    twin: Pair,
    /// A lost pair is not asked for again before this.
    twin_retry_at: Option<Instant>,
    link_failures: u32,
    subscribed: bool,
    /// The read that answers the subscription, and when to stop waiting for it.
    read: Option<(u64, Instant)>,
    renewal: Renewal,
    /// Numbers for requests of our own: reads, subscriptions, tokens.
    next_number: u64,
}

enum Renewal {
    Due(Instant),
    Sent { number: u64, renew_after: Duration, deadline: Instant, again: bool },
}

impl Actor {
    pub(super) async fn serve(&mut self, wire: Wire) -> Ended {
        let mut up = Up::new(wire, &self.settings.identity.amqp_path("twin"));
        let ended = loop {
            if let Err(error) = self.pump(&mut up) {
                break Ended::Lost(error);
            }
            let deadline = [self.next_deadline(), up.next_deadline()].into_iter().flatten().min();
            let result = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break Ended::Closed,
                event = up.wire.driver.next() => self.on_event(&mut up, event),
                command = self.commands.recv(), if self.calls.len() < MAX_CALLS => {
                    let Some(command) = command else { break Ended::Closed };
                    self.take(command);
                    self.take_more();
                    Ok(())
                }
                () = wait_until(deadline) => self.on_timer(&mut up),
            };
            if let Err(error) = result {
                break Ended::Lost(error);
            }
        };
        match &ended {
            Ended::Closed => {
                // Who waits for an answer learns at once that none will come.
                self.finish(None);
                up.wire.driver.close(CLOSE_LIMIT).await;
            }
            Ended::Lost(error) => {
                self.twin_lost(&mut up, error);
                // The peer is told if it still listens; nothing waits for its agreement.
                up.wire.driver.connection().close(None);
                up.wire.driver.finish(Duration::ZERO).await;
            }
        }
        ended
    }

    fn take_more(&mut self) {
        for _ in 1..COMMANDS_PER_WRITE {
            if self.calls.len() >= MAX_CALLS {
                return;
            }
            let Ok(command) = self.commands.try_recv() else { return };
            self.take(command);
        }
    }

    /// Starts whatever can be started.
    fn pump(&mut self, up: &mut Up) -> Result<()> {
        let listening = self.desired.has_readers();
        if up.twin.is_down() {
            let wanted = listening || self.calls.is_waiting();
            if wanted && up.twin_retry_at.is_none_or(|at| at <= Instant::now()) {
                up.attach_twin();
            }
            return Ok(());
        }
        if !up.twin.is_ready() {
            return Ok(());
        }
        if listening && !up.subscribed {
            up.subscribed = true;
            let number = up.number();
            up.request(
                &format!("put-{number}"),
                "PUT",
                Some("/notifications/twin/properties/desired"),
                blank(),
            );
        } else if !listening && up.subscribed {
            up.subscribed = false;
            let number = up.number();
            up.request(
                &format!("delete-{number}"),
                "DELETE",
                Some("/notifications/twin/properties/desired"),
                blank(),
            );
        }
        if up.subscribed && self.desired.wants_read() {
            let number = up.number();
            up.read = Some((number, Instant::now() + OWN_REQUEST_LIMIT));
            up.request(&format!("read-{number}"), "GET", None, blank());
        }
        while let Some((id, call)) = self.calls.start_next() {
            let (operation, resource) = match call.op {
                TwinOp::Get => ("GET", None),
                TwinOp::Report => ("PATCH", Some("/properties/reported")),
            };
            let body = if call.op == TwinOp::Get { blank() } else { call.body.clone() };
            up.request(&format!("call-{id}"), operation, resource, body);
        }
        Ok(())
    }

    fn on_event(&mut self, up: &mut Up, event: Event) -> Result<()> {
        match up.twin.on_event(up.wire.driver.connection(), &event) {
            Change::Message(message) => self.on_twin_message(up, *message)?,
            Change::Lost(error) => self.on_twin_lost(up, link_lost(error, &self.settings.clone()))?,
            Change::Ready | Change::Noted => {}
            Change::None => self.on_other_event(up, event)?,
        }
        Ok(())
    }

    fn on_other_event(&mut self, up: &mut Up, event: Event) -> Result<()> {
        match up.wire.cbs.on_event(up.wire.driver.connection(), &event) {
            Change::Message(reply) => self.on_token_reply(up, &reply)?,
            Change::Lost(error) => {
                tracing::info!(identity = %self.settings.identity, "the token links were lost");
                up.count_failure(link_lost(error, &self.settings))?;
                if let Renewal::Sent { .. } = up.renewal {
                    up.renewal = Renewal::Due(Instant::now());
                }
            }
            Change::Ready | Change::Noted | Change::None => {}
        }
        match event {
            Event::Closed(cause) => Err(connect::closed(cause, &self.settings)),
            Event::Ended { error, .. } => Err(link_lost(error, &self.settings)),
            Event::AttachRequested { link, .. } => {
                let condition = iothub_amqp::amqp_error("amqp:not-allowed", "clients take no links");
                up.wire.driver.connection().refuse(link, condition);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_timer(&mut self, up: &mut Up) -> Result<()> {
        let now = Instant::now();
        self.expire();
        if up.twin.deadline().is_some_and(|at| at <= now) || up.read.is_some_and(|(_, at)| at <= now) {
            let error = Error::new(ErrorKind::Timeout, "the hub does not answer on the twin links");
            up.twin.detach(up.wire.driver.connection());
            self.on_twin_lost(up, error)?;
        }
        if up.wire.cbs.deadline().is_some_and(|at| at <= now) {
            return Err(Error::new(ErrorKind::Timeout, "the hub does not answer on the token links"));
        }
        match up.renewal {
            Renewal::Due(at) if at <= now => self.renew(up, false),
            Renewal::Sent { deadline, again: false, .. } if deadline <= now => self.renew(up, true),
            Renewal::Sent { deadline, .. } if deadline <= now => {
                Err(Error::new(ErrorKind::Timeout, "the hub did not answer to a new token"))
            }
            _ => Ok(()),
        }
    }

    /// Presents a new token on the same links; nothing else notices (amqp.md 2.5).
    fn renew(&mut self, up: &mut Up, again: bool) -> Result<()> {
        if up.wire.cbs.is_down() {
            up.wire.cbs.attach(up.wire.driver.connection(), up.wire.session, false, None);
        }
        let number = up.number();
        let renew_after = connect::put_token(&mut up.wire, &self.settings, number)?;
        up.renewal = Renewal::Sent { number, renew_after, deadline: Instant::now() + RENEWAL_LIMIT, again };
        tracing::debug!(identity = %self.settings.identity, "renewing the token");
        Ok(())
    }

    fn on_token_reply(&mut self, up: &mut Up, reply: &Message) -> Result<()> {
        let Renewal::Sent { number, renew_after, .. } = up.renewal else { return Ok(()) };
        if connect::token_number(reply) != Some(number) {
            return Ok(());
        }
        connect::check_token_reply(reply, &self.settings)?;
        up.renewal = Renewal::Due(Instant::now() + renew_after);
        Ok(())
    }

    fn on_twin_lost(&mut self, up: &mut Up, error: Error) -> Result<()> {
        tracing::info!(identity = %self.settings.identity, %error, "the twin links were lost");
        self.twin_lost(up, &error);
        if matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::NotFound) {
            // The next put-token says whether that is final.
            return Err(error);
        }
        up.count_failure(error)
    }

    /// Without the links nothing is subscribed and no answer comes.
    fn twin_lost(&mut self, up: &mut Up, error: &Error) {
        up.subscribed = false;
        up.read = None;
        self.desired.lost();
        self.calls.lost(error);
    }

    fn on_twin_message(&mut self, up: &mut Up, message: Message) -> Result<()> {
        let status = message.annotation_number("status").map(|s| i32::try_from(s).unwrap_or(500));
        let version = message.annotation_number("version").and_then(|v| u64::try_from(v).ok());
        let id = match message.correlation_id() {
            Some(MessageId::String(id)) => Some(id.clone()),
            _ => None,
        };
        let body = message.body.into_bytes().unwrap_or_default();
        let Some(id) = id else {
            // No correlation id: a notification (amqp.md 3.8).
            self.on_notification(up, &body);
            return Ok(());
        };
        let status = status.unwrap_or(200);
        let result = if (200..300).contains(&status) {
            up.link_failures = 0;
            Ok((body, version.unwrap_or(0)))
        } else {
            Err(error_from_twin_status(status, &body, &Subject::from(&self.settings.identity)))
        };
        let Some((kind, number)) = id.split_once('-').and_then(|(k, n)| Some((k, n.parse::<u64>().ok()?)))
        else {
            tracing::warn!(id, "an answer to no request of ours");
            return Ok(());
        };
        match kind {
            "call" => {
                if let Some(call) = self.calls.finish(number) {
                    call.reply.send(result).ok();
                }
                Ok(())
            }
            "read" if up.read.is_some_and(|(read, _)| read == number) => {
                self.on_read(up, result.map(|(body, _)| body))
            }
            "put" => match result {
                Ok(_) => Ok(()),
                Err(error) => self.on_subscription_refused(up, error),
            },
            _ => Ok(()),
        }
    }

    fn on_notification(&mut self, up: &mut Up, body: &[u8]) {
        match Properties::from_slice(body) {
            Ok(patch) if up.subscribed => self.desired.on_patch(patch),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a desired-property notification could not be read; reading the twin");
                self.desired.lost();
            }
        }
    }

    fn on_read(&mut self, up: &mut Up, result: Result<Bytes>) -> Result<()> {
        up.read = None;
        match result.and_then(|body| TwinProperties::from_slice(&body)) {
            Ok(twin) => {
                if self.desired.on_read(&twin.desired) {
                    for ready in self.subscribing.drain(..) {
                        ready.reply.send(Ok(ready.queue)).ok();
                    }
                }
                Ok(())
            }
            Err(error) => self.on_subscription_refused(up, error),
        }
    }

    /// The hub answers, but with an error: those who wait for their first item are told, others go on waiting.
    fn on_subscription_refused(&mut self, up: &mut Up, error: Error) -> Result<()> {
        if !error.is_retryable() {
            for waiting in self.subscribing.drain(..) {
                waiting.reply.send(Err(error.clone())).ok();
            }
        }
        up.twin.detach(up.wire.driver.connection());
        self.on_twin_lost(up, error)
    }
}

impl Up {
    fn new(wire: Wire, address: &str) -> Self {
        let renewal = Renewal::Due(wire.renew_at);
        Self {
            wire,
            twin: Pair::new(address),
            twin_retry_at: None,
            link_failures: 0,
            subscribed: false,
            read: None,
            renewal,
            next_number: 1,
        }
    }

    fn attach_twin(&mut self) {
        let properties = fields([
            ("com.microsoft:client-version", Value::String(crate::USER_AGENT.into())),
            ("com.microsoft:api-version", Value::String(API_VERSION.into())),
            // How the hub knows that the two links are a pair (amqp.md 3.3).
            ("com.microsoft:channel-correlation-id", Value::String(format!("twin:{}", Uuid::new_v4()))),
        ]);
        self.twin_retry_at = None;
        self.twin.attach(self.wire.driver.connection(), self.wire.session, true, Some(properties));
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn request(&mut self, id: &str, operation: &str, resource: Option<&'static str>, body: Bytes) {
        let text = |s: &str| Value::String(s.to_owned());
        let what = [("operation", text(operation))];
        let message = Message {
            properties: Some(MessageProperties::builder().correlation_id(id.to_owned()).build()),
            annotations: Some(annotations(
                what.into_iter().chain(resource.map(|resource| ("resource", text(resource)))),
            )),
            application_properties: None,
            body: Body::Data(body),
        };
        self.twin.send(self.wire.driver.connection(), message.encode(), true);
    }

    fn count_failure(&mut self, error: Error) -> Result<()> {
        self.link_failures += 1;
        if self.link_failures >= MAX_LINK_FAILURES {
            return Err(error);
        }
        let wait = Duration::from_millis(100 << self.link_failures);
        self.twin_retry_at = Some(Instant::now() + wait);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let renewal = match self.renewal {
            Renewal::Due(at) | Renewal::Sent { deadline: at, .. } => at,
        };
        let read = self.read.map(|(_, at)| at);
        let times = [Some(renewal), read, self.twin_retry_at, self.twin.deadline(), self.wire.cbs.deadline()];
        times.into_iter().flatten().min()
    }
}

/// Requests without content carry one space, as from Node and C (amqp.md 3.8).
fn blank() -> Bytes {
    Bytes::from_static(b" ")
}
