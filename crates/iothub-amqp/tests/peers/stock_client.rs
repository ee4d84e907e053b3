//! Our engine as the server of fe2o3-amqp's own client. The server is `node.rs`.

use fe2o3_amqp::{
    Connection, Receiver, Sendable, Sender, Session,
    connection::{ConnectionHandle, Error as ConnectionError, OpenError},
    link::{DetachError, ReceiverAttachError, SendError, SenderAttachError, receiver::CreditMode},
    sasl_profile::SaslProfile,
    session::{Error as SessionError, SessionHandle},
    types::{
        definitions::{AmqpError as Condition, Error as AmqpError, ReceiverSettleMode},
        messaging::{Body, Data, Message, Outcome},
        primitives::Value,
        sasl::SaslCode,
    },
};
use futures_util::future::join_all;
use iothub_amqp::proto::CloseCause;
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
};

use crate::{
    limit,
    node::{self, Report, Tally},
    numbered,
};

struct Stock {
    connection: ConnectionHandle<()>,
    session: SessionHandle<()>,
    node: JoinHandle<Report>,
}

impl Stock {
    async fn open() -> Self {
        Self::open_with(65_536).await
    }

    async fn open_with(max_frame_size: u32) -> Self {
        let (io, node) = start();
        let mut connection = Connection::builder()
            .container_id("stock")
            .hostname("hub.example.net")
            .max_frame_size(max_frame_size)
            .open_with_stream(io)
            .await
            .unwrap();
        let session = limit("begin", Session::begin(&mut connection)).await.unwrap();
        Self { connection, session, node }
    }

    async fn sender(&mut self, address: &str) -> Sender {
        limit("attach", Sender::attach(&mut self.session, address, address)).await.unwrap()
    }

    async fn receiver(&mut self, address: &str) -> Receiver {
        limit("attach", Receiver::attach(&mut self.session, address, address)).await.unwrap()
    }

    async fn order(&mut self, order: &str) {
        let mut control = self.sender("control").await;
        let message = Message::builder().value(Value::String(order.to_owned())).build();
        let message = Sendable::builder().message(message).settled(true).build();
        limit("an order", control.send(message)).await.unwrap();
    }

    /// Ends and closes in order; what the node saw.
    async fn close(mut self) -> Report {
        limit("end", self.session.end()).await.unwrap();
        limit("close", self.connection.close()).await.unwrap();
        let report = limit("the node", self.node).await.unwrap();
        assert!(matches!(report.closed, Some(CloseCause::Remote(None))), "{:?}", report.closed);
        assert_eq!(report.ended, 1);
        report
    }
}

fn start() -> (DuplexStream, JoinHandle<Report>) {
    let (ours, theirs) = duplex(1 << 16);
    (ours, tokio::spawn(node::serve(theirs)))
}

fn message(number: u32, size: usize) -> Message<Data> {
    Message::builder().data(numbered::body(number, size)).build()
}

fn as_asked() -> AmqpError {
    node::error(Condition::InternalError, "as asked")
}

async fn send_all(sender: &mut Sender, sizes: impl IntoIterator<Item = usize>) -> Vec<Outcome> {
    let mut pending = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        pending.push(limit("credit", sender.send_batchable(message(number as u32, size))).await.unwrap());
    }
    let outcomes = limit("outcomes", join_all(pending)).await;
    outcomes.into_iter().collect::<Result<_, _>>().unwrap()
}

async fn take_all(receiver: &mut Receiver, count: u32, size: usize) {
    for number in 0..count {
        let delivery = limit("a message", receiver.recv::<Body<Value>>()).await.unwrap();
        let Body::Data(parts) = delivery.body() else { panic!("{:?}", delivery.body()) };
        let body: Vec<u8> = parts.iter().flat_map(|Data(part)| part.to_vec()).collect();
        assert_eq!((numbered::number(&body), body.len()), (Some(number), size));
        receiver.accept(&delivery).await.unwrap();
    }
}

#[tokio::test]
async fn a_bare_header_opens_and_closes() {
    let report = Stock::open().await.close().await;
    assert_eq!(report.mechanism, None);
    let opened = report.opened.unwrap();
    assert_eq!(opened.container_id, "stock");
    assert_eq!(opened.hostname.as_deref(), Some("hub.example.net"));
}

#[tokio::test]
async fn sasl_logins() {
    let logins = [
        (SaslProfile::Anonymous, "ANONYMOUS"),
        (SaslProfile::Plain { username: "user".into(), password: "secret".into() }, "PLAIN"),
    ];
    for (profile, mechanism) in logins {
        let (io, node) = start();
        let connection =
            Connection::builder().container_id("stock").sasl_profile(profile).open_with_stream(io);
        limit("close", limit("open", connection).await.unwrap().close()).await.unwrap();
        let report = limit("the node", node).await.unwrap();
        assert_eq!(report.mechanism.as_deref(), Some(mechanism));
        assert_eq!(report.opened.unwrap().container_id, "stock");
    }
}

#[tokio::test]
async fn a_wrong_password_gets_an_outcome() {
    let (io, node) = start();
    let profile = SaslProfile::Plain { username: "user".into(), password: "guess".into() };
    let connection = Connection::builder().container_id("stock").sasl_profile(profile).open_with_stream(io);
    let error = limit("open", connection).await.unwrap_err();
    assert!(matches!(error, OpenError::SaslError { code: SaslCode::Auth, .. }), "{error:?}");
    let report = limit("the node", node).await.unwrap();
    assert!(report.opened.is_none());
}

#[tokio::test]
async fn every_outcome_reaches_the_client() {
    let mut stock = Stock::open().await;
    for address in ["accept", "reject", "release"] {
        let mut sender = stock.sender(address).await;
        let outcomes = send_all(&mut sender, [20; 3]).await;
        for outcome in outcomes {
            match (address, outcome) {
                ("accept", Outcome::Accepted(_)) | ("release", Outcome::Released(_)) => {}
                ("reject", Outcome::Rejected(rejected)) => {
                    assert_eq!(rejected.error, Some(node::error(Condition::NotAllowed, "as asked")));
                }
                other => panic!("{other:?}"),
            }
        }
        limit("detach", sender.close()).await.unwrap();
    }
    let report = stock.close().await;
    assert_eq!(report.detached, 3);
}

/// More than the 2,048 frames of a session window after which clients stall (amqp.md 1.4).
#[tokio::test]
async fn thousands_of_messages_out() {
    let mut stock = Stock::open().await;
    let mut sender = stock.sender("accept").await;
    let outcomes = send_all(&mut sender, std::iter::repeat_n(100, 6_000)).await;
    assert_eq!(outcomes.len(), 6_000);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Accepted(_))));
    assert_eq!(stock.close().await.taken["accept"], 6_000);
}

#[tokio::test]
async fn thousands_of_messages_in() {
    let mut stock = Stock::open().await;
    let mut receiver = stock.receiver("numbered/6000/100").await;
    take_all(&mut receiver, 6_000, 100).await;
    assert_eq!(stock.close().await.tally, Tally { accepted: 6_000, ..Tally::default() });
}

#[tokio::test]
async fn sizes_up_to_a_mebibyte_in_large_and_small_frames() {
    for max_frame_size in [512, 4_096, 65_536] {
        let mut stock = Stock::open_with(max_frame_size).await;
        let sizes = [4, 400, 5_000, 300_000, 1 << 20];
        let mut sender = stock.sender("accept").await;
        let outcomes = send_all(&mut sender, sizes).await;
        assert!(outcomes.iter().all(|o| matches!(o, Outcome::Accepted(_))));
        for size in sizes {
            let mut receiver = stock.receiver(&format!("numbered/3/{size}")).await;
            take_all(&mut receiver, 3, size).await;
        }
        let report = stock.close().await;
        assert_eq!(report.taken["accept"], 5);
        assert_eq!(report.tally, Tally { accepted: 15, ..Tally::default() });
    }
}

#[tokio::test]
async fn the_outcomes_of_the_client_reach_us() {
    let mut stock = Stock::open().await;
    let mut receiver = stock.receiver("numbered/6/20").await;
    for number in 0..6 {
        let delivery = limit("a message", receiver.recv::<Body<Value>>()).await.unwrap();
        match number {
            0 | 3 | 5 => receiver.accept(&delivery).await.unwrap(),
            1 => receiver.reject(&delivery, None).await.unwrap(),
            _ => receiver.release(&delivery).await.unwrap(),
        }
    }
    let tally = Tally { accepted: 3, rejected: 1, released: 2, lost: 0 };
    assert_eq!(stock.close().await.tally, tally);
}

#[tokio::test]
async fn settled_messages_get_no_outcome() {
    let mut stock = Stock::open().await;
    let mut receiver = stock.receiver("settled/300/20").await;
    take_all(&mut receiver, 300, 20).await;
    let mut sender = stock.sender("accept").await;
    for number in 0..300 {
        let sendable = Sendable::builder().message(message(number, 20)).settled(true).build();
        limit("a send", sender.send(sendable)).await.unwrap();
    }
    // The node has seen all of them when it agrees to the detach.
    limit("detach", sender.close()).await.unwrap();
    let report = stock.close().await;
    assert_eq!(report.taken["accept"], 300);
    assert_eq!(report.tally, Tally::default());
}

#[tokio::test]
async fn nothing_is_sent_without_credit() {
    let mut stock = Stock::open().await;
    let mut receiver = Receiver::builder()
        .name("by hand")
        .source("numbered/5/20")
        .credit_mode(CreditMode::Manual)
        .attach(&mut stock.session)
        .await
        .unwrap();
    receiver.set_credit(2).await.unwrap();
    take_all(&mut receiver, 2, 20).await;
    limit("detach", receiver.close()).await.unwrap();
    let tally = Tally { accepted: 2, lost: 3, ..Tally::default() };
    assert_eq!(stock.close().await.tally, tally);
}

#[tokio::test]
async fn one_credit_at_a_time() {
    let mut stock = Stock::open().await;
    let mut sender = stock.sender("one-by-one").await;
    assert_eq!(send_all(&mut sender, [20; 100]).await.len(), 100);
    assert_eq!(stock.close().await.taken["one-by-one"], 100);
}

#[tokio::test]
async fn a_refused_sender_learns_why_and_costs_no_other_link() {
    let mut stock = Stock::open().await;
    let mut sender = stock.sender("accept").await;
    let refused = limit("attach", Sender::attach(&mut stock.session, "out", "nowhere")).await.unwrap_err();
    let SenderAttachError::RemoteClosedWithError(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error, node::error(Condition::NotFound, "no such node"));
    // The client says its detach twice.
    assert_eq!(send_all(&mut sender, [20]).await.len(), 1);
    stock.close().await;
}

#[tokio::test]
async fn a_refused_receiver_learns_why_and_costs_no_other_link() {
    let mut stock = Stock::open().await;
    let mut sender = stock.sender("accept").await;
    let refused = limit("attach", Receiver::attach(&mut stock.session, "in", "nowhere")).await.unwrap_err();
    let ReceiverAttachError::RemoteClosedWithError(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error, node::error(Condition::NotFound, "no such node"));
    assert_eq!(send_all(&mut sender, [20]).await.len(), 1);
    stock.close().await;
}

#[tokio::test]
async fn we_detach_a_link() {
    let mut stock = Stock::open().await;
    let mut held = stock.sender("hold").await;
    let waiting = held.send_batchable(message(0, 20)).await.unwrap();
    stock.order("detach").await;
    let why = limit("a detach", held.on_detach()).await;
    assert!(matches!(&why, DetachError::RemoteClosedWithError(e) if *e == as_asked()), "{why:?}");
    drop(held);
    let lost = limit("the outcome", waiting).await;
    assert!(matches!(lost, Err(SendError::LinkStateError(_) | SendError::Detached(_))), "{lost:?}");
    let mut sender = stock.sender("accept").await;
    assert_eq!(send_all(&mut sender, [20]).await.len(), 1);
    stock.close().await;
}

#[tokio::test]
async fn we_end_a_session() {
    let mut stock = Stock::open().await;
    stock.order("end").await;
    let why = limit("an end", stock.session.on_end()).await.unwrap_err();
    assert!(matches!(&why, SessionError::RemoteEndedWithError(e) if *e == as_asked()), "{why:?}");
    // The connection carries another.
    stock.session = limit("begin", Session::begin(&mut stock.connection)).await.unwrap();
    let mut sender = stock.sender("accept").await;
    assert_eq!(send_all(&mut sender, [20]).await.len(), 1);
    limit("end", stock.session.end()).await.unwrap();
    limit("close", stock.connection.close()).await.unwrap();
}

#[tokio::test]
async fn we_close_the_connection() {
    let mut stock = Stock::open().await;
    stock.order("close").await;
    let why = limit("a close", stock.connection.on_close()).await.unwrap_err();
    assert!(matches!(&why, ConnectionError::RemoteClosedWithError(e) if *e == as_asked()), "{why:?}");
    let report = limit("the node", stock.node).await.unwrap();
    assert!(matches!(report.closed, Some(CloseCause::Requested)), "{:?}", report.closed);
}

#[tokio::test]
async fn several_sessions_with_the_same_link_names() {
    let mut stock = Stock::open().await;
    let mut second = limit("begin", Session::begin(&mut stock.connection)).await.unwrap();
    let mut one = stock.sender("accept").await;
    let mut two = limit("attach", Sender::attach(&mut second, "accept", "accept")).await.unwrap();
    let (a, b) = tokio::join!(send_all(&mut one, [20; 50]), send_all(&mut two, [20; 50]));
    assert_eq!((a.len(), b.len()), (50, 50));
    limit("end", second.end()).await.unwrap();
    limit("end", stock.session.end()).await.unwrap();
    limit("close", stock.connection.close()).await.unwrap();
    let report = limit("the node", stock.node).await.unwrap();
    assert_eq!((report.taken["accept"], report.ended), (100, 2));
}

/// The client answers unsettled and waits for us to settle (amqp.md 3.5).
#[tokio::test]
async fn the_client_settles_in_two_steps() {
    let mut stock = Stock::open().await;
    let mut receiver = Receiver::builder()
        .name("second")
        .source("numbered/5/20")
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .attach(&mut stock.session)
        .await
        .unwrap();
    take_all(&mut receiver, 5, 20).await;
    limit("detach", receiver.close()).await.unwrap();
    let report = stock.close().await;
    assert_eq!(report.tally, Tally { accepted: 5, ..Tally::default() });
}

#[tokio::test]
async fn messages_on_the_way_are_lost_with_the_stream() {
    let (near, node) = start();
    let (ours, mut far) = duplex(1 << 16);
    let wire = tokio::spawn(async move {
        let mut near = near;
        tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
    });
    let mut connection = Connection::builder().container_id("stock").open_with_stream(ours).await.unwrap();
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut receiver = Receiver::attach(&mut session, "in", "numbered/500/20").await.unwrap();
    take_all(&mut receiver, 10, 20).await;
    for _ in 0..5 {
        limit("a message", receiver.recv::<Body<Value>>()).await.unwrap();
    }
    wire.abort();
    let report = limit("the node", node).await.unwrap();
    assert!(matches!(report.closed, Some(CloseCause::Io(_))), "{:?}", report.closed);
    let Tally { accepted, lost, .. } = report.tally;
    assert!(accepted <= 10, "{accepted}");
    assert_eq!(accepted + lost, 500, "every message has an outcome");
}
