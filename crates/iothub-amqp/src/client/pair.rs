//! A sender and a receiver that belong together: `$cbs`, twin, methods, `$management`.

use std::time::Duration;

use crate::{
    message::Message,
    proto::{AttachOptions, Connection, Credit, Event, LinkId, Outcome, Outgoing, SessionId},
    types::{
        definitions::{Error as AmqpError, Fields, SenderSettleMode},
        messaging::Target,
    },
};
use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

/// Answers and notifications the hub may send before it hears from us again.
const CREDIT: u32 = 200;
/// How long the hub may take to answer an attach.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);

/// The two links to one address.
#[derive(Debug)]
pub struct Pair {
    address: String,
    reply_to: Option<String>,
    sender: Option<LinkId>,
    receiver: Option<LinkId>,
    attached: u8,
    give_up_at: Option<Instant>,
}

/// What an event meant for a pair.
#[derive(Debug)]
pub enum Change {
    /// It was about something else.
    None,
    /// It was about this pair and changed nothing to be acted on.
    Noted,
    /// Both links are up now.
    Ready,
    /// How a message that was sent ended.
    Outcome {
        /// The token of [`Pair::send_tracked`].
        token: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A message came in.
    Message(Box<Message>),
    /// The links are gone; the other one, if any, was given up as well.
    Lost(Option<AmqpError>),
}

impl Pair {
    /// A pair that is not attached yet.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            reply_to: None,
            sender: None,
            receiver: None,
            attached: 0,
            give_up_at: None,
        }
    }

    /// Names the place where answers arrive: Event Hubs looks for the request's `reply-to` among the targets of
    /// the links it sends on, where the hub goes by the connection (amqp.md 5.7).
    pub fn reply_to(mut self, address: impl Into<String>) -> Self {
        self.reply_to = Some(address.into());
        self
    }

    /// Whether the links are neither there nor asked for.
    pub fn is_down(&self) -> bool {
        self.sender.is_none()
    }

    /// Whether both links are up.
    pub fn is_ready(&self) -> bool {
        self.attached == 2
    }

    /// When an attach has taken too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.give_up_at
    }

    /// Asks for both links at once. `settled`: messages are not acknowledged one by one, as on twin links.
    pub fn attach(
        &mut self,
        connection: &mut Connection,
        session: SessionId,
        settled: bool,
        properties: Option<Fields>,
    ) {
        self.attach_with(connection, session, settled, [properties.clone(), properties]);
    }

    /// As [`Pair::attach`], with properties for the sender and for the receiver.
    pub fn attach_with(
        &mut self,
        connection: &mut Connection,
        session: SessionId,
        settled: bool,
        [sender_properties, receiver_properties]: [Option<Fields>; 2],
    ) {
        let unique = Uuid::new_v4();
        let snd_settle_mode = if settled { SenderSettleMode::Settled } else { SenderSettleMode::Mixed };
        let sender = AttachOptions {
            snd_settle_mode: snd_settle_mode.clone(),
            properties: sender_properties,
            ..AttachOptions::sender(format!("sender-{unique}"), &self.address)
        };
        let target = Target { address: self.reply_to.clone(), ..Target::default() };
        let receiver = AttachOptions {
            snd_settle_mode,
            properties: receiver_properties,
            target: Some(target),
            ..AttachOptions::receiver(format!("receiver-{unique}"), &self.address, Credit::Auto(CREDIT))
        };
        self.attached = 0;
        self.sender = connection.attach(session, sender);
        self.receiver = connection.attach(session, receiver);
        self.give_up_at = Some(Instant::now() + ATTACH_LIMIT);
    }

    /// Queues a request. It waits for the attach and for credit by itself.
    pub fn send(&self, connection: &mut Connection, payload: Bytes, settled: bool) -> bool {
        self.send_tracked(connection, payload, settled, 0)
    }

    /// Queues a message whose outcome is of interest: [`Change::Outcome`] with `token` follows.
    pub fn send_tracked(
        &self,
        connection: &mut Connection,
        payload: Bytes,
        settled: bool,
        token: u64,
    ) -> bool {
        let message = Outgoing { payload, format: 0, tag: None, settled, token };
        self.sender.is_some_and(|sender| connection.send(sender, message))
    }

    /// The links went with their session.
    pub fn forget(&mut self) {
        self.sender = None;
        self.receiver = None;
        self.attached = 0;
        self.give_up_at = None;
    }

    /// Gives both links up.
    pub fn detach(&mut self, connection: &mut Connection) {
        for link in [self.sender.take(), self.receiver.take()].into_iter().flatten() {
            connection.detach(link, None);
        }
        self.forget();
    }

    /// Takes an event. Messages that came unsettled are accepted.
    pub fn on_event(&mut self, connection: &mut Connection, event: &Event) -> Change {
        match event {
            Event::Attached { link, .. } if self.owns(*link) => {
                self.attached += 1;
                if !self.is_ready() {
                    return Change::Noted;
                }
                self.give_up_at = None;
                Change::Ready
            }
            Event::Detached { link, error } if self.owns(*link) => {
                self.detach(connection);
                Change::Lost(error.clone())
            }
            Event::Message(delivery) if self.receiver == Some(delivery.link) => {
                if !delivery.settled {
                    let accepted = crate::types::messaging::Accepted {};
                    connection.dispose(delivery.link, delivery.id, accepted.into(), true);
                }
                match Message::decode(&delivery.payload) {
                    Ok(message) => Change::Message(Box::new(message)),
                    Err(error) => {
                        tracing::warn!(address = self.address, %error, "an answer could not be read");
                        Change::Noted
                    }
                }
            }
            Event::Outcome { link, token, outcome } if self.owns(*link) => {
                Change::Outcome { token: *token, outcome: outcome.clone() }
            }
            _ => Change::None,
        }
    }

    /// The links, for a table of who owns which.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        [self.sender, self.receiver].into_iter().flatten()
    }

    fn owns(&self, link: LinkId) -> bool {
        self.sender == Some(link) || self.receiver == Some(link)
    }
}
