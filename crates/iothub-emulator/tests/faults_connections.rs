//! What is done to live connections and new ones on purpose.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::Duration;

use amqp_client::messages::{assert_accepted, detached, send};
use amqp_client::{Client, Refusal, condition, create_device, data, message, tls, token_for};
use fe2o3_amqp::connection::Error as ConnectionError;
use fe2o3_amqp::link::DetachError;
use fe2o3_amqp::session::Error as SessionError;
use fe2o3_amqp::types::messaging::Outcome;
use fe2o3_amqp::types::primitives::{Symbol, Value};
use futures_util::FutureExt;
use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Disruption, Effect, Faults, LinkKind, Reception, Rule, TelemetryRefusal};
use support::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Tokens last for an hour.
const LONG: Duration = Duration::from_secs(1000);
const EVENTS: &str = "/devices/d/messages/events";

async fn start() -> (LocalHub, Faults, Identity, Client) {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let client = Client::authenticated(&hub, &[&device]).await;
    let faults = hub.hub().faults();
    (hub, faults, device, client)
}

#[tokio::test]
async fn nobody_is_told_where_nobody_is_connected() {
    let (hub, faults, device, mut client) = start().await;
    assert_eq!(faults.disrupt(&device, Disruption::DropConnection), 0, "a token alone is no presence");
    let _sender = client.sender(EVENTS).await.unwrap();
    let other = create_device(&hub, "other");
    assert_eq!(faults.disrupt(&other, Disruption::DropConnection), 0);
    assert_eq!(faults.disrupt(&device, Disruption::DetachLink(LinkKind::Cloud)), 1, "it has no such link");
    let mut second = Client::authenticated(&hub, &[&device]).await;
    let _receiver = second.receiver("/devices/d/messages/devicebound").await.unwrap();
    assert_eq!(faults.disrupt(&device, Disruption::CloseConnection), 2);
}

#[tokio::test]
async fn a_connection_is_dropped_or_closed() {
    let (hub, faults, device, mut client) = start().await;
    let cases = [Disruption::DropConnection, Disruption::CloseConnection, Disruption::CloseConnectionQuietly];
    for disruption in cases {
        let _sender = client.sender(EVENTS).await.unwrap();
        assert_eq!(faults.disrupt(&device, disruption), 1);
        let ended = soon(client.connection.on_close()).await.unwrap_err();
        match (disruption, ended) {
            (Disruption::CloseConnectionQuietly, ConnectionError::RemoteClosed) => {}
            (Disruption::CloseConnection, ConnectionError::RemoteClosedWithError(error)) => {
                assert_eq!(condition(&error.condition), "amqp:connection:forced");
            }
            (Disruption::DropConnection, ended)
                if !matches!(
                    ended,
                    ConnectionError::RemoteClosed | ConnectionError::RemoteClosedWithError(_)
                ) => {}
            (disruption, ended) => panic!("{disruption:?}: {ended:?}"),
        }
        assert_eq!(hub.hub().counters().faults[disruption.name()], 1);
        client = Client::authenticated(&hub, &[&device]).await;
    }
}

#[tokio::test]
async fn a_session_ends_and_the_connection_stays() {
    let (_hub, faults, device, mut client) = start().await;
    let _sender = client.sender(EVENTS).await.unwrap();
    faults.disrupt(&device, Disruption::EndSession);
    match soon(client.session.on_end()).await {
        Err(SessionError::RemoteEndedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:internal-error");
        }
        other => panic!("{other:?}"),
    }
    soon(client.connection.close()).await.unwrap();
}

#[tokio::test]
async fn one_link_is_detached_with_or_without_an_error_and_the_others_stay() {
    let (hub, faults, device, mut client) = start().await;
    let mut sender = client.sender(EVENTS).await.unwrap();
    for disruption in
        [Disruption::DetachLink(LinkKind::Cloud), Disruption::DetachLinkQuietly(LinkKind::Cloud)]
    {
        let mut receiver = client.receiver("/devices/d/messages/devicebound").await.unwrap();
        faults.disrupt(&device, disruption);
        if disruption == Disruption::DetachLink(LinkKind::Cloud) {
            assert_eq!(detached(&mut receiver).await.condition, "amqp:link:detach-forced");
        } else {
            use fe2o3_amqp::link::{LinkStateError, RecvError};
            use fe2o3_amqp::types::messaging::Body;
            let ended = soon(receiver.recv::<Body<Value>>()).await.unwrap_err();
            assert!(matches!(ended, RecvError::LinkStateError(LinkStateError::RemoteClosed)), "{ended:?}");
        }
        assert_accepted(send(&mut sender, message(data(b"x"))).await);
    }
    faults.disrupt(&device, Disruption::DetachLink(LinkKind::Telemetry));
    let refusal = Refusal::from(soon(sender.on_detach()).await);
    assert_eq!(refusal.condition, "amqp:link:detach-forced");
    assert_eq!(hub.hub().counters().telemetry_accepted, 2);
}

#[tokio::test]
async fn every_kind_of_twin_method_and_token_link_can_be_detached() {
    let (hub, faults, device, mut client) = start().await;
    let links = |hub: &LocalHub| hub.hub().counters().links_now;
    let cases = [
        (LinkKind::TwinRequests, "/devices/d/twin", true),
        (LinkKind::TwinReplies, "/devices/d/twin", false),
        (LinkKind::MethodAnswers, "/devices/d/methods/deviceBound", true),
        (LinkKind::MethodRequests, "/devices/d/methods/deviceBound", false),
    ];
    for (kind, address, client_sends) in cases {
        if client_sends {
            let mut sender = client.sender(address).await.unwrap();
            faults.disrupt(&device, Disruption::DetachLink(kind));
            let ended = soon(sender.on_detach()).await;
            assert!(matches!(ended, DetachError::RemoteClosedWithError(_)), "{kind:?}: {ended:?}");
        } else {
            let mut receiver = client.receiver(address).await.unwrap();
            faults.disrupt(&device, Disruption::DetachLink(kind));
            assert_eq!(detached(&mut receiver).await.condition, "amqp:link:detach-forced", "{kind:?}");
        }
    }
    assert!(links(&hub) >= 2, "the $cbs links");
    assert_eq!(hub.hub().counters().faults["detachLink"], 4);
}

#[tokio::test]
async fn a_deaf_hub_is_silent_until_its_time_is_over() {
    let (hub, faults, device, mut client) = start().await;
    let mut sender = client.sender(EVENTS).await.unwrap();
    for ends in [|hub: &LocalHub| hub.advance(LONG), |hub: &LocalHub| hub.hub().faults().clear()] {
        faults.disrupt(&device, Disruption::StopReading(LONG));
        let deaf = hub.hub().counters().faults.get("stopReading").copied().unwrap_or_default() + 1;
        while hub.hub().counters().faults.get("stopReading") != Some(&deaf) {
            tokio::task::yield_now().await;
        }
        let before = hub.hub().counters().telemetry_accepted;
        let mut sent = Box::pin(send(&mut sender, message(data(b"x"))));
        assert!(sent.as_mut().now_or_never().is_none());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hub.hub().counters().telemetry_accepted, before);
        ends(&hub);
        assert_accepted(sent.await);
    }
}

#[tokio::test]
async fn new_connections_are_closed_or_met_with_silence() {
    let (hub, faults, device, _client) = start().await;
    faults.add(Rule::new(Effect::RefuseConnections(Reception::Close)).times(1));
    let mut stream = tls(&hub).await;
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap_or(0), 0);

    faults.add(Rule::new(Effect::RefuseConnections(Reception::Silence)).times(1));
    let mut stream = tls(&hub).await;
    stream.write_all(b"AMQP\0\x01\0\0").await.unwrap();
    stream.flush().await.unwrap();
    while !hub.hub().counters().faults.contains_key("silenceNewConnections") {
        tokio::task::yield_now().await;
    }
    assert!(stream.read(&mut [0; 1]).now_or_never().is_none());
    assert_eq!(hub.hub().counters().connections_now, 2, "the silent one is there");
    faults.clear();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap_or(0), 0);
    Client::authenticated(&hub, &[&device]).await;
}

#[tokio::test]
async fn tokens_are_refused_or_not_answered() {
    let (hub, faults, device, mut client) = start().await;
    let accepted = hub.hub().counters().put_tokens_accepted;
    for status in [401, 429, 500, 503] {
        faults.add(Rule::new(Effect::RefuseTokens(status)).only_for(device.clone()).times(1));
        let (_, answered, _) = client.put_token(&token_for(&hub, &device, 3600)).await;
        assert_eq!(answered, i32::from(status));
    }
    assert_eq!(client.put_token(&token_for(&hub, &device, 3600)).await.1, 200);

    faults.add(Rule::new(Effect::SwallowTokens).times(1));
    let token = token_for(&hub, &device, 3600);
    let mut second = Client::open(&hub).await;
    {
        let mut asked = Box::pin(second.put_token(&token));
        while !hub.hub().counters().faults.contains_key("swallowTokens") {
            assert!(asked.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert!(asked.as_mut().now_or_never().is_none());
    }
    let refusal = second.sender_refused(EVENTS).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access", "the token does not count");
    let counters = hub.hub().counters();
    assert_eq!((counters.put_tokens_accepted - accepted, counters.put_tokens_refused), (1, 5));
}

#[tokio::test]
async fn telemetry_is_refused_for_the_one_it_is_for() {
    let (hub, faults, device, mut client) = start().await;
    let other = create_device(&hub, "other");
    assert_eq!(client.put_token(&token_for(&hub, &other, 3600)).await.1, 200);
    let mut sender = client.sender(EVENTS).await.unwrap();
    let mut others = client.sender("/devices/other/messages/events").await.unwrap();
    for (refusal, expected) in [
        (TelemetryRefusal::Throttled, "com.microsoft:device-container-throttled"),
        (TelemetryRefusal::Quota, "amqp:resource-limit-exceeded"),
        (TelemetryRefusal::Unauthorized, "amqp:unauthorized-access"),
    ] {
        faults.add(Rule::new(Effect::RefuseTelemetry(refusal)).only_for(device.clone()).lasting(LONG));
        match send(&mut sender, message(data(b"x"))).await {
            Outcome::Rejected(rejected) => {
                assert_eq!(condition(&rejected.error.unwrap().condition), expected);
            }
            other => panic!("{other:?}"),
        }
        assert_accepted(send(&mut others, message(data(b"x"))).await);
        hub.advance(LONG);
        assert_accepted(send(&mut sender, message(data(b"x"))).await);
    }
    assert_eq!(hub.hub().counters().telemetry_accepted, 6);
}

#[tokio::test]
async fn clients_are_sent_to_another_port() {
    let (hub, faults, device, mut client) = start().await;
    let redirect = |whole_connection| {
        Rule::new(Effect::Redirect { whole_connection, port: 4711 }).only_for(device.clone()).times(1)
    };
    let port = |info: Option<Box<fe2o3_amqp::types::definitions::Fields>>| {
        let value = info.and_then(|info| info.get(&Symbol::from("port")).cloned());
        assert_eq!(value, Some(Value::Ushort(4711)));
    };
    faults.add(redirect(false));
    let mut sender = client.sender(EVENTS).await.unwrap();
    match soon(sender.on_detach()).await {
        DetachError::RemoteClosedWithError(error) => {
            assert_eq!(condition(&error.condition), "amqp:link:redirect");
            port(error.info);
        }
        other => panic!("{other:?}"),
    }
    faults.add(redirect(true));
    client.sender(EVENTS).await.ok();
    match soon(client.connection.on_close()).await {
        Err(ConnectionError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:connection:redirect");
            port(error.info);
        }
        other => panic!("{other:?}"),
    }
    let mut client = Client::authenticated(&hub, &[&device]).await;
    client.sender(EVENTS).await.unwrap();
}

#[tokio::test]
async fn connections_and_links_are_counted_while_they_are_there() {
    let (hub, _faults, _device, mut client) = start().await;
    let now = |hub: &LocalHub| {
        let counters = hub.hub().counters();
        (counters.connections_opened, counters.connections_now, counters.links_now)
    };
    assert_eq!(now(&hub), (1, 1, 2), "the $cbs links");
    let sender = client.sender(EVENTS).await.unwrap();
    assert_eq!(now(&hub), (1, 1, 3));
    soon(sender.close()).await.unwrap();
    assert_eq!(now(&hub), (1, 1, 2));
    soon(client.connection.close()).await.unwrap();
    while now(&hub) != (1, 0, 0) {
        tokio::task::yield_now().await;
    }
}
