//! Links of devices and modules that are no twins: addresses, telemetry, presence.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use amqp_client::{Client, Refusal, connection_state, create_device, create_module, data, message};
use fe2o3_amqp::types::messaging::{AmqpValue, Body, Data, MessageAnnotations, Outcome, Properties};
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Sendable, Sender};
use iothub_emulator::LocalHub;
use support::soon;

const BATCH: u32 = 0x8001_3700;

#[tokio::test]
async fn addresses_that_name_nothing_are_not_found() {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "d");
    let mut client = Client::owner(&hub).await;
    for address in [
        "/devices/d/nothing",
        "nowhere",
        "amqps://localhost:5671/devices/d",
        "/devices/d/messages/devicebound",
    ] {
        let refusal = client.sender_refused(address).await;
        assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:not-found", 404_006), "{address}");
        let text = format!("The link address '{address}' did not match any of the expected formats.");
        assert_eq!(refusal.text, text);
    }
    // Nobody but modules receives from there.
    let refusal = client.receiver_refused("/devices/d/messages/events").await;
    assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:not-found", 404_006));
}

#[tokio::test]
async fn every_link_of_a_device_and_a_module_is_granted() {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "d@1");
    create_module(&hub, "d@1", "m");
    let mut client = Client::owner(&hub).await;
    for id in ["/devices/d@1", "amqps://localhost:5671/devices/d%401", "/Devices/d@1/Modules/m"] {
        for address in ["messages/events", "methods/devicebound", "twin"] {
            client.sender(&format!("{id}/{address}")).await.unwrap().close().await.unwrap();
        }
        for address in ["messages/deviceBound", "methods/deviceBound", "twin"] {
            client.receiver(&format!("{id}/{address}")).await.unwrap().close().await.unwrap();
        }
    }
    client.receiver("/devices/d@1/modules/m/messages/events").await.unwrap();
}

#[tokio::test]
async fn a_device_is_connected_while_it_has_a_link() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&identity]).await;
    assert_eq!(connection_state(&hub, "d"), "Disconnected");
    let one = client.sender("/devices/d/messages/events").await.unwrap();
    assert_eq!(connection_state(&hub, "d"), "Connected");
    let other = client.receiver("/devices/d/messages/devicebound").await.unwrap();
    soon(one.close()).await.unwrap();
    assert_eq!(connection_state(&hub, "d"), "Connected");
    soon(other.close()).await.unwrap();
    assert_eq!(connection_state(&hub, "d"), "Disconnected");

    let _twin = client.twin(&identity).await;
    assert_eq!(connection_state(&hub, "d"), "Connected");
    soon(client.session.end()).await.unwrap();
    assert_eq!(connection_state(&hub, "d"), "Disconnected");
}

#[tokio::test]
async fn a_closed_connection_leaves_nobody_connected() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&identity]).await;
    let _twin = client.twin(&identity).await;
    soon(client.connection.close()).await.ok();
    assert_eq!(connection_state(&hub, "d"), "Disconnected");
}

async fn telemetry(hub: &LocalHub) -> (Client, Sender) {
    let identity = create_device(hub, "d");
    let mut client = Client::authenticated(hub, &[&identity]).await;
    let sender = client.sender("/devices/d/messages/events").await.unwrap();
    (client, sender)
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted(_))
}

#[tokio::test]
async fn telemetry_is_accepted() {
    let hub = LocalHub::start().await.unwrap();
    let (_client, mut sender) = telemetry(&hub).await;
    // The C SDK takes its batch size from there (amqp.md 3.2).
    assert!(sender.max_message_size().is_some_and(|size| size > 262_144));
    let full = message(data("x".repeat(262_144).as_bytes()));
    for (what, body) in [
        ("JSON", message(data(b"{\"t\":1}"))),
        ("nothing", message(Body::Empty)),
        ("a value", message(Body::Value(AmqpValue(Value::String("text".into()))))),
        ("parts", message(Body::Data(vec![Data(vec![1].into()), Data(vec![2].into())].into()))),
        ("as much as may be", full),
    ] {
        let outcome = soon(sender.send(body)).await.unwrap();
        assert!(is_accepted(&outcome), "{what}: {outcome:?}");
    }
}

#[tokio::test]
async fn many_messages_pass_without_a_stall() {
    let hub = LocalHub::start().await.unwrap();
    let (_client, mut sender) = telemetry(&hub).await;
    let mut pending = Vec::new();
    for n in 0..6000_u32 {
        let sent = soon(sender.send_batchable(message(data(&n.to_be_bytes())))).await.unwrap();
        pending.push(sent);
    }
    for outcome in pending {
        assert!(is_accepted(&soon(outcome).await.unwrap()));
    }
}

#[tokio::test]
async fn messages_over_the_limit_are_rejected_and_the_link_lives() {
    let hub = LocalHub::start().await.unwrap();
    let (_client, mut sender) = telemetry(&hub).await;
    let mut counted = message(data("x".repeat(262_140).as_bytes()));
    counted.properties = Some(Properties::builder().message_id("12345".to_owned()).build());
    let limit = sender.max_message_size().unwrap() as usize;
    for over in [counted, message(data("x".repeat(262_145).as_bytes())), message(data(&vec![0; limit - 100]))]
    {
        let outcome = soon(sender.send(over)).await.unwrap();
        let refusal = Refusal::from(outcome);
        assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:link:message-size-exceeded", 413_001));
        assert!(is_accepted(&soon(sender.send(message(data(b"small")))).await.unwrap()));
    }
    // Annotations are not counted.
    let mut annotated = message(data("x".repeat(262_144).as_bytes()));
    let mut annotations = MessageAnnotations::default();
    annotations.insert("note".into(), Value::String("y".repeat(1000)));
    annotated.message_annotations = Some(annotations);
    assert!(is_accepted(&soon(sender.send(annotated)).await.unwrap()));
}

#[tokio::test]
async fn batches_are_messages_in_data_sections() {
    let hub = LocalHub::start().await.unwrap();
    let (_client, mut sender) = telemetry(&hub).await;
    // Properties, application properties, annotations, data: the C SDK's order (amqp.md 4.4).
    let inner = [
        &b"\x00\x53\x73\xc0\x04\x01\xa1\x01\x31"[..],
        b"\x00\x53\x74\xc1\x07\x02\xa1\x01k\xa1\x01v",
        b"\x00\x53\x72\xc1\x07\x02\xa3\x01a\xa1\x01b",
        b"\x00\x53\x75\xa0\x02{}",
    ]
    .concat();
    let batch = |parts: &[&[u8]]| {
        let parts: Vec<_> = parts.iter().map(|part| Data(part.to_vec().into())).collect();
        Sendable::builder().message(message(Body::Data(parts.into()))).message_format(BATCH).build()
    };
    for parts in [&[&inner[..]][..], &[&inner, &inner, &inner]] {
        let outcome = soon(sender.send(batch(parts))).await.unwrap();
        assert!(is_accepted(&outcome), "{outcome:?}");
    }
    let half = [b"\x00\x53\x75\xb0\x00\x02\x00\x00".as_slice(), &[0; 131_072]].concat();
    let outcome = soon(sender.send(batch(&[&half, &half]))).await.unwrap();
    assert!(is_accepted(&outcome), "{outcome:?}");
    for (parts, condition) in [
        (&[&half[..], &half, &inner][..], "amqp:link:message-size-exceeded"),
        (&[&inner, b"garbage"], "amqp:decode-error"),
    ] {
        let outcome = soon(sender.send(batch(parts))).await.unwrap();
        assert_eq!(Refusal::from(outcome).condition, condition);
    }
    let empty = Sendable::builder().message(message(Body::Empty)).message_format(BATCH).build();
    let outcome = soon(sender.send(empty)).await.unwrap();
    assert_eq!(Refusal::from(outcome).condition, "amqp:decode-error");
    assert!(is_accepted(&soon(sender.send(batch(&[&inner]))).await.unwrap()));
}
