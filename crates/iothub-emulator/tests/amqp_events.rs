//! The built-in endpoint over AMQP: redirect, management, partitions; and inputs of modules.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::{Duration, SystemTime};

use amqp_client::messages::{Got, assert_accepted, detached, next, send, take, user, with_policy};
use amqp_client::{Client, Refusal, condition, create_device, create_module, data, message};
use fe2o3_amqp::link::ReceiverAttachError;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::types::definitions::Fields;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Body, Data, Message, MessageAnnotations, MessageId, Properties, Source,
};
use fe2o3_amqp::types::primitives::{SimpleValue, Symbol, Value};
use fe2o3_amqp::{Receiver, Sendable, Sender};
use fe2o3_amqp::{connection::ConnectionHandle, session::SessionHandle};
use iothub_amqp::serde_amqp::{described::Described, descriptor::Descriptor};
use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{ConnectionAuth, Message as HubMessage, Precondition};
use serde_json::json;
use support::{soon, token};

async fn hub() -> (LocalHub, Identity) {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    (hub, device)
}

fn publish(hub: &LocalHub, device: &Identity, bodies: &[&str]) {
    let message = |body: &&str| HubMessage { body: body.as_bytes().to_vec().into(), ..HubMessage::default() };
    let messages = bodies.iter().map(message).collect();
    hub.hub().publish(device, ConnectionAuth::DEVICE_SAS, messages).unwrap();
}

/// The address of the partition with the events of device `d`, which must have sent one.
fn partition(hub: &LocalHub, group: &str) -> String {
    let of = |n: &u32| !hub.hub().partition(*n).unwrap().is_empty;
    let partition = (0..4).find(of).unwrap();
    format!("localhost/ConsumerGroups/{group}/Partitions/{partition}")
}

fn source(address: &str, filter: &str) -> Source {
    let filter = Described {
        descriptor: Descriptor::Code(0x0000_468C_0000_0004),
        value: Value::String(filter.to_owned()),
    };
    Source::builder().address(address).add_to_filter("apache.org:selector-filter:string", filter).build()
}

async fn reader(client: &mut Client, address: &str, filter: &str) -> Receiver {
    client.receiver_with(source(address, filter), CreditMode::Auto(300), Fields::new()).await.unwrap()
}

fn epoch(epoch: i64) -> Fields {
    let mut properties = Fields::new();
    properties.insert(Symbol::from("com.microsoft:epoch"), Value::Long(epoch));
    properties
}

/// How a reader is refused, in a session of its own (see `Client::receiver_refused`).
async fn refused(client: &mut Client, source: Source, properties: Fields) -> Refusal {
    loop {
        let mut session = soon(fe2o3_amqp::Session::begin(&mut client.connection)).await.unwrap();
        let builder = Receiver::builder().name("r").source(source.clone()).properties(properties.clone());
        match soon(builder.attach(&mut session)).await {
            Err(ReceiverAttachError::RemoteClosedWithError(error)) => return error.into(),
            Err(ReceiverAttachError::IllegalState) => {}
            other => panic!("{other:?}"),
        }
    }
}

const EARLIEST: &str = "amqp.annotation.x-opt-offset > '-1'";
const LATEST: &str = "amqp.annotation.x-opt-offset > '@latest'";

#[tokio::test]
async fn telemetry_is_read_with_all_its_annotations() {
    let (hub, device) = hub().await;
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let mut properties = Fields::new();
    properties.insert(Symbol::from("com.microsoft:model-id"), Value::String("dtmi:a:b;1".to_owned()));
    let builder =
        Sender::builder().name("telemetry").target("/devices/d/messages/events").properties(properties);
    let mut sender = soon(builder.attach(&mut client.session)).await.unwrap();
    let mut annotations = MessageAnnotations::default();
    annotations.insert("dt-subject".into(), Value::String("thermostat".to_owned()));
    annotations.insert("other".into(), Value::String("x".to_owned()));
    let id = uuid::Uuid::new_v4();
    let sent = Message {
        message_annotations: Some(annotations),
        properties: Some(
            Properties::builder()
                // Node turns ids that look like one into a uuid.
                .message_id(MessageId::Uuid(id.into_bytes().into()))
                .content_type("application/json")
                .content_encoding("utf-8")
                .build(),
        ),
        application_properties: user(&[("level", "high")]),
        ..message(data(b"{\"t\":1}"))
    };
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert_accepted(send(&mut sender, sent).await);

    assert_eq!(hub.hub().get_twin(&device).unwrap()["modelId"], "dtmi:a:b;1");

    let mut service = with_policy(&hub, "service").await;
    let mut reader = reader(&mut service, &partition(&hub, "$Default"), EARLIEST).await;
    let got = take(&mut reader).await;
    assert_eq!(got.text(), "{\"t\":1}");
    assert_eq!(got.id(), Some(&id.to_string().into()));
    assert_eq!(got.properties.content_type, Some(Symbol::from("application/json")));
    assert_eq!(got.properties.content_encoding, Some(Symbol::from("utf-8")));
    assert_eq!(got.user["level"], SimpleValue::String("high".to_owned()));
    let generation = hub.hub().get_device("d").unwrap()["generationId"].as_str().unwrap().to_owned();
    let text = |text: &str| Value::String(text.to_owned());
    for (name, value) in [
        ("x-opt-sequence-number", Value::Long(0)),
        ("x-opt-offset", text("0")),
        ("iothub-connection-device-id", text("d")),
        ("iothub-connection-auth-generation-id", Value::String(generation)),
        ("iothub-connection-auth-method", text(r#"{"scope":"device","type":"sas","issuer":"iothub"}"#)),
        ("iothub-message-source", text("Telemetry")),
        ("dt-subject", text("thermostat")),
        ("dt-dataschema", text("dtmi:a:b;1")),
    ] {
        assert_eq!(got.annotation(name), &value, "{name}");
    }
    for name in ["x-opt-enqueued-time", "iothub-enqueuedtime"] {
        let Value::Timestamp(at) = got.annotation(name) else { panic!("{got:?}") };
        assert!(at.clone().into_inner() >= before - 1);
    }
    assert_eq!(got.annotations.len(), 10, "{:?}", got.annotations);
}

#[tokio::test]
async fn every_start_position_finds_its_event() {
    let (hub, device) = hub().await;
    publish(&hub, &device, &["0", "1"]);
    hub.advance(Duration::from_secs(10));
    let between = hub.hub().now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() - 5_000;
    publish(&hub, &device, &["2", "3"]);
    let offset = hub.hub().events()[1].offset;
    let address = partition(&hub, "$Default");
    let mut client = with_policy(&hub, "service").await;
    for (filter, first) in [
        (EARLIEST.to_owned(), "0"),
        (format!("amqp.annotation.x-opt-offset > '{offset}'"), "2"),
        (format!("amqp.annotation.x-opt-offset >= '{offset}'"), "1"),
        ("amqp.annotation.x-opt-sequence-number > '2'".to_owned(), "3"),
        ("amqp.annotation.x-opt-sequence-number >= 2".to_owned(), "2"),
        (format!("amqp.annotation.x-opt-enqueued-time > '{between}'"), "2"),
    ] {
        let mut reader = reader(&mut client, &address, &filter).await;
        assert_eq!(take(&mut reader).await.text(), first, "{filter}");
        soon(reader.close()).await.unwrap();
    }
    let mut from_now_on = reader(&mut client, &address, LATEST).await;
    let mut unfiltered = client.receiver(&address).await.unwrap();
    publish(&hub, &device, &["4"]);
    assert_eq!(take(&mut from_now_on).await.text(), "4");
    for body in ["0", "1", "2", "3", "4"] {
        assert_eq!(take(&mut unfiltered).await.text(), body);
    }
    let wrong = refused(&mut client, source(&address, "color = 'red'"), Fields::new()).await;
    assert_eq!(wrong.condition, "amqp:invalid-field");
}

#[tokio::test]
async fn thousands_of_events_arrive_in_order_while_they_are_sent() {
    let (hub, device) = hub().await;
    publish(&hub, &device, &["0"]);
    let mut service = with_policy(&hub, "service").await;
    let mut reader = reader(&mut service, &partition(&hub, "$Default"), EARLIEST).await;
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let mut sender = client.sender("/devices/d/messages/events").await.unwrap();
    let sending = tokio::spawn(async move {
        for n in 1..3000_u32 {
            let message = message(data(n.to_string().as_bytes()));
            let sendable = Sendable::builder().message(message).settled(true).build();
            soon(sender.send(sendable)).await.unwrap();
        }
        sender
    });
    for n in 0..3000_u32 {
        let got = take(&mut reader).await;
        assert_eq!(got.text(), n.to_string());
        assert_eq!(got.annotation("x-opt-sequence-number"), &Value::Long(n.into()));
    }
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn batches_become_events_of_their_own() {
    let (hub, device) = hub().await;
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let mut sender = client.sender("/devices/d/messages/events").await.unwrap();
    // Application properties and data, as the C SDK has them in a batch (amqp.md 4.4).
    let inner = |body: u8| {
        let parts = [&b"\x00\x53\x74\xc1\x07\x02\xa1\x01k\xa1\x01v"[..], b"\x00\x53\x75\xa0\x01", &[body]];
        Data(parts.concat().into())
    };
    let batch = message(Body::Data(vec![inner(b'1'), inner(b'2')].into()));
    let batch = Sendable::builder().message(batch).message_format(0x8001_3700).build();
    assert_accepted(soon(sender.send(batch)).await.unwrap());
    let events = hub.hub().events();
    let bodies: Vec<_> = events.iter().map(|event| event.message.body.clone()).collect();
    assert_eq!(bodies, ["1", "2"]);
    assert!(events.iter().all(|event| event.message.property("k") == Some("v")));
}

#[tokio::test]
async fn a_higher_epoch_steals_and_a_lower_one_is_refused() {
    let (hub, device) = hub().await;
    publish(&hub, &device, &["0"]);
    let address = partition(&hub, "$Default");
    let mut client = with_policy(&hub, "service").await;
    let mut plain = reader(&mut client, &address, EARLIEST).await;
    let mut other = with_policy(&hub, "service").await;
    let mut owner =
        other.receiver_with(source(&address, EARLIEST), CreditMode::Auto(10), epoch(1)).await.unwrap();
    assert_eq!(detached(&mut plain).await.condition, "amqp:link:stolen");
    assert_eq!(take(&mut owner).await.text(), "0");
    for properties in [Fields::new(), epoch(0)] {
        let refusal = refused(&mut client, source(&address, EARLIEST), properties).await;
        assert_eq!(refusal.condition, "amqp:link:stolen");
    }
    let mut higher =
        client.receiver_with(source(&address, EARLIEST), CreditMode::Auto(10), epoch(1)).await.unwrap();
    assert_eq!(detached(&mut owner).await.condition, "amqp:link:stolen");
    assert_eq!(take(&mut higher).await.text(), "0");
    // Another consumer group is another matter.
    let elsewhere = partition(&hub, "mine");
    let mut mine = reader(&mut other, &elsewhere, EARLIEST).await;
    assert_eq!(take(&mut mine).await.text(), "0");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_needs_a_token() {
    let (hub, device) = hub().await;
    publish(&hub, &device, &["0"]);
    let mut client = with_policy(&hub, "service").await;
    for address in [
        "localhost/ConsumerGroups/$Default/Partitions/4",
        "localhost/ConsumerGroups/$Default/Partitions/01",
        "localhost/ConsumerGroups/$Default/Partitions/x",
        "otherhub/ConsumerGroups/$Default/Partitions/0",
    ] {
        assert_eq!(client.receiver_refused(address).await.condition, "amqp:not-found", "{address}");
    }
    assert_eq!(client.sender_refused(&partition(&hub, "$Default")).await.code, 404_006);
    let mut owner = Client::authenticated(&hub, &[&device]).await;
    let refusal = owner.receiver_refused(&partition(&hub, "$Default")).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access");

    // As Event Hubs clients do it: a token for each address, sb:// and all, with the text of the key.
    let key = &hub.hub().policy("service").unwrap().primary;
    let text = key.for_event_hub();
    let mut client = Client::open(&hub).await;
    let address = partition(&hub, "$Default");
    let narrow = |address: &str| token(&text, &format!("sb://localhost/{address}"), Some("service"), 3600);
    assert_eq!(client.put_token(&narrow(&address)).await.1, 200);
    let elsewhere = partition(&hub, "mine");
    assert_eq!(client.receiver_refused(&elsewhere).await.condition, "amqp:unauthorized-access");
    let mut reader = reader(&mut client, &address, EARLIEST).await;
    assert_eq!(take(&mut reader).await.text(), "0");
    // And as the redirect sample does it.
    let events = token(key, "localhost/messages/events", Some("service"), 3600);
    assert_eq!(client.put_token(&events).await.1, 200);
    client.receiver(&elsewhere).await.unwrap();
}

/// A request to `$management` and its answer: status, text, body.
async fn ask(
    sender: &mut Sender,
    receiver: &mut Receiver,
    properties: &[(&str, &str)],
) -> (i32, Body<Value>) {
    let request = Message {
        properties: Some(Properties::builder().message_id("1".to_owned()).reply_to("me".to_owned()).build()),
        application_properties: user(properties),
        ..message(Body::Value(fe2o3_amqp::types::messaging::AmqpValue(Value::Binary(b"[]".to_vec().into()))))
    };
    assert_accepted(send(sender, request).await);
    let delivery = next(receiver).await;
    receiver.accept(&delivery).await.unwrap();
    let answer = delivery.into_message();
    assert_eq!(answer.properties.unwrap().correlation_id, Some("1".to_owned().into()));
    let properties: ApplicationProperties = answer.application_properties.unwrap();
    let Some(SimpleValue::Int(status)) = properties.get("status-code") else { panic!("{properties:?}") };
    assert!(matches!(properties.get("status-description"), Some(SimpleValue::String(_))));
    (*status, answer.body)
}

fn map(body: Body<Value>) -> Vec<(String, Value)> {
    let Body::Value(fe2o3_amqp::types::messaging::AmqpValue(Value::Map(map))) = body else {
        panic!("{body:?}")
    };
    map.into_iter()
        .map(|(key, value)| match key {
            Value::String(key) => (key, value),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn management_tells_what_there_is() {
    let (hub, device) = hub().await;
    publish(&hub, &device, &["0", "1"]);
    let mut client = with_policy(&hub, "service").await;
    let mut sender = client.sender("$management").await.unwrap();
    let builder = Receiver::builder().name("replies").source("$management").target("me".to_owned());
    let mut receiver = soon(builder.attach(&mut client.session)).await.unwrap();

    let read = |kind: &'static str| [("operation", "READ"), ("name", "localhost"), ("type", kind)];
    let (status, body) = ask(&mut sender, &mut receiver, &read("com.microsoft:eventhub")).await;
    assert_eq!(status, 200);
    let body = map(body);
    let value = |body: &[(String, Value)], name: &str| {
        body.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    assert_eq!(value(&body, "name"), Some(Value::String("localhost".to_owned())));
    assert_eq!(value(&body, "partition_count"), Some(Value::Int(4)));
    let ids = ["0", "1", "2", "3"].map(|id| Value::String(id.to_owned())).to_vec();
    assert_eq!(value(&body, "partition_ids"), Some(Value::Array(ids.into())));
    assert!(matches!(value(&body, "created_at"), Some(Value::Timestamp(_))));

    let used = partition(&hub, "g").rsplit('/').next().unwrap().to_owned();
    for id in ["0", "1", "2", "3"] {
        let mut request = read("com.microsoft:partition").to_vec();
        request.push(("partition", id));
        let (status, body) = ask(&mut sender, &mut receiver, &request).await;
        let body = map(body);
        assert_eq!((status, body.len()), (200, 8));
        let is_empty = id != used;
        assert_eq!(value(&body, "partition"), Some(Value::String(id.to_owned())));
        assert_eq!(value(&body, "is_partition_empty"), Some(Value::Bool(is_empty)));
        let last = if is_empty { -1 } else { 1 };
        assert_eq!(value(&body, "last_enqueued_sequence_number"), Some(Value::Long(last)));
        assert_eq!(value(&body, "begin_sequence_number"), Some(Value::Long(0)));
        let offset = hub.hub().events()[1].offset.to_string();
        let offset = if is_empty { "-1".to_owned() } else { offset };
        assert_eq!(value(&body, "last_enqueued_offset"), Some(Value::String(offset)));
        assert!(matches!(value(&body, "last_enqueued_time_utc"), Some(Value::Timestamp(_))));
    }
    for (request, expected) in [
        (vec![("operation", "READ"), ("name", "other"), ("type", "com.microsoft:eventhub")], 404),
        (vec![("operation", "READ"), ("name", "localhost"), ("type", "x")], 400),
        (vec![("operation", "WRITE"), ("name", "localhost"), ("type", "com.microsoft:eventhub")], 400),
        ([&read("com.microsoft:partition")[..], &[("partition", "9")]].concat(), 404),
    ] {
        assert_eq!(ask(&mut sender, &mut receiver, &request).await.0, expected, "{request:?}");
    }
}

/// The error a link was closed with after it had been granted, or instead.
async fn closed(
    connection: &mut ConnectionHandle<()>,
    address: &str,
) -> (fe2o3_amqp::types::definitions::Error, SessionHandle<()>) {
    loop {
        let mut session = soon(fe2o3_amqp::Session::begin(connection)).await.unwrap();
        match soon(Receiver::attach(&mut session, "r", address)).await {
            Err(ReceiverAttachError::RemoteClosedWithError(error)) => return (error, session),
            Err(ReceiverAttachError::IllegalState) => {}
            Err(other) => panic!("{other:?}"),
            Ok(mut receiver) => match soon(receiver.recv::<Body<Value>>()).await {
                Err(fe2o3_amqp::link::RecvError::LinkStateError(
                    fe2o3_amqp::link::LinkStateError::RemoteClosedWithError(error),
                )) => return (error, session),
                other => panic!("{other:?}"),
            },
        }
    }
}

#[tokio::test]
async fn the_hubs_own_address_redirects_to_where_the_events_are() {
    let (hub, device) = hub().await;
    publish(&hub, &device, &["0"]);
    let mut client = with_policy(&hub, "service").await;
    for (address, suffix) in [
        ("amqps://localhost/messages/events/$management", "$management"),
        ("/messages/events/ConsumerGroups/$Default/Partitions/0", "ConsumerGroups/$Default/Partitions/0"),
    ] {
        let (error, _session) = closed(&mut client.connection, address).await;
        assert_eq!(condition(&error.condition), "amqp:link:redirect");
        let info = error.info.unwrap();
        let info = |name: &str| info.iter().find(|(key, _)| key.as_str() == name).unwrap().1.clone();
        let port = hub.amqps_port();
        assert_eq!(info("hostname"), Value::String("localhost".to_owned()));
        assert_eq!(info("network-host"), Value::String("localhost".to_owned()));
        assert_eq!(info("port"), Value::Ushort(port));
        let there = format!("amqps://localhost:{port}/localhost/{suffix}");
        assert_eq!(info("address"), Value::String(there.clone()));
        client.receiver(&there).await.unwrap();
    }
}

#[tokio::test]
async fn outputs_reach_the_inputs_of_other_modules() {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "e");
    let (a, b) = (create_module(&hub, "e", "a"), create_module(&hub, "e", "b"));
    let edge = json!({ "deviceId": "e", "capabilities": { "iotEdge": true } });
    hub.hub().put_device("e", &edge, Precondition::IfMatch(None)).unwrap();
    let route = r#"FROM /messages/modules/a/outputs/x INTO BrokeredEndpoint("/modules/b/inputs/y")"#;
    let twin = json!({ "properties": { "desired": { "routes": { "r": route } } } });
    let edge_hub = Identity::module("e", "$edgeHub").unwrap();
    hub.hub().patch_twin(&edge_hub, &twin, Precondition::None).unwrap();

    let mut client = Client::authenticated(&hub, &[&a, &b]).await;
    let mut receiver = client.receiver("/devices/e/modules/b/messages/events").await.unwrap();
    let mut sender = client.sender("/devices/e/modules/a/messages/events").await.unwrap();
    let sent = |output: &str| Message {
        application_properties: user(&[("iothub-outputname", output), ("k", "v")]),
        ..message(data(output.as_bytes()))
    };
    assert_accepted(send(&mut sender, sent("other")).await);
    assert_accepted(send(&mut sender, sent("x")).await);
    let delivery = next(&mut receiver).await;
    let got = Got::read(&delivery);
    assert_eq!(got.text(), "x");
    let text = |text: &str| Value::String(text.to_owned());
    assert_eq!(got.annotation("x-opt-input-name"), &text("y"));
    assert_eq!(got.annotation("iothub-connection-device-id"), &text("e"));
    assert_eq!(got.annotation("iothub-connection-module-id"), &text("a"));
    assert_eq!(got.user.len(), 1);
    receiver.release(&delivery).await.unwrap();
    assert_eq!(take(&mut receiver).await.delivery_count(), 1);
    let events = hub.hub().events();
    assert_eq!((events.len(), &events[0].message.body[..]), (1, &b"other"[..]));
}
