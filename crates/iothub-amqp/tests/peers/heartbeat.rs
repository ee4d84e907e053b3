//! Heartbeats against the stock client and acceptor, on simulated time. The acceptor drops a connection that is
//! silent for exactly its time-out, so ours must come earlier (fe2o3-amqp.md A2).

use std::time::Duration;

use fe2o3_amqp::{Connection, acceptor::ConnectionAcceptor};
use iothub_amqp::proto::{CloseCause, Config, Outcome};
use tokio::{
    io::duplex,
    time::{Instant, sleep},
};

use crate::{client::Client, limit, node, stock_acceptor};

/// Of simulated time.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_kept_by_an_acceptor_that_counts_exactly() {
    let peer = stock_acceptor::start_with(
        ConnectionAcceptor::builder().container_id("stock").idle_time_out(4_000u32).build(),
    );
    let mut client = Client::open(peer.io).await;
    client.during(sleep(LONG)).await;
    let link = client.sender("accept").await;
    client.send(link, 0, 20);
    client.until("an outcome", |seen| !seen.outcomes.is_empty()).await;
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_kept_by_a_client_that_counts_exactly() {
    let (ours, theirs) = duplex(1 << 16);
    let node = tokio::spawn(node::serve_with(theirs, Config::new("node"), 2 * LONG));
    let mut connection = Connection::builder()
        .container_id("stock")
        .idle_time_out(4_000u32)
        .open_with_stream(ours)
        .await
        .unwrap();
    tokio::select! {
        why = connection.on_close() => panic!("{why:?}"),
        () = sleep(LONG) => {}
    }
    limit("close", connection.close()).await.unwrap();
    let report = limit("the node", node).await.unwrap();
    assert!(matches!(report.closed, Some(CloseCause::Remote(None))), "{:?}", report.closed);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_after_twice_our_time_out() {
    let (ours, mut near) = duplex(1 << 16);
    let mut peer = stock_acceptor::start(65_536).await;
    let (freeze, frozen) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut peer.io) => {}
            _ = frozen => std::future::pending().await,
        }
    });
    let mut config = Config::new("ours");
    config.idle_timeout = Duration::from_secs(15);
    let mut client = Client::open_with(ours, config).await;
    let link = client.sender("hold").await;
    client.send(link, 0, 20);
    freeze.send(()).unwrap();
    let before = Instant::now();
    client.until("the end", |seen| seen.closed.is_some()).await;
    assert!(matches!(client.seen.closed, Some(CloseCause::IdleTimeout)), "{:?}", client.seen.closed);
    assert_eq!(before.elapsed(), Duration::from_secs(30));
    assert!(matches!(client.seen.outcomes[..], [(_, 0, Outcome::Lost { .. })]));
}
