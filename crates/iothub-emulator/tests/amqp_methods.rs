//! Direct methods over AMQP; the caller is in the same process.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::Duration;

use amqp_client::messages::{Got, assert_accepted, detached, next, send};
use amqp_client::{Client, Refusal, create_device, create_module, data, message};
use fe2o3_amqp::link::{ReceiverAttachError, SenderAttachError};
use fe2o3_amqp::types::definitions::{Fields, SenderSettleMode};
use fe2o3_amqp::types::messaging::{ApplicationProperties, Body, Message, MessageId, Properties};
use fe2o3_amqp::types::primitives::{SimpleValue, Symbol, Uuid, Value};
use fe2o3_amqp::{Receiver, Sendable, Sender};
use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{HubError, MethodRequest, MethodResponse};
use support::soon;
use tokio::task::JoinHandle;

/// Two methods links.
struct Methods {
    sender: Sender,
    receiver: Receiver,
}

fn correlation(value: &str) -> Fields {
    let mut properties = Fields::new();
    properties.insert(Symbol::from("com.microsoft:channel-correlation-id"), Value::String(value.to_owned()));
    properties
}

async fn sender(client: &mut Client, identity: &Identity, id: &str) -> Result<Sender, SenderAttachError> {
    let builder = Sender::builder()
        .name(client.name("sender"))
        .target(identity.amqp_path("methods/devicebound"))
        .sender_settle_mode(SenderSettleMode::Mixed)
        .properties(correlation(id));
    soon(builder.attach(&mut client.session)).await
}

async fn receiver(
    client: &mut Client,
    identity: &Identity,
    id: &str,
) -> Result<Receiver, ReceiverAttachError> {
    let builder = Receiver::builder()
        .name(client.name("receiver"))
        .source(identity.amqp_path("methods/deviceBound"))
        .properties(correlation(id));
    soon(builder.attach(&mut client.session)).await
}

async fn methods(client: &mut Client, identity: &Identity, id: &str) -> Methods {
    let sender = sender(client, identity, id).await.unwrap();
    Methods { sender, receiver: receiver(client, identity, id).await.unwrap() }
}

async fn hub() -> (LocalHub, Identity, Identity) {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let module = create_module(&hub, "d", "m");
    (hub, device, module)
}

fn call(hub: &LocalHub, target: &Identity) -> JoinHandle<Result<MethodResponse, HubError>> {
    let request = MethodRequest {
        name: "reboot".to_owned(),
        payload: "{\"in\":1}".into(),
        response_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(10),
    };
    let (hub, target) = (hub.hub().clone(), target.clone());
    tokio::spawn(async move { hub.invoke_method(&target, request).await })
}

fn answer(id: MessageId, status: SimpleValue, body: Body<Value>) -> Message<Body<Value>> {
    let mut properties = ApplicationProperties::default();
    properties.insert("IoThub-status".to_owned(), status);
    Message {
        properties: Some(Properties::builder().correlation_id(id).build()),
        application_properties: Some(properties),
        ..message(body)
    }
}

/// The id of the next call, after a look at what else is in it.
async fn call_id(receiver: &mut Receiver) -> Uuid {
    let delivery = next(receiver).await;
    let got = Got::read(&delivery);
    assert_eq!((got.text(), got.tag.len()), ("{\"in\":1}", 16));
    assert_eq!(got.user.len(), 1);
    assert_eq!(got.user["IoThub-methodname"], SimpleValue::String("reboot".to_owned()));
    // The stock client gives new credit for what was disposed of, settled or not.
    receiver.accept(&delivery).await.unwrap();
    match got.properties.correlation_id {
        Some(MessageId::Uuid(id)) => id,
        other => panic!("the C SDK takes nothing but a uuid: {other:?}"),
    }
}

fn text_of(id: &Uuid) -> String {
    uuid::Uuid::from_bytes(*id.as_inner()).to_string()
}

#[tokio::test]
async fn a_call_is_answered_by_its_uuid_or_its_text() {
    let (hub, device, module) = hub().await;
    let mut client = Client::owner(&hub).await;
    for identity in [&device, &module] {
        let mut links = methods(&mut client, identity, "methods:1").await;
        let calling = call(&hub, identity);
        let id = call_id(&mut links.receiver).await;
        let by_uuid = answer(MessageId::Uuid(id), SimpleValue::Int(201), data(b"{\"out\": 2.0}"));
        assert_accepted(send(&mut links.sender, by_uuid).await);
        let response = soon(calling).await.unwrap().unwrap();
        assert_eq!((response.status, &response.payload[..]), (201, &b"{\"out\": 2.0}"[..]));

        // Node writes a uuid as text where it takes it for something else, and C# settles.
        let calling = call(&hub, identity);
        let id = MessageId::String(text_of(&call_id(&mut links.receiver).await).to_uppercase());
        let by_text = answer(id, SimpleValue::Int(0), Body::Empty);
        let settled = Sendable::builder().message(by_text).settled(true).build();
        soon(links.sender.send(settled)).await.unwrap();
        let response = soon(calling).await.unwrap().unwrap();
        assert_eq!((response.status, &response.payload[..]), (0, &b"null"[..]));
    }
}

#[tokio::test]
async fn the_links_come_in_any_order_and_c_has_no_prefix() {
    let (hub, device, module) = hub().await;
    let mut client = Client::owner(&hub).await;
    for (identity, id) in [(&device, "d"), (&module, "methods:2")] {
        let calling = call(&hub, identity);
        let mut receiver = receiver(&mut client, identity, id).await.unwrap();
        let call_id = call_id(&mut receiver).await;
        let mut sender = sender(&mut client, identity, id).await.unwrap();
        let response = answer(MessageId::Uuid(call_id), SimpleValue::Int(200), data(b"1"));
        assert_accepted(send(&mut sender, response).await);
        assert_eq!(soon(calling).await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn answers_that_are_none_are_rejected_and_those_to_nothing_accepted() {
    let (hub, device, _) = hub().await;
    let mut client = Client::owner(&hub).await;
    let mut links = methods(&mut client, &device, "methods:1").await;
    let stranger = MessageId::Uuid(uuid::Uuid::new_v4().into_bytes().into());
    let ok = || SimpleValue::Int(200);
    assert_accepted(send(&mut links.sender, answer(stranger.clone(), ok(), data(b"1"))).await);
    let status = SimpleValue::String("200".to_owned());
    for bad in [
        message(data(b"1")),
        answer(MessageId::Ulong(5), ok(), data(b"1")),
        answer(stranger, status, data(b"1")),
    ] {
        let refusal = Refusal::from(send(&mut links.sender, bad).await);
        assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:invalid-field", 400_004));
    }
    let calling = call(&hub, &device);
    let id = MessageId::Uuid(call_id(&mut links.receiver).await);
    let refusal = Refusal::from(send(&mut links.sender, answer(id, ok(), data(b"{"))).await);
    assert_eq!(refusal.condition, "com.microsoft:argument-error");
    assert_eq!(soon(calling).await.unwrap().unwrap_err().status, 502);
}

#[tokio::test]
async fn who_goes_away_is_not_waited_for() {
    let (hub, device, _) = hub().await;
    let mut client = Client::owner(&hub).await;
    let mut links = methods(&mut client, &device, "methods:1").await;
    let calling = call(&hub, &device);
    call_id(&mut links.receiver).await;
    soon(links.receiver.close()).await.unwrap();
    assert_eq!(soon(calling).await.unwrap().unwrap_err().code, 404_104);

    let mut links = methods(&mut client, &device, "methods:2").await;
    let calling = call(&hub, &device);
    call_id(&mut links.receiver).await;
    soon(client.connection.close()).await.ok();
    assert_eq!(soon(calling).await.unwrap().unwrap_err().code, 404_104);
}

#[tokio::test]
async fn a_new_pair_takes_over_from_the_former_one() {
    let (hub, device, _) = hub().await;
    let mut client = Client::owner(&hub).await;
    let mut old = methods(&mut client, &device, "methods:1").await;
    // The same once more is a mistake (amqp.md 3.3), which the stock client cannot tell from its own.
    match sender(&mut client, &device, "methods:1").await {
        Err(SenderAttachError::RemoteClosedWithError(error)) => {
            assert_eq!(Refusal::from(error).condition, "com.microsoft:link-creation-conflict");
        }
        Err(SenderAttachError::IllegalState) => {}
        other => panic!("{other:?}"),
    }

    let mut second = Client::owner(&hub).await;
    let mut links = methods(&mut second, &device, "methods:2").await;
    assert_eq!(detached(&mut old.receiver).await.condition, "amqp:internal-error");
    let refusal = Refusal::from(soon(old.sender.on_detach()).await);
    assert_eq!(refusal.text, "Another AMQP Client has opened a Receive Link");
    let calling = call(&hub, &device);
    let id = call_id(&mut links.receiver).await;
    let response = answer(MessageId::Uuid(id), SimpleValue::Int(200), data(b"1"));
    assert_accepted(send(&mut links.sender, response).await);
    assert_eq!(soon(calling).await.unwrap().unwrap().status, 200);

    let newer = methods(&mut second, &device, "methods:3").await;
    assert_eq!(detached(&mut links.receiver).await.condition, "amqp:link:stolen");
    drop(newer);
}
