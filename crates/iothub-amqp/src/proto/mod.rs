//! Connections, sessions and links as state machines without I/O, for both ends of a connection.
//!
//! Frames and the time go in, frames and [`Event`]s come out, and [`Connection::poll_timeout`] says when to
//! come back. Nothing here waits, so tests need no network and both ends run the same code.
//!
//! Not done, since no IoT Hub client needs it: link resumption and transactions.

mod connection;
mod credit;
mod deliveries;
mod link;
mod session;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use bytes::Bytes;
use fe2o3_amqp_types::{
    definitions::{Error as AmqpError, Fields, ReceiverSettleMode, SenderSettleMode},
    messaging::{DeliveryState, Source, Target},
    performatives::Attach,
};

pub use connection::Connection;

/// Which end of the connection this is: who opens first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Sends `open` at once.
    Client,
    /// Answers the peer's `open`.
    Server,
}

/// What this end says about itself and what it accepts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this end, unique per connection.
    pub container_id: String,
    /// Host the client asked for; servers usually leave it out.
    pub hostname: Option<String>,
    /// Advertised idle time-out. The peer sends at least twice as often; silence of twice this time ends the
    /// connection. Zero: never.
    pub idle_timeout: Duration,
    /// Highest channel number accepted, so one less than the number of sessions.
    pub channel_max: u16,
    /// Highest link handle accepted in a session.
    pub handle_max: u32,
    /// Transfers a session takes before we say that it may go on.
    pub incoming_window: u32,
    /// Free properties of the `open`.
    pub properties: Option<Fields>,
    /// Leaves `next-incoming-id` out of every FLOW, which AMQP allows only before the peer's `begin` is known. For
    /// testing how a peer takes that.
    pub omit_next_incoming_id: bool,
}

impl Config {
    /// Sensible values under the given container id.
    pub fn new(container_id: impl Into<String>) -> Self {
        Self {
            container_id: container_id.into(),
            hostname: None,
            idle_timeout: Duration::from_secs(60),
            channel_max: 8191,
            handle_max: 1023,
            incoming_window: 5000,
            properties: None,
            omit_next_incoming_id: false,
        }
    }
}

/// A session of this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u16);

/// A link of this connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(crate) u32);

/// The peer's `open`.
#[derive(Debug, Clone)]
pub struct RemoteOpen {
    /// The peer's name.
    pub container_id: String,
    /// The host it asked for, on a server.
    pub hostname: Option<String>,
    /// Its idle time-out: it wants to hear from us within that time.
    pub idle_timeout: Option<Duration>,
    /// Its free properties.
    pub properties: Option<Fields>,
}

/// How credit is given on a link that receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// Only by [`Connection::grant`].
    Manual,
    /// Kept between half of this and this.
    Auto(u32),
}

/// A link this end asks for.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    /// Unique among the links in this direction of the session.
    pub name: String,
    /// Whether this end sends on it.
    pub sender: bool,
    /// Where messages come from.
    pub source: Option<Source>,
    /// Where messages go to.
    pub target: Option<Target>,
    /// Whether the sender settles.
    pub snd_settle_mode: SenderSettleMode,
    /// Whether the receiver waits for the sender to settle.
    pub rcv_settle_mode: ReceiverSettleMode,
    /// Free properties.
    pub properties: Option<Fields>,
    /// Credit, on a receiving link.
    pub credit: Credit,
    /// Largest message accepted on a receiving link, bytes.
    pub max_message_size: u64,
}

impl AttachOptions {
    /// A link that sends to `address`.
    pub fn sender(name: impl Into<String>, address: impl Into<String>) -> Self {
        let target = Target::builder().address(address.into()).build();
        Self { sender: true, target: Some(target), ..Self::new(name.into()) }
    }

    /// A link that receives from `address`.
    pub fn receiver(name: impl Into<String>, address: impl Into<String>, credit: Credit) -> Self {
        let source = Source::builder().address(address.into()).build();
        Self { source: Some(source), credit, ..Self::new(name.into()) }
    }

    fn new(name: String) -> Self {
        Self {
            name,
            sender: false,
            source: Some(Source::default()),
            target: Some(Target::default()),
            snd_settle_mode: SenderSettleMode::Mixed,
            rcv_settle_mode: ReceiverSettleMode::First,
            properties: None,
            credit: Credit::Manual,
            max_message_size: 1 << 20,
        }
    }
}

/// How this end answers a link the peer asked for.
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    /// Credit, where the peer sends.
    pub credit: Credit,
    /// Largest message, bytes; always written, since the C SDK reads an absent one as zero (amqp.md 3.2).
    pub max_message_size: u64,
    /// Free properties.
    pub properties: Option<Fields>,
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Encoded sections.
    pub payload: Bytes,
    /// 0, or the batch format.
    pub format: u32,
    /// Up to 32 bytes; a counter when absent.
    pub tag: Option<Bytes>,
    /// Fire and forget: no [`Event::Outcome`] follows.
    pub settled: bool,
    /// Comes back in [`Event::Outcome`].
    pub token: u64,
}

/// A message received.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The link it came on.
    pub link: LinkId,
    /// What [`Connection::dispose`] needs.
    pub id: u32,
    /// The sender's tag.
    pub tag: Bytes,
    /// 0, or the batch format.
    pub format: u32,
    /// The sender wants no outcome.
    pub settled: bool,
    /// Larger than the link allows: the payload was dropped, and an outcome is still due.
    pub oversized: bool,
    /// Encoded sections.
    pub payload: Bytes,
}

/// How a message we sent ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The peer has it.
    Accepted,
    /// The peer refused it.
    Rejected(Option<AmqpError>),
    /// The peer gave it back.
    Released,
    /// The peer gave it back, changed or as failed.
    Modified,
    /// The peer settled and said nothing more.
    Settled,
    /// The link, session or connection ended first.
    Lost {
        /// Whether any byte of it was handed to the peer.
        sent: bool,
    },
}

impl Outcome {
    fn from_state(state: Option<DeliveryState>) -> Option<Self> {
        match state {
            Some(DeliveryState::Accepted(_)) => Some(Self::Accepted),
            Some(DeliveryState::Rejected(r)) => Some(Self::Rejected(r.error)),
            Some(DeliveryState::Released(_)) => Some(Self::Released),
            Some(DeliveryState::Modified(_)) => Some(Self::Modified),
            Some(DeliveryState::Received(_)) | None => None,
        }
    }
}

/// Why a connection is over.
#[derive(Debug)]
pub enum CloseCause {
    /// We closed it and the peer agreed.
    Requested,
    /// The peer closed it.
    Remote(Option<AmqpError>),
    /// The peer broke the protocol; we closed it.
    Protocol(String),
    /// The peer was silent for twice the idle time-out.
    IdleTimeout,
    /// The byte stream ended or failed.
    Io(io::Error),
}

/// What happened, in the order it happened.
#[derive(Debug)]
pub enum Event {
    /// The peer's `open` is here.
    Opened(RemoteOpen),
    /// A session is up: ours was answered, or the peer began one.
    Begun(SessionId),
    /// The peer wants a link: [`Connection::accept`] or [`Connection::refuse`] it.
    AttachRequested {
        /// The new link.
        link: LinkId,
        /// Its session.
        session: SessionId,
        /// What the peer said.
        attach: Box<Attach>,
    },
    /// The peer granted a link we asked for.
    Attached {
        /// Our link.
        link: LinkId,
        /// The peer's answer.
        attach: Box<Attach>,
    },
    /// A link is over. Every message on it had its outcome before.
    Detached {
        /// The link, which is gone now.
        link: LinkId,
        /// What the peer complained about.
        error: Option<AmqpError>,
    },
    /// A session and its links are over. Every message had its outcome before.
    Ended {
        /// The session, which is gone now.
        session: SessionId,
        /// What the peer complained about.
        error: Option<AmqpError>,
        /// The links that went with it.
        links: Vec<LinkId>,
    },
    /// A message arrived.
    Message(Delivery),
    /// How a message we sent ended.
    Outcome {
        /// The link it was sent on.
        link: LinkId,
        /// [`Outgoing::token`].
        token: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// The peer takes more messages on a link we send on: there is credit for which nothing is queued.
    Credit {
        /// The link; [`Connection::credit`] says how much.
        link: LinkId,
    },
    /// The sender settled what we answered unsettled (rcv-settle-mode second).
    Settled {
        /// The link.
        link: LinkId,
        /// [`Delivery::id`].
        delivery: u32,
        /// What the sender made of our outcome.
        state: Option<DeliveryState>,
    },
    /// The connection is over; nothing follows.
    Closed(CloseCause),
}
