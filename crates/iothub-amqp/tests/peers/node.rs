//! Our engine as a server that foreign clients are let loose on. What it does depends on the address:
//!
//! | Client sends to | and gets |
//! |---|---|
//! | `accept`, `reject`, `release` | that outcome for every message; `reject` says `amqp:not-allowed`, "as asked" |
//! | `one-by-one` | credit for one message at a time, all accepted |
//! | `hold` | no outcome |
//! | `control` | done what the text body says: `detach` the `hold` links, `end` the session, `close` the connection (each with `amqp:internal-error`, "as asked"), or `cut` the stream |
//!
//! | Client receives from | and gets |
//! |---|---|
//! | `numbered/COUNT/SIZE` | COUNT messages of `numbered.rs` with SIZE bytes each |
//! | `settled/COUNT/SIZE` | the same, settled by the sender |
//! | `tally` | one message, the text `accepted=A rejected=B released=C lost=D`: what became of all of these, once each has an outcome |
//!
//! Anything else is refused with `amqp:not-found`, "no such node".

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use iothub_amqp::{
    Driver,
    message::{Body, Message},
    proto::{
        AcceptOptions, CloseCause, Config, Credit, Delivery, Event, LinkId, Outcome, Outgoing, RemoteOpen,
        Side,
    },
    sasl,
    serde_amqp::Value,
    types::{
        definitions::{AmqpError as Condition, Error as AmqpError, ReceiverSettleMode},
        messaging::{Accepted, DeliveryState, Rejected, Released, TargetArchetype},
        performatives::Attach,
    },
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{LIMIT, numbered};

/// What the node saw of one connection.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The SASL mechanism, `None` for a bare header.
    pub(crate) mechanism: Option<String>,
    pub(crate) opened: Option<RemoteOpen>,
    /// Messages by address; they came whole and in order, starting with 0 on each link.
    pub(crate) taken: HashMap<String, u32>,
    pub(crate) tally: Tally,
    /// Messages the client settled after our unsettled outcome.
    pub(crate) settled_second: u32,
    /// Links the client closed.
    pub(crate) detached: u32,
    /// Sessions the client ended.
    pub(crate) ended: u32,
    /// `None` after `cut`.
    pub(crate) closed: Option<CloseCause>,
}

/// What became of the messages that the node sent.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Tally {
    pub(crate) accepted: u32,
    pub(crate) rejected: u32,
    pub(crate) released: u32,
    pub(crate) lost: u32,
}

/// Serves one connection until it is over.
pub(crate) async fn serve<Io: AsyncRead + AsyncWrite + Unpin>(io: Io) -> Report {
    serve_with(io, Config::new("node"), LIMIT).await
}

/// Serves one connection, which must be over within `longest`.
pub(crate) async fn serve_with<Io>(mut io: Io, config: Config, longest: Duration) -> Report
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let login = |login: sasl::Login| {
        let password = login.mechanism != "PLAIN" || login.response == b"\0user\0secret";
        password.then_some(login.mechanism)
    };
    let mechanism = match sasl::server(&mut io, &["ANONYMOUS", "PLAIN"], LIMIT, login).await {
        Ok(mechanism) => mechanism,
        Err(error) => return Report { closed: Some(CloseCause::Io(error)), ..Report::default() },
    };
    let node = Node {
        driver: Driver::new(io, Side::Server, config),
        links: HashMap::new(),
        waiting: 0,
        asked: Vec::new(),
        report: Report { mechanism, ..Report::default() },
    };
    tokio::time::timeout(longest, node.run()).await.expect("a connection goes on and on")
}

struct Node<Io> {
    driver: Driver<Io>,
    links: HashMap<LinkId, Link>,
    /// Messages out without an outcome.
    waiting: u32,
    /// Links that want the tally.
    asked: Vec<LinkId>,
    report: Report,
}

struct Link {
    address: String,
    /// The client sends with rcv-settle-mode second.
    second: bool,
    /// Messages so far.
    count: u32,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Node<Io> {
    async fn run(mut self) -> Report {
        loop {
            match self.driver.next().await {
                Event::Opened(open) => self.report.opened = Some(open),
                Event::AttachRequested { link, attach, .. } => self.attach(link, &attach),
                Event::Message(delivery) if self.links[&delivery.link].address == "control" => {
                    let text = text(&delivery);
                    self.dispose(&delivery, DeliveryState::Accepted(Accepted {}));
                    if text == "cut" {
                        return self.report;
                    }
                    self.obey(&text, delivery.link);
                }
                Event::Message(delivery) => self.take(&delivery),
                Event::Outcome { outcome, .. } => {
                    self.report.tally.count(&outcome);
                    self.waiting -= 1;
                    self.tell();
                }
                Event::Settled { .. } => self.report.settled_second += 1,
                Event::Detached { .. } => self.report.detached += 1,
                Event::Ended { .. } => self.report.ended += 1,
                Event::Closed(cause) => {
                    self.report.closed = Some(cause);
                    self.driver.finish(LIMIT).await;
                    return self.report;
                }
                _ => {}
            }
        }
    }

    fn attach(&mut self, id: LinkId, attach: &Attach) {
        let address = address(attach);
        let credit = match address.as_str() {
            // So much that only session flows keep the client going.
            "accept" => Credit::Auto(20_000),
            "reject" | "release" | "hold" | "control" => Credit::Auto(100),
            "one-by-one" | "tally" => Credit::Manual,
            other if batch(other).is_some() => Credit::Manual,
            _ => return self.driver.connection().refuse(id, error(Condition::NotFound, "no such node")),
        };
        let options = AcceptOptions { credit, max_message_size: 4 << 20, properties: None };
        let connection = self.driver.connection();
        connection.accept(id, options);
        if address == "one-by-one" {
            connection.grant(id, 1);
        } else if address == "tally" {
            self.asked.push(id);
        } else if let Some((settled, count, size)) = batch(&address) {
            self.waiting += if settled { 0 } else { count };
            for number in 0..count {
                connection.send(id, outgoing(Body::Data(numbered::body(number, size).into()), settled));
            }
        }
        let second = attach.rcv_settle_mode == ReceiverSettleMode::Second;
        self.links.insert(id, Link { address, second, count: 0 });
        self.tell();
    }

    /// Answers those who asked for the tally once it is whole.
    fn tell(&mut self) {
        if self.waiting > 0 {
            return;
        }
        let Tally { accepted, rejected, released, lost } = &self.report.tally;
        let text = format!("accepted={accepted} rejected={rejected} released={released} lost={lost}");
        for id in self.asked.drain(..) {
            self.driver.connection().send(id, outgoing(Body::Value(Value::String(text.clone())), true));
        }
    }

    fn take(&mut self, delivery: &Delivery) {
        assert!(!delivery.oversized);
        let Some(link) = self.links.get_mut(&delivery.link) else { panic!("a message on an unknown link") };
        let number = numbered::number(&body(delivery));
        assert_eq!(number, Some(link.count), "messages on {} must be whole and in order", link.address);
        link.count += 1;
        *self.report.taken.entry(link.address.clone()).or_default() += 1;
        let state = match link.address.as_str() {
            "hold" => return,
            "reject" => {
                let error = Some(error(Condition::NotAllowed, "as asked"));
                DeliveryState::Rejected(Rejected { error })
            }
            "release" => DeliveryState::Released(Released {}),
            _ => DeliveryState::Accepted(Accepted {}),
        };
        if link.address == "one-by-one" {
            self.driver.connection().grant(delivery.link, 1);
        }
        self.dispose(delivery, state);
    }

    fn dispose(&mut self, delivery: &Delivery, state: DeliveryState) {
        let second = self.links[&delivery.link].second;
        let done = self.driver.connection().dispose(delivery.link, delivery.id, state, !second);
        assert_eq!(done, !delivery.settled, "an outcome is due exactly for unsettled messages");
    }

    fn obey(&mut self, order: &str, from: LinkId) {
        let why = error(Condition::InternalError, "as asked");
        let connection = self.driver.connection();
        match order {
            "detach" => {
                let held = self.links.iter().filter(|(_, link)| link.address == "hold");
                held.for_each(|(id, _)| connection.detach(*id, Some(why.clone())));
            }
            "end" => {
                let session = connection.session_of(from).unwrap();
                connection.end(session, Some(why));
            }
            "close" => connection.close(Some(why)),
            other => panic!("no such order: {other}"),
        }
    }
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Rejected(_) => self.rejected += 1,
            Outcome::Released => self.released += 1,
            Outcome::Lost { .. } => self.lost += 1,
            other => panic!("unexpected outcome {other:?}"),
        }
    }
}

pub(crate) fn error(condition: Condition, text: &str) -> AmqpError {
    AmqpError::new(condition, text.to_owned(), None)
}

/// `numbered/COUNT/SIZE` or `settled/COUNT/SIZE`: whether settled, count and size.
pub(crate) fn batch(address: &str) -> Option<(bool, u32, usize)> {
    let (kind, rest) = address.split_once('/')?;
    let (count, size) = rest.split_once('/')?;
    let settled = match kind {
        "numbered" => false,
        "settled" => true,
        _ => return None,
    };
    Some((settled, count.parse().ok()?, size.parse().ok()?))
}

/// The address at our end.
pub(crate) fn address(attach: &Attach) -> String {
    let source = attach.source.as_ref().and_then(|s| s.address.clone());
    let target = match attach.target.as_deref() {
        Some(TargetArchetype::Target(target)) => target.address.clone(),
        _ => None,
    };
    let client_sends = attach.role == iothub_amqp::types::definitions::Role::Sender;
    (if client_sends { target } else { source }).unwrap_or_default()
}

pub(crate) fn body(delivery: &Delivery) -> Bytes {
    Message::decode(&delivery.payload).unwrap().body.into_bytes().unwrap()
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(body(delivery).to_vec()).unwrap()
}

pub(crate) fn outgoing(body: Body, settled: bool) -> Outgoing {
    let payload = Message { body, ..Message::default() }.encode();
    Outgoing { payload, format: 0, tag: None, settled, token: 0 }
}
