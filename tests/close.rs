//! `close` ends, always, and so does every call.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use iothub::{ConnectionStatus, ErrorKind, ModuleClient};
use serde_json::json;
use support::{Bench, within};
use tokio::{io::AsyncReadExt, net::TcpListener};

#[tokio::test]
async fn close_ends_streams_and_later_calls_and_may_be_repeated() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let twin = client.twin();
    let mut desired = within(twin.desired()).await.unwrap();
    assert!(within(desired.next()).await.is_some());
    within(client.close()).await;
    assert!(within(desired.next()).await.is_none());
    assert!(within(client.closed()).await.is_none());
    assert!(matches!(client.status(), ConnectionStatus::Closed { error: None }));
    let error = within(twin.report(&json!({ "a": 1 }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    within(client.close()).await;
}

#[tokio::test]
async fn close_ends_while_the_hub_is_away_and_on_a_deleted_module() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut changes = client.status_changes();
    let Bench { hub, .. } = bench;
    within(hub.shutdown()).await;
    while !matches!(within(changes.next()).await, Some(ConnectionStatus::Retrying { .. })) {}
    within(client.close()).await;
    assert!(client.status().is_closed());

    let bench = Bench::start().await;
    let client = bench.connect().await;
    within(client.twin().get()).await.unwrap();
    within(bench.registry.delete_module(support::DEVICE, support::MODULE)).await.unwrap();
    let error = within(client.closed()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    within(client.close()).await;
}

#[tokio::test]
async fn close_ends_during_a_dial_that_nobody_answers() {
    let bench = Bench::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = bench.options();
    options.amqps_port = Some(silent.local_addr().unwrap().port());
    let connect = ModuleClient::connect_with(&bench.module, options);
    // Accepts and then says nothing: the dial is under way once a byte of it is here.
    let accept = async {
        let (mut socket, _) = silent.accept().await.unwrap();
        let mut byte = [0];
        socket.read_exact(&mut byte).await.unwrap();
        socket
    };
    let mut socket = tokio::select! {
        result = connect => panic!("connected to nobody: {result:?}"),
        socket = within(accept) => socket,
    };
    // The dropped future took the connection with it: the peer sees its end.
    let mut rest = Vec::new();
    within(socket.read_to_end(&mut rest)).await.ok();
}

#[tokio::test]
async fn every_call_ends_on_a_hub_that_accepts_and_then_says_nothing() {
    let bench = Bench::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = bench.options();
    options.amqps_port = Some(silent.local_addr().unwrap().port());
    let builder = ModuleClient::builder(&bench.module).unwrap().options(options);
    let error = within(builder.connect_timeout(Duration::from_millis(50)).connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn calls_made_while_the_hub_is_away_end_at_their_deadline_and_say_why() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut changes = client.status_changes();
    let Bench { hub, .. } = bench;
    within(hub.shutdown()).await;
    while !matches!(within(changes.next()).await, Some(ConnectionStatus::Retrying { .. })) {}
    let twin = client.twin().with_timeout(Duration::from_millis(20));
    let error = within(twin.report(&json!({ "a": 1 }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.may_have_been_applied(), "it was never sent");
    assert_eq!(within(twin.get()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(within(twin.desired()).await.unwrap_err().kind(), ErrorKind::Timeout);
    within(client.close()).await;
}

#[test]
fn handles_may_be_dropped_outside_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, bench) = runtime.block_on(async {
        let bench = Bench::start().await;
        (bench.connect().await, bench)
    });
    drop(client);
    drop(bench);
    drop(runtime);
}
