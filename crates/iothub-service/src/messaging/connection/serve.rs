//! While the connection is up: links as they are needed, messages out and in, their outcomes, token renewal.

use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use iothub_amqp::client::{Due, TokenEvent, close_error, link_error};
use iothub_amqp::message::fields;
use iothub_amqp::proto::{AttachOptions, Delivery, Event, LinkId, Outgoing};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::definitions::Error as AmqpError;
use iothub_amqp::types::messaging::Accepted;
use iothub_amqp::types::performatives::Attach;
use iothub_common::{Error, ErrorKind, Result, Subject};
use tokio::time::Instant;
use uuid::Uuid;

use super::actor::{Actor, lock_lost, wait_until};
use super::attachment::{Attachment, Next, STOLEN};
use super::connect::{KEY, Proof, Wire, proof};
use super::mailbox::Item;
use super::settlements::{DeliveryName, Lock, Settlement, Verdict};
use super::settling::Settling;
use super::{USER_AGENT, closed_error};

/// Where messages to devices go (amqp.md 5.1).
const DEVICE_BOUND: &str = "/messages/devicebound";
/// How long the hub may take to agree to the end of the connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// A question of our own.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);
/// Commands taken before they are acted on, so that they share a write.
const COMMANDS_PER_WRITE: usize = 128;

/// Events taken before what follows from them is started.
const EVENTS_PER_PUMP: usize = 64;

/// How serving ended.
pub(super) enum Ended {
    /// The application closed the connection or dropped its last handle.
    Closed,
    Lost(Error),
}

/// Everything that belongs to one connection.
struct Up {
    wire: Wire,
    /// The link for messages to devices.
    sender: Attachment,
    settling: Settling,
    /// A new token that is being fetched, and the turn it is for.
    renewing: Option<BoxFuture<'static, Result<Proof>>>,
    due: Option<Due>,
}

impl Actor {
    pub(super) async fn serve(&mut self, wire: Wire) -> Ended {
        let mut up = Up {
            wire,
            sender: Attachment::new(&self.settings.retry),
            settling: Settling::default(),
            renewing: None,
            due: None,
        };
        let ended = loop {
            self.pump(&mut up);
            let deadline = [self.next_deadline(), self.link_deadline(&up)].into_iter().flatten().min();
            // In no order: a hub that sends without a pause delays neither calls nor tokens.
            let result = tokio::select! {
                () = self.shutdown.cancelled() => break Ended::Closed,
                event = up.wire.driver.next() => self.on_events(&mut up, event),
                command = self.commands.recv() => {
                    let Some(command) = command else { break Ended::Closed };
                    self.take(command);
                    self.take_more();
                    Ok(())
                }
                () = self.wake.notified() => Ok(()),
                proof = proof_of(&mut up.renewing) => self.on_proof(&mut up, proof),
                () = wait_until(deadline) => self.on_timer(&mut up),
            };
            if let Err(error) = result {
                break Ended::Lost(error);
            }
        };
        match &ended {
            Ended::Closed => {
                // Outcomes that were given before the end still go out.
                self.settle(&mut up);
                self.connection_over(&mut up, &closed_error());
                up.wire.driver.close(CLOSE_LIMIT).await;
            }
            Ended::Lost(error) => {
                // The peer is told if it still listens; nothing waits for its agreement.
                up.wire.driver.connection().close(None);
                self.connection_over(&mut up, error);
                up.wire.driver.finish(Duration::ZERO).await;
            }
        }
        ended
    }

    fn take_more(&mut self) {
        for _ in 1..COMMANDS_PER_WRITE {
            let Ok(command) = self.commands.try_recv() else { return };
            self.take(command);
        }
    }

    /// Starts whatever can be started.
    fn pump(&mut self, up: &mut Up) {
        let now = Instant::now();
        self.settle(up);
        self.pump_sender(up, now);
        self.pump_receivers(up, now);
        let session = up.wire.tokens.session();
        self.requests.pump(up.wire.driver.connection(), session, now);
    }

    /// Hands over only what the hub has asked for: the rest can still be taken back.
    fn pump_sender(&mut self, up: &mut Up, now: Instant) {
        if self.outbox.is_empty() {
            return;
        }
        let (session, connection) = (up.wire.tokens.session(), up.wire.driver.connection());
        if up.sender.may_attach(now) {
            let properties = fields([("com.microsoft:client-version", Value::String(USER_AGENT.to_owned()))]);
            let name = format!("sender-{}", Uuid::new_v4());
            let options =
                AttachOptions { properties: Some(properties), ..AttachOptions::sender(name, DEVICE_BOUND) };
            if let Some(link) = connection.attach(session, options) {
                up.sender.attaching(link, now);
            }
        }
        let Some(link) = up.sender.ready() else { return };
        while connection.credit(link) as usize > connection.queued(link) {
            let Some((token, payload)) = self.outbox.start_next(now) else { return };
            connection.send(link, Outgoing { payload, format: 0, tag: None, settled: false, token });
        }
    }

    fn pump_receivers(&mut self, up: &mut Up, now: Instant) {
        let (session, connection) = (up.wire.tokens.session(), up.wire.driver.connection());
        let token = up.wire.token.reveal();
        self.receivers.retain(|_, receiver| {
            if receiver.mailbox.is_over() {
                if let Some(link) = receiver.attachment.link() {
                    connection.detach(link, None);
                }
                return false;
            }
            if receiver.attachment.may_attach(now)
                && let Some((question, reply)) = receiver.question(token)
            {
                self.requests.push(question, now + QUESTION_LIMIT, reply);
            }
            if receiver.attachment.may_attach(now)
                && receiver.knows_its_log()
                && let Some(link) = connection.attach(session, receiver.options())
            {
                receiver.attachment.attaching(link, now);
            }
            if let Some(link) = receiver.attachment.ready()
                && let Some(credit) = receiver.mailbox.more_credit(receiver.source, connection.credit(link))
            {
                connection.grant(link, credit);
            }
            true
        });
    }

    /// Takes an event and those that are there already.
    fn on_events(&mut self, up: &mut Up, event: Event) -> Result<()> {
        self.on_event(up, event)?;
        for _ in 1..EVENTS_PER_PUMP {
            let Some(event) = up.wire.driver.next().now_or_never() else { break };
            self.on_event(up, event)?;
        }
        Ok(())
    }

    fn on_event(&mut self, up: &mut Up, event: Event) -> Result<()> {
        let settings = self.settings.clone();
        let subject = Subject::Hub(&settings.endpoint.host);
        let connection = up.wire.driver.connection();
        if let Some(about_token) = up.wire.tokens.on_event(connection, &event, &subject) {
            return match about_token? {
                Some(TokenEvent::Refused { status, description, .. }) => {
                    Err(TokenEvent::refusal(status, &description, &subject))
                }
                Some(TokenEvent::Accepted { .. }) | None => Ok(()),
            };
        }
        if self.requests.on_event(connection, &event, &subject, Instant::now()) {
            return Ok(());
        }
        match event {
            Event::Message(delivery) => self.on_message(up, delivery),
            Event::Outcome { token, outcome, .. } => {
                if self.outbox.on_outcome(token, outcome, Instant::now()) {
                    up.sender.works();
                }
            }
            Event::Settled { link, delivery, state } => up.settling.done(link, delivery, state.as_ref()),
            Event::Attached { link, attach } => self.on_attached(up, link, &attach),
            Event::Detached { link, error } => self.on_detached(up, link, error.as_ref()),
            Event::Ended { error, .. } => return Err(link_error(error.as_ref(), &subject)),
            Event::Closed(cause) => return Err(close_error(cause, &settings.endpoint, &subject)),
            Event::AttachRequested { link, .. } => {
                let refusal = iothub_amqp::amqp_error("amqp:not-allowed", "clients take no links");
                connection.refuse(link, refusal);
            }
            Event::Opened(_) | Event::Begun(_) | Event::Credit { .. } => {}
        }
        Ok(())
    }

    fn on_attached(&mut self, up: &mut Up, link: LinkId, attach: &Attach) {
        let now = Instant::now();
        if up.sender.link() == Some(link) {
            return up.sender.up(link, now);
        }
        let Some(receiver) = self.receivers.values_mut().find(|receiver| receiver.owns(link)) else { return };
        receiver.up(link, &attach.rcv_settle_mode, now);
        let credit = receiver.mailbox.first_credit(receiver.source);
        if credit > 0 {
            up.wire.driver.connection().grant(link, credit);
        }
    }

    fn on_detached(&mut self, up: &mut Up, link: LinkId, error: Option<&AmqpError>) {
        let now = Instant::now();
        let settings = self.settings.clone();
        let condition = error.map(iothub_amqp::condition);
        let error = link_error(error, &Subject::Hub(&settings.endpoint.host));
        up.settling.lost(Some(link));
        let next = if up.sender.link() == Some(link) {
            self.outbox.on_lost(&error);
            let next = up.sender.lost(condition.as_deref(), &error, now);
            if next == Next::Never {
                self.outbox.fail_all(&error);
                up.sender = Attachment::new(&settings.retry);
            }
            next
        } else {
            let found = self.receivers.iter_mut().find(|(_, receiver)| receiver.owns(link));
            let Some((number, receiver)) = found.map(|(number, receiver)| (*number, receiver)) else {
                return;
            };
            let next = receiver.attachment.lost(condition.as_deref(), &error, now);
            if next == Next::Never
                && let Some(receiver) = self.receivers.remove(&number)
            {
                receiver.end(Some(match condition.as_deref() {
                    Some(STOLEN) => stolen(&error),
                    _ => error.clone(),
                }));
            }
            next
        };
        tracing::info!(endpoint = %settings.endpoint, %error, ?next, "a link was lost");
        if next == Next::NewToken {
            self.renew(up);
        }
    }

    fn on_message(&mut self, up: &mut Up, delivery: Delivery) {
        let connection = up.wire.driver.connection();
        let found = self.receivers.iter_mut().find(|(_, receiver)| receiver.owns(delivery.link));
        let Some((number, receiver)) = found else {
            // The reader has just gone. Its link is about to be closed, which releases the message.
            return;
        };
        let lock = (receiver.is_queue() && !delivery.settled).then(|| {
            let name = DeliveryName { connection: self.connections, link: delivery.link, id: delivery.id };
            Lock::new(name, self.settlements.clone())
        });
        if lock.is_none() && !delivery.settled {
            // Events stay where they are; this only tells the hub that we have seen it.
            connection.dispose(delivery.link, delivery.id, Accepted {}.into(), true);
        }
        let read = match delivery.oversized {
            true => Err(Error::new(ErrorKind::Protocol, "the hub sent a message that is too large")),
            false => receiver.read(&delivery.payload),
        };
        match read {
            Ok(Some(message)) => receiver.mailbox.push(Item { source: receiver.source, message, lock }),
            Ok(None) => {}
            Err(error) => {
                // Handed out again, it would end the next stream as well.
                if let Some(lock) = lock {
                    lock.settle_unheard(Verdict::Reject);
                }
                connection.detach(delivery.link, None);
                let number = *number;
                if let Some(receiver) = self.receivers.remove(&number) {
                    receiver.end(Some(error));
                }
            }
        }
    }

    /// Passes on the outcomes of messages.
    fn settle(&mut self, up: &mut Up) {
        for Settlement { delivery, verdict, waiter } in self.settlements.take() {
            let current = delivery.connection == self.connections;
            let receiver = self.receivers.values().find(|receiver| receiver.owns(delivery.link));
            let confirms = receiver.is_some_and(|receiver| receiver.confirms);
            // Without a waiter nothing is gained by hearing of it.
            let settled = !confirms || waiter.is_none();
            let connection = up.wire.driver.connection();
            let done = current && connection.dispose(delivery.link, delivery.id, verdict.state(), settled);
            let Some((reply, deadline)) = waiter else { continue };
            if !done {
                reply.send(Err(lock_lost())).ok();
            } else if settled {
                reply.send(Ok(())).ok();
            } else {
                up.settling.insert(delivery.link, delivery.id, reply, deadline);
            }
        }
    }

    fn link_deadline(&self, up: &Up) -> Option<Instant> {
        let sender = up.sender.deadline().filter(|_| !self.outbox.is_empty());
        let receivers = self.receivers.values().filter_map(|receiver| receiver.attachment.deadline()).min();
        [up.wire.tokens.next_deadline(), sender, receivers, up.settling.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_timer(&mut self, up: &mut Up) -> Result<()> {
        let now = Instant::now();
        self.expire(now);
        up.settling.expire(now);
        let late = up.sender.is_late(now)
            || self.requests.is_late(now)
            || self.receivers.values().any(|receiver| receiver.attachment.is_late(now));
        if late {
            let message = format!("{} does not answer on its links", self.settings.endpoint);
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        if let Some(due) = up.wire.tokens.on_timer(now)?.pop() {
            up.due = Some(due);
            self.renew(up);
        }
        Ok(())
    }

    /// Fetches a token to show on the same links; nothing else notices (amqp.md 2.5).
    fn renew(&self, up: &mut Up) {
        let settings = self.settings.clone();
        up.renewing = Some(Box::pin(async move { proof(&settings.credentials).await }));
    }

    fn on_proof(&self, up: &mut Up, proof: Result<Proof>) -> Result<()> {
        let (proof, token) = proof?;
        up.wire.token = token;
        let (connection, audience) = (up.wire.driver.connection(), &self.settings.audience);
        tracing::debug!(endpoint = %self.settings.endpoint, "showing a new token");
        match up.due.take() {
            Some(due) => up.wire.tokens.send(connection, due, &proof, audience),
            None => up.wire.tokens.put(connection, KEY, &proof, audience),
        }
    }

    /// What was on its way learns that it is lost.
    fn connection_over(&mut self, up: &mut Up, error: &Error) {
        while let Some(event) = up.wire.driver.connection().poll_event() {
            if let Event::Outcome { token, outcome, .. } = event {
                self.outbox.on_outcome(token, outcome, Instant::now());
            }
        }
        self.outbox.on_lost(error);
        self.requests.disconnected();
        for receiver in self.receivers.values_mut() {
            receiver.disconnected();
        }
        up.settling.lost(None);
    }
}

/// The codes beside this condition say other things elsewhere.
fn stolen(error: &Error) -> Error {
    Error::new(ErrorKind::Unavailable, "another reader, with an owner level, has it to itself")
        .with_hub_code(STOLEN)
        .with_source(error.clone())
}

async fn proof_of(renewing: &mut Option<BoxFuture<'static, Result<Proof>>>) -> Result<Proof> {
    let Some(future) = renewing.as_mut() else { return std::future::pending().await };
    let proof = future.await;
    *renewing = None;
    proof
}
