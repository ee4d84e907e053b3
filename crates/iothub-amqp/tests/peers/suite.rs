//! What our client asks of every foreign server; the addresses are those of `node.rs`.

use iothub_amqp::{
    message::Body,
    proto::{AttachOptions, CloseCause, Credit, LinkId, Outcome},
    types::{
        definitions::{AmqpError as Condition, Error as AmqpError, ReceiverSettleMode},
        messaging::{Accepted, DeliveryState, Rejected, Released},
    },
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{client::Client, node, numbered};

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// One test per line, each on a connection of its own: `suite!(connect)`, or `suite!(connect, "why ignored")`.
macro_rules! suite {
    ($($how:tt)*) => {
        crate::suite::one!(opens_and_closes, $($how)*);
        crate::suite::one!(every_outcome_comes_back, $($how)*);
        crate::suite::one!(thousands_of_messages_out, $($how)*);
        crate::suite::one!(thousands_of_messages_in, $($how)*);
        crate::suite::one!(large_messages_out, $($how)*);
        crate::suite::one!(large_messages_in, $($how)*);
        crate::suite::one!(our_outcomes_reach_the_peer, $($how)*);
        crate::suite::one!(settled_messages, $($how)*);
        crate::suite::one!(credit_by_hand, $($how)*);
        crate::suite::one!(a_refused_link, $($how)*);
        crate::suite::one!(one_credit_at_a_time, $($how)*);
        crate::suite::one!(we_detach_and_attach_again, $($how)*);
        crate::suite::one!(we_end_the_session, $($how)*);
        crate::suite::one!(the_peer_detaches, $($how)*);
        crate::suite::one!(the_peer_ends, $($how)*);
        crate::suite::one!(the_peer_closes, $($how)*);
        crate::suite::one!(the_stream_is_cut, $($how)*);
    };
}
macro_rules! one {
    ($name:ident, $connect:expr $(, $why:literal)?) => {
        #[tokio::test]
        $(#[ignore = $why])?
        async fn $name() {
            let peer = $connect.await;
            crate::suite::$name(peer.io).await;
        }
    };
}
pub(crate) use one;
pub(crate) use suite;

pub(crate) async fn opens_and_closes(io: impl Io) {
    let client = Client::open(io).await;
    assert!(!client.seen.opened.as_ref().unwrap().container_id.is_empty());
    client.close().await;
}

pub(crate) async fn every_outcome_comes_back(io: impl Io) {
    let mut client = Client::open(io).await;
    let links =
        [client.sender("accept").await, client.sender("reject").await, client.sender("release").await];
    for link in links {
        (0..3).for_each(|number| client.send(link, number, 64));
        // One link after the other: rhea 3.0 writes neighbours with different outcomes as one range.
        client.until("three outcomes", |seen| seen.outcomes_on(link).len() == 3).await;
    }
    let tokens = |outcome: Outcome| (0..3).map(|n| (n, outcome.clone())).collect::<Vec<_>>();
    assert_eq!(client.seen.outcomes_on(links[0]), tokens(Outcome::Accepted));
    assert_eq!(client.seen.outcomes_on(links[2]), tokens(Outcome::Released));
    for (_, outcome) in client.seen.outcomes_on(links[1]) {
        assert_eq!(outcome, Outcome::Rejected(Some(node::error(Condition::NotAllowed, "as asked"))));
    }
    client.close().await;
}

/// More than the 2,048 frames of a session window after which clients stall (amqp.md 1.4).
pub(crate) async fn thousands_of_messages_out(io: impl Io) {
    let mut client = Client::open(io).await;
    let link = client.sender("accept").await;
    (0..6_000).for_each(|number| client.send(link, number, 100));
    client.until("6,000 outcomes", |seen| seen.outcomes.len() == 6_000).await;
    // Peers may settle out of order, so compare as sets.
    let mut tokens: Vec<_> = client.seen.outcomes.iter().map(|o| o.1).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..6_000).collect::<Vec<_>>());
    assert!(client.seen.outcomes.iter().all(|o| o.2 == Outcome::Accepted));
    client.close().await;
}

pub(crate) async fn thousands_of_messages_in(io: impl Io) {
    let mut client = Client::open(io).await;
    // So much credit that only our session flows keep the peer going.
    let link = client.receiver("numbered/6000/100", Credit::Auto(20_000)).await;
    take_and_accept(&mut client, link, 6_000, 100).await;
    assert_eq!(client.tally().await, "accepted=6000 rejected=0 released=0 lost=0");
    client.close().await;
}

pub(crate) async fn large_messages_out(io: impl Io) {
    send_sizes(io, &[8, 500, 5_000, 300_000]).await;
}

pub(crate) async fn a_mebibyte_out(io: impl Io) {
    send_sizes(io, &[1 << 20, 8, 1 << 20]).await;
}

async fn send_sizes(io: impl Io, sizes: &[usize]) {
    let mut client = Client::open(io).await;
    let link = client.sender("accept").await;
    for (number, size) in sizes.iter().enumerate() {
        client.send(link, number as u32, *size);
    }
    client.until("outcomes", |seen| seen.outcomes.len() == sizes.len()).await;
    assert!(client.seen.outcomes.iter().all(|o| o.2 == Outcome::Accepted), "{:?}", client.seen.outcomes);
    client.close().await;
}

pub(crate) async fn large_messages_in(io: impl Io) {
    let mut client = Client::open(io).await;
    for size in [8, 500, 5_000, 300_000, 1 << 20] {
        let address = format!("numbered/3/{size}");
        let mut options = AttachOptions::receiver(&address, &address, Credit::Auto(10));
        options.max_message_size = 4 << 20;
        let link = client.attach(options).await.unwrap();
        take_and_accept(&mut client, link, 3, size).await;
    }
    client.close().await;
}

pub(crate) async fn our_outcomes_reach_the_peer(io: impl Io) {
    let mut client = Client::open(io).await;
    let link = client.receiver("numbered/6/20", Credit::Auto(10)).await;
    client.until("six messages", |seen| seen.messages.len() == 6).await;
    let states = [
        DeliveryState::Accepted(Accepted {}),
        DeliveryState::Accepted(Accepted {}),
        DeliveryState::Rejected(Rejected { error: None }),
        DeliveryState::Released(Released {}),
        DeliveryState::Accepted(Accepted {}),
        DeliveryState::Released(Released {}),
    ];
    let ids: Vec<_> = client.seen.messages.iter().map(|m| m.id).collect();
    for (id, state) in ids.into_iter().zip(states) {
        assert!(client.connection().dispose(link, id, state, true));
    }
    assert_eq!(client.tally().await, "accepted=3 rejected=1 released=2 lost=0");
    client.close().await;
}

pub(crate) async fn settled_messages(io: impl Io) {
    let mut client = Client::open(io).await;
    let link = client.receiver("settled/50/20", Credit::Auto(10)).await;
    client.until("50 messages", |seen| seen.messages_on(link) == 50).await;
    assert!(client.seen.messages.iter().all(|m| m.settled));
    let out = client.sender("accept").await;
    let last = client.seen.messages.len();
    for number in 0..50 {
        let body = Body::Data(numbered::body(number, 20).into());
        assert!(client.connection().send(out, node::outgoing(body, true)));
    }
    // The peer has seen them all when it answers what came after.
    client.send(out, 50, 20);
    client.until("the one outcome", |seen| !seen.outcomes.is_empty()).await;
    assert_eq!(client.seen.outcomes, [(out, 50, Outcome::Accepted)]);
    assert_eq!(client.seen.messages.len(), last);
    client.close().await;
}

pub(crate) async fn credit_by_hand(io: impl Io) {
    let mut client = Client::open(io).await;
    let link = client.receiver("settled/10/20", Credit::Manual).await;
    client.connection().grant(link, 3);
    client.until("three messages", |seen| seen.messages.len() == 3).await;
    // An outcome on another link comes after anything the peer had still to say.
    let out = client.sender("accept").await;
    client.send(out, 0, 20);
    client.until("an outcome", |seen| !seen.outcomes.is_empty()).await;
    assert_eq!(client.seen.messages.len(), 3, "no credit, no message");
    client.connection().grant(link, 7);
    client.until("the rest", |seen| seen.messages.len() == 10).await;
    client.close().await;
}

pub(crate) async fn a_refused_link(io: impl Io) {
    let mut client = Client::open(io).await;
    for options in
        [AttachOptions::sender("out", "nowhere"), AttachOptions::receiver("in", "nowhere", Credit::Auto(1))]
    {
        let error = client.attach(options).await.unwrap_err().unwrap();
        assert_eq!(error, node::error(Condition::NotFound, "no such node"));
    }
    let link = client.sender("accept").await;
    client.send(link, 0, 20);
    client.until("the session to go on", |seen| !seen.outcomes.is_empty()).await;
    client.close().await;
}

pub(crate) async fn one_credit_at_a_time(io: impl Io) {
    let mut client = Client::open(io).await;
    let link = client.sender("one-by-one").await;
    (0..200).for_each(|number| client.send(link, number, 30));
    client.until("200 outcomes", |seen| seen.outcomes.len() == 200).await;
    assert!(client.seen.outcomes.iter().all(|o| o.2 == Outcome::Accepted));
    client.close().await;
}

pub(crate) async fn we_detach_and_attach_again(io: impl Io) {
    let mut client = Client::open(io).await;
    for _ in 0..3 {
        let link = client.sender("accept").await;
        client.send(link, 0, 20);
        client.until("an outcome", |seen| seen.outcomes_on(link).len() == 1).await;
        client.connection().detach(link, None);
        client.until("a detach", |seen| seen.detached.contains_key(&link)).await;
        assert_eq!(client.seen.detached[&link], None);
    }
    client.close().await;
}

pub(crate) async fn we_end_the_session(io: impl Io) {
    let mut client = Client::open(io).await;
    let link = client.sender("hold").await;
    (0..3).for_each(|number| client.send(link, number, 20));
    let session = client.session;
    client.connection().end(session, None);
    client.until("an end", |seen| seen.ended.contains_key(&session)).await;
    assert_eq!(client.seen.ended[&session], (None, vec![link]));
    lost(&client, link, 3);
    // The connection goes on with another session.
    client.session = client.connection().begin().unwrap();
    let link = client.sender("accept").await;
    client.send(link, 0, 20);
    client.until("an outcome", |seen| seen.outcomes_on(link).len() == 1).await;
    client.close().await;
}

pub(crate) async fn the_peer_detaches(io: impl Io) {
    let mut client = Client::open(io).await;
    let held = client.sender("hold").await;
    hold(&mut client, held).await;
    client.control("detach").await;
    client.until("a detach", |seen| seen.detached.contains_key(&held)).await;
    assert_eq!(client.seen.detached[&held], Some(as_asked()));
    lost(&client, held, 20);
    let link = client.sender("accept").await;
    client.send(link, 0, 20);
    client.until("the session to go on", |seen| seen.outcomes_on(link).len() == 1).await;
    client.close().await;
}

pub(crate) async fn the_peer_ends(io: impl Io) {
    let mut client = Client::open(io).await;
    let held = client.sender("hold").await;
    hold(&mut client, held).await;
    client.control("end").await;
    let session = client.session;
    client.until("an end", |seen| seen.ended.contains_key(&session)).await;
    assert_eq!(client.seen.ended[&session].0, Some(as_asked()));
    lost(&client, held, 20);
    client.close().await;
}

pub(crate) async fn the_peer_closes(io: impl Io) {
    let mut client = Client::open(io).await;
    let held = client.sender("hold").await;
    hold(&mut client, held).await;
    client.control("close").await;
    client.until("a close", |seen| seen.closed.is_some()).await;
    let Some(CloseCause::Remote(Some(error))) = &client.seen.closed else {
        panic!("{:?}", client.seen.closed)
    };
    assert_eq!(*error, as_asked());
    lost(&client, held, 20);
}

pub(crate) async fn the_stream_is_cut(io: impl Io) {
    let mut client = Client::open(io).await;
    let held = client.sender("hold").await;
    hold(&mut client, held).await;
    client.control("cut").await;
    client.until("the cut", |seen| seen.closed.is_some()).await;
    assert!(matches!(client.seen.closed, Some(CloseCause::Io(_))), "{:?}", client.seen.closed);
    lost(&client, held, 20);
}

/// A receiver in mode second: the peer must settle after our unsettled outcome. Not every peer can.
pub(crate) async fn settling_in_two_steps_in(io: impl Io) {
    let mut client = Client::open(io).await;
    let mut options = AttachOptions::receiver("second", "numbered/5/20", Credit::Auto(10));
    options.rcv_settle_mode = ReceiverSettleMode::Second;
    let link = client.attach(options).await.unwrap();
    client.until("five messages", |seen| seen.messages_on(link) == 5).await;
    let ids: Vec<_> = client.seen.messages.iter().map(|m| m.id).collect();
    for id in ids {
        assert!(client.connection().dispose(link, id, DeliveryState::Accepted(Accepted {}), false));
    }
    client.until("five settlements", |seen| seen.settled_second == 5).await;
    client.close().await;
}

/// A sender in mode second: we settle after the peer's unsettled outcome.
pub(crate) async fn settling_in_two_steps_out(io: impl Io) {
    let mut client = Client::open(io).await;
    let mut options = AttachOptions::sender("second", "accept");
    options.rcv_settle_mode = ReceiverSettleMode::Second;
    let link = client.attach(options).await.unwrap();
    (0..5).for_each(|number| client.send(link, number, 20));
    client.until("five outcomes", |seen| seen.outcomes.len() == 5).await;
    assert!(client.seen.outcomes.iter().all(|o| o.2 == Outcome::Accepted));
    client.close().await;
}

/// Accepts messages as they come, and checks that each is whole and in order.
async fn take_and_accept<T: Io>(client: &mut Client<T>, link: LinkId, count: usize, size: usize) {
    let before = client.seen.messages.len();
    for number in 0..count {
        client.until("a message", |seen| seen.messages.len() > before + number).await;
        let message = &client.seen.messages[before + number];
        assert_eq!((message.link, message.settled, message.oversized), (link, false, false));
        let body = node::body(message);
        assert_eq!((numbered::number(&body), body.len()), (Some(number as u32), size));
        let id = message.id;
        assert!(client.connection().dispose(link, id, DeliveryState::Accepted(Accepted {}), true));
    }
}

/// Twenty messages that the peer has and says nothing about.
async fn hold<T: Io>(client: &mut Client<T>, held: LinkId) {
    (0..20).for_each(|number| client.send(held, number, 20));
    let link = client.sender("accept").await;
    client.send(link, 0, 20);
    client.until("an outcome", |seen| seen.outcomes_on(link).len() == 1).await;
    assert!(client.seen.outcomes_on(held).is_empty());
}

fn lost<T>(client: &Client<T>, link: LinkId, count: u64) {
    let outcomes = client.seen.outcomes_on(link);
    let tokens: Vec<_> = outcomes.iter().map(|o| o.0).collect();
    assert_eq!(tokens, (0..count).collect::<Vec<_>>());
    assert!(outcomes.iter().all(|o| matches!(o.1, Outcome::Lost { .. })), "{outcomes:?}");
}

fn as_asked() -> AmqpError {
    node::error(Condition::InternalError, "as asked")
}
