//! Our engine as the client of the acceptor that comes with fe2o3-amqp.

use fe2o3_amqp::{
    Delivery, Receiver, Sendable, Sender,
    acceptor::{ConnectionAcceptor, LinkAcceptor, LinkEndpoint, SessionAcceptor},
    acceptor::{ListenerConnectionHandle, ListenerSessionHandle},
    link::receiver::CreditMode,
    types::{
        definitions::{AmqpError as Condition, Role},
        messaging::{Body, Data, Message, Outcome},
        performatives::Attach,
        primitives::Value,
    },
};
use futures_util::future::join_all;
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    node, numbered,
    suite::{one, suite},
};

suite!(start(65_536));
one!(a_mebibyte_out, start(65_536));
// Not the other way round: the acceptor never settles after our outcome (fe2o3-amqp.md B5).
one!(settling_in_two_steps_out, start(65_536));

mod small_frames {
    // Every frame of more than 512 bytes is an error to it.
    crate::suite::suite!(super::start(512));
    crate::suite::one!(a_mebibyte_out, super::start(512));
}

/// A stock acceptor and our end of its stream.
pub(crate) struct Peer {
    pub(crate) io: DuplexStream,
}

/// Starts an acceptor that behaves as `node.rs` says, on a stream that can be cut.
pub(crate) async fn start(max_frame_size: u32) -> Peer {
    start_with(ConnectionAcceptor::builder().container_id("stock").max_frame_size(max_frame_size).build())
}

pub(crate) fn start_with(acceptor: ConnectionAcceptor<(), ()>) -> Peer {
    let (ours, mut near) = duplex(1 << 16);
    let (mut far, theirs) = duplex(1 << 16);
    let wire = tokio::spawn(async move { drop(copy_bidirectional(&mut near, &mut far).await) });
    tokio::spawn(serve(theirs, acceptor, wire));
    Peer { io: ours }
}

type Orders = watch::Sender<String>;
/// How many messages still wait for an outcome, and what became of the others.
type Tally = watch::Sender<(usize, node::Tally)>;

async fn serve(io: DuplexStream, acceptor: ConnectionAcceptor<(), ()>, wire: JoinHandle<()>) {
    let mut connection = acceptor.accept(io).await.unwrap();
    let orders = watch::Sender::new(String::new());
    loop {
        tokio::select! {
            incoming = connection.next_incoming_session() => {
                let Some(incoming) = incoming else { return };
                let session = SessionAcceptor::new().accept_incoming_session(incoming, &mut connection).await;
                tokio::spawn(serve_session(session.unwrap(), orders.clone()));
            }
            () = given(&orders, "cut") => return wire.abort(),
            () = given(&orders, "close") => return close(connection).await,
        }
    }
}

async fn close(mut connection: ListenerConnectionHandle) {
    // It answers `IllegalState` when a frame crosses its close (fe2o3-amqp.md A7).
    connection.close_with_error(node::error(Condition::InternalError, "as asked")).await.ok();
}

async fn serve_session(mut session: ListenerSessionHandle, orders: Orders) {
    let tally = watch::Sender::new((0, node::Tally::default()));
    loop {
        let attach = tokio::select! {
            attach = session.next_incoming_attach() => attach,
            () = given(&orders, "end") => {
                session.end_with_error(node::error(Condition::InternalError, "as asked")).await.unwrap();
                return;
            }
        };
        let Some(attach) = attach else { return };
        serve_link(attach, &mut session, &orders, &tally).await;
    }
}

async fn serve_link(mut attach: Attach, session: &mut ListenerSessionHandle, orders: &Orders, tally: &Tally) {
    let address = node::address(&attach);
    let known = ["accept", "reject", "release", "hold", "one-by-one", "control", "tally"];
    let refused = !known.contains(&address.as_str()) && node::batch(&address).is_none();
    if refused {
        // A terminus that stays away tells the peer that a detach follows.
        match attach.role {
            Role::Sender => attach.target = None,
            Role::Receiver => attach.source = None,
        }
    }
    let acceptor = LinkAcceptor::builder().max_message_size(4u64 << 20).build();
    let endpoint = acceptor.accept_incoming_attach(attach, session).await;
    let not_found = node::error(Condition::NotFound, "no such node");
    match endpoint.unwrap() {
        LinkEndpoint::Sender(sender) if refused => {
            tokio::spawn(async move { sender.close_with_error(not_found).await });
        }
        LinkEndpoint::Receiver(receiver) if refused => {
            tokio::spawn(async move { receiver.close_with_error(not_found).await });
        }
        LinkEndpoint::Sender(sender) => {
            tokio::spawn(send(sender, address, tally.clone()));
        }
        LinkEndpoint::Receiver(receiver) => {
            tokio::spawn(receive(receiver, address, orders.clone()));
        }
    }
}

async fn send(mut sender: Sender, address: String, tally: Tally) {
    if address == "tally" {
        let (_, tally) = tally.subscribe().wait_for(|(waiting, _)| *waiting == 0).await.unwrap().clone();
        let node::Tally { accepted, rejected, released, lost } = tally;
        let text = format!("accepted={accepted} rejected={rejected} released={released} lost={lost}");
        let message = Message::builder().value(Value::String(text)).build();
        sender.send(Sendable::builder().message(message).settled(true).build()).await.unwrap();
        sender.on_detach().await;
        return;
    }
    let (settled, count, size) = node::batch(&address).unwrap();
    tally.send_modify(|(waiting, _)| *waiting += count as usize);
    let mut pending = Vec::new();
    for number in 0..count {
        let message = Message::builder().data(numbered::body(number, size)).build();
        let message = Sendable::builder().message(message).settled(settled).build();
        pending.push(sender.send_batchable(message).await.unwrap());
    }
    for outcome in join_all(pending).await {
        tally.send_modify(|(waiting, tally)| {
            *waiting -= 1;
            match outcome {
                Ok(Outcome::Accepted(_)) => tally.accepted += 1,
                Ok(Outcome::Rejected(_)) => tally.rejected += 1,
                Ok(Outcome::Released(_)) => tally.released += 1,
                _ => tally.lost += 1,
            }
        });
    }
    sender.on_detach().await;
}

async fn receive(mut receiver: Receiver, address: String, orders: Orders) {
    if address == "one-by-one" {
        receiver.set_credit_mode(CreditMode::Manual);
        receiver.set_credit(1).await.unwrap();
    }
    let mut count = 0;
    loop {
        let delivery = tokio::select! {
            delivery = receiver.recv::<Body<Value>>() => delivery,
            () = given(&orders, "detach"), if address == "hold" => {
                receiver.close_with_error(node::error(Condition::InternalError, "as asked")).await.ok();
                return;
            }
        };
        // The client is gone or went on.
        let Ok(delivery) = delivery else { return };
        if address == "control" {
            orders.send_replace(String::from_utf8(body(&delivery)).unwrap());
            receiver.accept(&delivery).await.unwrap();
            continue;
        }
        assert_eq!(numbered::number(&body(&delivery)), Some(count), "on {address}");
        count += 1;
        match address.as_str() {
            "hold" => continue,
            "reject" => {
                receiver.reject(&delivery, node::error(Condition::NotAllowed, "as asked")).await.unwrap();
            }
            "release" => receiver.release(&delivery).await.unwrap(),
            _ => receiver.accept(&delivery).await.unwrap(),
        }
        if address == "one-by-one" {
            receiver.set_credit(1).await.unwrap();
        }
    }
}

fn body(delivery: &Delivery<Body<Value>>) -> Vec<u8> {
    match delivery.body() {
        Body::Data(parts) => parts.iter().flat_map(|Data(part)| part.to_vec()).collect(),
        Body::Value(value) => match &value.0 {
            Value::String(text) => text.clone().into_bytes(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Comes back once the client gave this order; never when the connection is over.
async fn given(orders: &Orders, wanted: &str) {
    let mut order = orders.subscribe();
    if order.wait_for(|order| order == wanted).await.is_err() {
        std::future::pending().await
    }
}
