//! Messages to devices over AMQP, and what services learn of their end.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::{Duration, SystemTime};

use amqp_client::messages::{
    Got, assert_accepted, detached, device_bound, next, send, take, user, with_policy,
};
use amqp_client::{Client, Refusal, create_device, create_module, data, message, token_for};
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::types::definitions::Fields;
use fe2o3_amqp::types::messaging::{Modified, Outcome, Properties};
use fe2o3_amqp::types::primitives::{SimpleValue, Symbol, Timestamp, Value};
use fe2o3_amqp::{Receiver, Sender};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Ack, Inbox, Message, UploadedFile};
use support::{owner_key, soon, token};

const BOUND: &str = "/devices/d/messages/deviceBound";

async fn hub() -> LocalHub {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "d");
    create_device(&hub, "dev@1");
    create_module(&hub, "d", "m");
    hub
}

/// A device's receiver with a connection of its own.
async fn device(hub: &LocalHub) -> (Client, Receiver) {
    let identity = amqp_client::device("d");
    let mut client = Client::authenticated(hub, &[&identity]).await;
    let receiver = client.receiver(BOUND).await.unwrap();
    (client, receiver)
}

async fn service(hub: &LocalHub) -> (Client, Sender) {
    let mut client = with_policy(hub, "service").await;
    let sender = client.sender("/messages/deviceBound").await.unwrap();
    (client, sender)
}

/// Queues a message without a service.
fn queue(hub: &LocalHub, id: &str, ack: Ack) {
    let message = Message { message_id: Some(id.to_owned()), ack, ..Message::default() };
    hub.hub().send_to_device(&amqp_client::device("d"), message).unwrap();
}

/// Ids and ends in the next feedback message.
async fn ends(feedback: &mut Receiver) -> Vec<(String, String)> {
    let records: serde_json::Value = serde_json::from_slice(&take(feedback).await.body).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let records = records.as_array().unwrap().iter();
    records.map(|record| (text(&record["originalMessageId"]), text(&record["statusCode"]))).collect()
}

fn pair(id: &str, end: &str) -> (String, String) {
    (id.to_owned(), end.to_owned())
}

#[tokio::test]
async fn a_message_arrives_as_sdks_want_it_and_its_end_is_told() {
    let hub = hub().await;
    let (mut service, mut sender) = service(&hub).await;
    let mut feedback = service.receiver("/messages/servicebound/feedback").await.unwrap();
    let (_device, mut receiver) = device(&hub).await;
    let before = SystemTime::now();
    let mut sent = device_bound("/devices/d/messages/deviceBound", "id-1", "full");
    let properties = sent.properties.as_mut().unwrap();
    properties.correlation_id = Some("id-0".to_owned().into());
    properties.content_type = Some(Symbol::from("text/plain"));
    properties.user_id = Some(b"me".to_vec().into());
    let expiry =
        Timestamp::from(before.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64 + 60_000);
    properties.absolute_expiry_time = Some(expiry.clone());
    assert_accepted(send(&mut sender, sent).await);

    let got = take(&mut receiver).await;
    assert_eq!(got.text(), "hello");
    assert_eq!(got.id(), Some(&"id-1".to_owned().into()));
    assert_eq!(got.properties.correlation_id, Some("id-0".to_owned().into()));
    assert_eq!(got.properties.to.as_deref(), Some("/devices/d/messages/devicebound"));
    assert_eq!(got.properties.content_type, Some(Symbol::from("text/plain")));
    assert_eq!(got.properties.user_id.as_ref().map(|id| id.to_vec()), Some(b"me".to_vec()));
    assert_eq!(got.properties.absolute_expiry_time, Some(expiry));
    // C# reads these types and no others (amqp.md 3.5).
    let Value::Timestamp(enqueued) = got.annotation("iothub-enqueuedtime") else { panic!("{got:?}") };
    let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!(enqueued.clone().into_inner() >= before - 1);
    assert_eq!(got.delivery_count(), 0);
    assert!(matches!(got.annotation("x-opt-sequence-number"), Value::Ulong(_)));
    // The tag is the lock token, the first groups little-endian.
    let Value::String(lock) = got.annotation("x-opt-lock-token") else { panic!("{got:?}") };
    assert_eq!(got.tag, uuid::Uuid::parse_str(lock).unwrap().to_bytes_le());
    let text = |text: &str| SimpleValue::String(text.to_owned());
    assert_eq!(
        got.user.into_iter().collect::<Vec<_>>(),
        [("color".to_owned(), text("red")), ("iothub-ack".to_owned(), text("full")),]
    );

    let told = take(&mut feedback).await;
    assert_eq!(told.tag.len(), 16);
    let content_type = "application/vnd.microsoft.iothub.feedback.json";
    assert_eq!(told.properties.content_type, Some(Symbol::from(content_type)));
    assert_eq!(told.properties.user_id.as_ref().map(|id| id.to_vec()), Some(b"localhost".to_vec()));
    assert!(matches!(told.annotation("iothub-enqueuedtime"), Value::Timestamp(_)));
    let records: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    let record = &records[0];
    assert_eq!((&record["originalMessageId"], &record["deviceId"]), (&"id-1".into(), &"d".into()));
    assert_eq!((&record["statusCode"], &record["description"]), (&"Success".into(), &"Success".into()));
}

#[tokio::test]
async fn every_outcome_has_its_meaning() {
    let hub = hub().await;
    let (mut service, _sender) = service(&hub).await;
    let mut feedback = service.receiver("/messages/serviceBound/feedback").await.unwrap();
    let (_device, mut receiver) = device(&hub).await;

    queue(&hub, "released", Ack::Full);
    for count in 0..10 {
        let delivery = next(&mut receiver).await;
        assert_eq!(Got::read(&delivery).delivery_count(), count);
        if count % 2 == 0 {
            receiver.release(&delivery).await.unwrap();
        } else {
            let modified =
                Modified { delivery_failed: None, undeliverable_here: None, message_annotations: None };
            receiver.modify(&delivery, modified).await.unwrap();
        }
    }
    assert_eq!(ends(&mut feedback).await, [pair("released", "DeliveryCountExceeded")]);

    queue(&hub, "rejected", Ack::Negative);
    let delivery = next(&mut receiver).await;
    receiver.reject(&delivery, None).await.unwrap();
    assert_eq!(ends(&mut feedback).await, [pair("rejected", "Rejected")]);

    queue(&hub, "accepted", Ack::Negative);
    take(&mut receiver).await;
    queue(&hub, "accepted too", Ack::Positive);
    take(&mut receiver).await;
    assert_eq!(ends(&mut feedback).await, [pair("accepted too", "Success")]);
}

#[tokio::test]
async fn what_a_device_cannot_get_is_rejected_with_the_reason() {
    let hub = hub().await;
    let (_client, mut sender) = service(&hub).await;
    let to = "/devices/d/messages/devicebound";
    let at = |at: SystemTime| {
        Timestamp::from(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64)
    };
    let mut late = device_bound(to, "1", "none");
    let in_three_days = SystemTime::now() + Duration::from_secs(3 * 24 * 3600);
    late.properties.as_mut().unwrap().absolute_expiry_time = Some(at(in_three_days));
    let mut large = device_bound(to, "1", "none");
    large.body = data(&[7; 65_537]);
    let mut huge = device_bound(to, "1", "none");
    huge.body = data(&[7; 130_900]);
    let argument = "com.microsoft:argument-error";
    for (what, message, condition, code) in [
        (
            "nobody",
            device_bound("/devices/nobody/messages/devicebound", "1", "none"),
            "amqp:not-found",
            404_001,
        ),
        (
            "no module",
            device_bound("/devices/d/modules/x/messages/devicebound", "1", "none"),
            "amqp:not-found",
            404_010,
        ),
        ("no to", message(data(b"x")), argument, 400_004),
        ("a twin", device_bound("/devices/d/twin", "1", "none"), argument, 400_004),
        ("ack", device_bound(to, "1", "maybe"), argument, 400_004),
        ("expiry", late, argument, 400_004),
        ("size", large, "amqp:link:message-size-exceeded", 413_001),
        ("frame size", huge, "amqp:link:message-size-exceeded", 413_001),
    ] {
        let refusal = Refusal::from(send(&mut sender, message).await);
        assert_eq!((refusal.condition.as_str(), refusal.code), (condition, code), "{what}");
    }
    for n in 0..50 {
        assert_accepted(send(&mut sender, device_bound(to, &n.to_string(), "none")).await);
    }
    let full = Refusal::from(send(&mut sender, device_bound(to, "50", "none")).await);
    assert_eq!((full.condition.as_str(), full.code), ("amqp:resource-limit-exceeded", 403_004));
}

#[tokio::test]
async fn messages_are_routed_by_the_decoded_to_whatever_its_form() {
    let hub = hub().await;
    let (_client, mut sender) = service(&hub).await;
    let mut client = Client::owner(&hub).await;
    let mut receiver = client.receiver("/devices/dev@1/messages/devicebound").await.unwrap();
    for (n, to) in [
        "/devices/dev@1/messages/devicebound",
        "/devices/dev%401/messages/deviceBound",
        "amqps://localhost:5671/Devices/dev%401/messages/devicebound",
    ]
    .into_iter()
    .enumerate()
    {
        assert_accepted(send(&mut sender, device_bound(to, &n.to_string(), "none")).await);
        assert_eq!(take(&mut receiver).await.id(), Some(&n.to_string().into()));
    }
    let mut module = client.receiver("/devices/d/modules/m/messages/devicebound").await.unwrap();
    let to = "/devices/d/modules/m/messages/deviceBound";
    assert_accepted(send(&mut sender, device_bound(to, "m", "none")).await);
    let got = take(&mut module).await;
    assert_eq!(got.properties.to.as_deref(), Some("/devices/d/modules/m/messages/devicebound"));
}

#[tokio::test]
async fn credit_is_how_many_the_hub_sends() {
    let hub = hub().await;
    (0..5).for_each(|n| queue(&hub, &n.to_string(), Ack::None));
    let mut client = Client::authenticated(&hub, &[&amqp_client::device("d")]).await;
    let mut receiver = client.receiver_with(BOUND, CreditMode::Manual, Fields::new()).await.unwrap();
    receiver.set_credit(2).await.unwrap();
    let first = [next(&mut receiver).await, next(&mut receiver).await];
    // The others wait, not locked, for who else may ask.
    let over_http = hub.hub().receive(&amqp_client::device("d"), iothub_emulator::hub::Lane::Messages);
    assert_eq!(over_http.unwrap().unwrap().item.message_id.as_deref(), Some("2"));
    for delivery in &first {
        receiver.accept(delivery).await.unwrap();
    }
    receiver.set_credit(5).await.unwrap();
    let rest = [take(&mut receiver).await, take(&mut receiver).await];
    assert_eq!(rest.map(|got| got.properties.message_id), ["3", "4"].map(|id| Some(id.to_owned().into())));
    // And what comes later, without being asked again.
    queue(&hub, "5", Ack::None);
    assert_eq!(take(&mut receiver).await.id(), Some(&"5".to_owned().into()));
}

#[tokio::test]
async fn who_receives_last_receives_and_nothing_is_lost() {
    let hub = hub().await;
    let (_first, mut old) = device(&hub).await;
    queue(&hub, "1", Ack::None);
    let _unsettled = next(&mut old).await;
    let (second, mut receiver) = device(&hub).await;
    let refusal = detached(&mut old).await;
    assert_eq!(refusal.condition, "amqp:internal-error");
    assert_eq!(refusal.text, "Another AMQP Client has opened a Receive Link");
    let delivery = next(&mut receiver).await;
    assert_eq!(Got::read(&delivery).delivery_count(), 0, "nobody said anything about it");

    // Unsettled at detach, and at the end of the connection.
    soon(receiver.close()).await.unwrap();
    let mut client = second;
    let mut receiver = client.receiver(BOUND).await.unwrap();
    assert_eq!(Got::read(&next(&mut receiver).await).delivery_count(), 0);
    soon(client.connection.close()).await.ok();
    let (_third, mut receiver) = device(&hub).await;
    let got = take(&mut receiver).await;
    assert_eq!((got.id(), got.delivery_count()), (Some(&"1".to_owned().into()), 0));
}

#[tokio::test]
async fn a_second_receiver_on_the_same_connection_takes_over_too() {
    let hub = hub().await;
    let (mut client, mut old) = device(&hub).await;
    let mut receiver = client.receiver(BOUND).await.unwrap();
    assert_eq!(detached(&mut old).await.condition, "amqp:internal-error");
    queue(&hub, "1", Ack::None);
    assert_eq!(take(&mut receiver).await.id(), Some(&"1".to_owned().into()));
}

#[tokio::test]
async fn a_lock_lasts_a_minute() {
    let hub = hub().await;
    let (_client, mut receiver) = device(&hub).await;
    queue(&hub, "1", Ack::Full);
    let old = next(&mut receiver).await;
    hub.advance(Duration::from_secs(60));
    let again = next(&mut receiver).await;
    assert_eq!(Got::read(&again).delivery_count(), 0);
    assert_ne!(old.delivery_tag(), again.delivery_tag());
    // The late word changes nothing.
    receiver.reject(&old, None).await.unwrap();
    receiver.accept(&again).await.unwrap();
    let mut service = with_policy(&hub, "service").await;
    let mut feedback = service.receiver("/messages/servicebound/feedback").await.unwrap();
    assert_eq!(ends(&mut feedback).await, [pair("1", "Success")]);
}

#[tokio::test]
async fn messages_expire_while_nobody_asks() {
    let hub = hub().await;
    let mut service = with_policy(&hub, "service").await;
    let mut feedback = service.receiver("/messages/servicebound/feedback").await.unwrap();
    queue(&hub, "1", Ack::Full);
    hub.advance(Duration::from_secs(3590));
    // The token of the service would end with the hour.
    let token = token(&hub.hub().policy("service").unwrap().primary, "localhost", Some("service"), 9000);
    assert_eq!(service.put_token(&token).await.1, 200);
    hub.advance(Duration::from_secs(10));
    assert_eq!(ends(&mut feedback).await, [pair("1", "Expired")]);
}

#[tokio::test]
async fn notices_go_to_one_service_at_a_time_and_come_back() {
    let hub = hub().await;
    let address = "amqps://localhost:5671/messages/servicebound/filenotifications";
    let mut one = with_policy(&hub, "service").await;
    let mut receiver = one.receiver(address).await.unwrap();
    hub.hub().notify_upload(&UploadedFile {
        device_id: "d".to_owned(),
        blob_uri: "https://blobs.example.net/c/d/a.txt".to_owned(),
        blob_name: "d/a.txt".to_owned(),
        last_updated: SystemTime::UNIX_EPOCH,
        size: 5,
    });
    let delivery = next(&mut receiver).await;
    let got = Got::read(&delivery);
    let content_type = "application/vnd.microsoft.iothub.filenotification.json";
    assert_eq!(got.properties.content_type, Some(Symbol::from(content_type)));
    let file: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!((&file["blobName"], &file["blobSizeInBytes"]), (&"d/a.txt".into(), &5.into()));
    assert!(hub.hub().receive_notice(Inbox::FileNotifications).is_none(), "it is locked");

    receiver.release(&delivery).await.unwrap();
    let again = next(&mut receiver).await;
    assert_eq!(Got::read(&again).body, got.body);
    soon(receiver.close()).await.unwrap();
    let mut other = with_policy(&hub, "service").await;
    let mut receiver = other.receiver(address).await.unwrap();
    assert_eq!(take(&mut receiver).await.body, got.body);
    soon(receiver.close()).await.unwrap();
    assert!(hub.hub().receive_notice(Inbox::FileNotifications).is_none());
}

#[tokio::test]
async fn services_need_the_service_right_and_a_token_that_lasts() {
    let hub = hub().await;
    let feedback = "/messages/serviceBound/feedback";
    let mut client = Client::open(&hub).await;
    let unauthorized = |refusal: Refusal| {
        assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:unauthorized-access", 401_002));
    };
    unauthorized(client.receiver_refused(feedback).await);
    assert_eq!(client.put_token(&token_for(&hub, &amqp_client::device("d"), 3600)).await.1, 200);
    unauthorized(client.receiver_refused(feedback).await);
    let mut registry = with_policy(&hub, "registryReadWrite").await;
    unauthorized(registry.receiver_refused(feedback).await);
    unauthorized(registry.sender_refused("/messages/devicebound").await);
    // Nobody sends feedback, and nobody receives there what is for devices.
    let mut client = Client::owner(&hub).await;
    assert_eq!(client.sender_refused(feedback).await.code, 404_006);
    assert_eq!(client.receiver_refused("/messages/devicebound").await.code, 404_006);

    let mut client = Client::open(&hub).await;
    let short = token(&owner_key(&hub), "localhost", Some("iothubowner"), 100);
    assert_eq!(client.put_token(&short).await.1, 200);
    let mut receiver = client.receiver(feedback).await.unwrap();
    hub.advance(Duration::from_secs(100));
    let refusal = detached(&mut receiver).await;
    assert_eq!(
        (refusal.condition.as_str(), refusal.text.as_str()),
        ("amqp:unauthorized-access", "Token Invalid.")
    );
}

#[tokio::test]
async fn user_properties_that_are_not_text_become_text() {
    let hub = hub().await;
    let (_client, mut sender) = service(&hub).await;
    let (_device, mut receiver) = device(&hub).await;
    let mut sent = message(data(b"x"));
    sent.properties = Some(Properties::builder().to("/devices/d/messages/devicebound".to_owned()).build());
    let mut properties = user(&[("a", "b")]).unwrap();
    properties.insert("n".to_owned(), SimpleValue::Int(5));
    sent.application_properties = Some(properties);
    let outcome = send(&mut sender, sent).await;
    assert!(matches!(outcome, Outcome::Accepted(_)));
    let got = take(&mut receiver).await;
    assert_eq!(got.user["n"], SimpleValue::String("5".to_owned()));
    assert_eq!(got.properties.message_id, None);
    assert!(!got.user.contains_key("iothub-ack"));
}
