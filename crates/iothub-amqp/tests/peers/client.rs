//! Our engine as a client, one step after the other: every event is kept, and a test waits until it has seen
//! what it needs.

use std::{collections::HashMap, time::Duration};

use iothub_amqp::{
    Driver,
    message::Body,
    proto::{
        AttachOptions, CloseCause, Config, Connection, Credit, Delivery, Event, LinkId, Outcome, Outgoing,
        RemoteOpen, SessionId, Side,
    },
    sasl,
    serde_amqp::Value,
    types::{definitions::Error as AmqpError, performatives::Attach},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{limit, node, numbered};

pub(crate) struct Client<Io> {
    driver: Driver<Io>,
    pub(crate) session: SessionId,
    pub(crate) seen: Seen,
}

/// Everything that happened so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) opened: Option<RemoteOpen>,
    pub(crate) begun: Vec<SessionId>,
    pub(crate) attached: HashMap<LinkId, Attach>,
    pub(crate) detached: HashMap<LinkId, Option<AmqpError>>,
    pub(crate) ended: HashMap<SessionId, (Option<AmqpError>, Vec<LinkId>)>,
    pub(crate) messages: Vec<Delivery>,
    /// In the order they came.
    pub(crate) outcomes: Vec<(LinkId, u64, Outcome)>,
    pub(crate) settled_second: u32,
    pub(crate) closed: Option<CloseCause>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Client<Io> {
    /// Opens a connection and begins a session.
    pub(crate) async fn open(io: Io) -> Self {
        Self::open_with(io, Config::new("ours")).await
    }

    pub(crate) async fn open_with(mut io: Io, config: Config) -> Self {
        limit("the AMQP header", sasl::client(&mut io)).await.unwrap();
        let mut driver = Driver::new(io, Side::Client, config);
        let session = driver.connection().begin().unwrap();
        let mut client = Self { driver, session, seen: Seen::default() };
        client.until("open and begin", |seen| seen.opened.is_some() && !seen.begun.is_empty()).await;
        client
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        self.driver.connection()
    }

    /// Works on the connection until `done`.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Seen) -> bool) {
        while !done(&self.seen) {
            assert!(self.seen.closed.is_none(), "{what}: closed instead: {:?}", self.seen.closed);
            let event = limit(what, self.driver.next()).await;
            self.seen.note(event);
        }
    }

    /// Works on the connection while `other` runs.
    pub(crate) async fn during<F: Future>(&mut self, other: F) -> F::Output {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                output = &mut other => return output,
                event = self.driver.next() => self.seen.note(event),
            }
        }
    }

    /// Attaches a link; what the peer said when it refused.
    pub(crate) async fn attach(&mut self, options: AttachOptions) -> Result<LinkId, Option<AmqpError>> {
        let session = self.session;
        let link = self.connection().attach(session, options).unwrap();
        let decided = |seen: &Seen| seen.attached.contains_key(&link) || seen.detached.contains_key(&link);
        self.until("the answer to an attach", decided).await;
        match self.seen.detached.get(&link) {
            None => Ok(link),
            Some(error) => Err(error.clone()),
        }
    }

    pub(crate) async fn sender(&mut self, address: &str) -> LinkId {
        let name = format!("to {address} {}", self.seen.attached.len());
        self.attach(AttachOptions::sender(name, address)).await.unwrap()
    }

    pub(crate) async fn receiver(&mut self, address: &str, credit: Credit) -> LinkId {
        let name = format!("from {address} {}", self.seen.attached.len());
        self.attach(AttachOptions::receiver(name, address, credit)).await.unwrap()
    }

    /// Queues a message of `numbered.rs`; its token is its number.
    pub(crate) fn send(&mut self, link: LinkId, number: u32, size: usize) {
        let body = Body::Data(numbered::body(number, size).into());
        let message = Outgoing { token: u64::from(number), ..node::outgoing(body, false) };
        assert!(self.connection().send(link, message));
    }

    /// Tells the peer what to do, see `node.rs`.
    pub(crate) async fn control(&mut self, order: &str) {
        let link = self.sender("control").await;
        let message = node::outgoing(Body::Value(Value::String(order.to_owned())), true);
        assert!(self.connection().send(link, message));
    }

    /// The text of the only message at `tally`.
    pub(crate) async fn tally(&mut self) -> String {
        let link = self.receiver("tally", Credit::Auto(2)).await;
        self.until("the tally", |seen| seen.messages.iter().any(|m| m.link == link)).await;
        node::text(self.seen.messages.iter().find(|m| m.link == link).unwrap())
    }

    pub(crate) async fn close(self) {
        // A peer that does not agree would make it last as long as the limit.
        limit("close", self.driver.close(Duration::MAX)).await;
    }
}

impl Seen {
    fn note(&mut self, event: Event) {
        match event {
            Event::Opened(open) => self.opened = Some(open),
            Event::Begun(session) => self.begun.push(session),
            Event::Attached { link, attach } => drop(self.attached.insert(link, *attach)),
            Event::Detached { link, error } => drop(self.detached.insert(link, error)),
            Event::Ended { session, error, links } => drop(self.ended.insert(session, (error, links))),
            Event::Message(delivery) => self.messages.push(delivery),
            Event::Outcome { link, token, outcome } => self.outcomes.push((link, token, outcome)),
            Event::Settled { .. } => self.settled_second += 1,
            Event::Closed(cause) => self.closed = Some(cause),
            Event::AttachRequested { attach, .. } => panic!("the peer asks for {attach:?}"),
            _ => {}
        }
    }

    /// Outcomes on one link, in order.
    pub(crate) fn outcomes_on(&self, link: LinkId) -> Vec<(u64, Outcome)> {
        self.outcomes.iter().filter(|o| o.0 == link).map(|o| (o.1, o.2.clone())).collect()
    }

    pub(crate) fn messages_on(&self, link: LinkId) -> usize {
        self.messages.iter().filter(|m| m.link == link).count()
    }
}
