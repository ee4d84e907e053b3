//! Faults that clients ask for in a message (amqp.md 7), and what C# needs when it settles second.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::Duration;

use amqp_client::messages::{assert_accepted, detached, send, text, user};
use amqp_client::{Client, Refusal, condition, create_device, data, message, tls, token_for};
use fe2o3_amqp::connection::Error as ConnectionError;
use fe2o3_amqp::session::Error as SessionError;
use fe2o3_amqp::types::messaging::{Body, Data, Message};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sendable, Sender};
use iothub_amqp::Driver;
use iothub_amqp::proto::{AttachOptions, Config, Credit, Delivery, Event, LinkId, Side};
use iothub_amqp::sasl::{self, Plain};
use iothub_amqp::types::definitions::ReceiverSettleMode;
use iothub_amqp::types::messaging::{Accepted, DeliveryState};
use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Message as HubMessage;
use support::soon;

async fn start() -> (LocalHub, Identity, Client, Sender) {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let sender = client.sender("/devices/d/messages/events").await.unwrap();
    (hub, device, client, sender)
}

fn fault(operation: &str, seconds: &str) -> Message<Body<Value>> {
    let properties = user(&[
        ("AzIoTHub_FaultOperationType", operation),
        ("AzIoTHub_FaultOperationCloseReason", "boom"),
        ("AzIoTHub_FaultOperationDelayInSecs", "0"),
        ("AzIoTHub_FaultOperationDurationInSecs", seconds),
    ]);
    Message { application_properties: properties, ..message(data(b"")) }
}

/// Takes what C sends for a message: a batch of one, with the fault on the outside.
async fn outside_of_a_batch(sender: &mut Sender, operation: &str) {
    let batch = Message {
        body: Body::Data(vec![Data(b"\x00\x53\x75\xa0\x01x".to_vec().into())].into()),
        ..fault(operation, "1")
    };
    let batch = Sendable::builder().message(batch).message_format(0x8001_3700).build();
    assert_accepted(soon(sender.send(batch)).await.unwrap());
}

#[tokio::test]
async fn a_killed_socket_ends_without_a_word() {
    let (hub, device, mut client, mut sender) = start().await;
    outside_of_a_batch(&mut sender, "KillTcp").await;
    match soon(client.connection.on_close()).await {
        Err(ConnectionError::RemoteClosed | ConnectionError::RemoteClosedWithError(_)) => panic!("a word"),
        Err(_) => {}
        Ok(()) => panic!("no error"),
    }
    assert_eq!(hub.hub().events().len(), 0, "it is no telemetry");
    // And the device comes back.
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let mut sender = client.sender("/devices/d/messages/events").await.unwrap();
    assert_accepted(send(&mut sender, message(data(b"x"))).await);
}

#[tokio::test]
async fn connections_are_closed_with_and_without_an_error() {
    let (hub, device, mut client, mut sender) = start().await;
    send(&mut sender, fault("KillAmqpConnection", "1")).await;
    match soon(client.connection.on_close()).await {
        Err(ConnectionError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:connection:forced");
            assert_eq!(Refusal::from(error).text, "Fault injection: boom");
        }
        other => panic!("{other:?}"),
    }
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let mut sender = client.sender("/devices/d/messages/events").await.unwrap();
    send(&mut sender, fault("ShutDownAmqp", "1")).await;
    let closed = soon(client.connection.on_close()).await;
    assert!(matches!(closed, Err(ConnectionError::RemoteClosed)), "{closed:?}");
}

#[tokio::test]
async fn a_session_ends_alone() {
    let (_hub, _device, mut client, mut sender) = start().await;
    let mut other = soon(fe2o3_amqp::Session::begin(&mut client.connection)).await.unwrap();
    let mut second = soon(Sender::attach(&mut other, "s", "/devices/d/messages/events")).await.unwrap();
    send(&mut sender, fault("KillAmqpSession", "1")).await;
    match soon(client.session.on_end()).await {
        Err(SessionError::RemoteEndedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:internal-error");
        }
        other => panic!("{other:?}"),
    }
    assert_accepted(send(&mut second, message(data(b"x"))).await);
}

#[tokio::test]
async fn each_link_is_detached_alone() {
    let (_hub, device, mut client, mut sender) = start().await;
    let twin = client.twin(&device).await;
    let (mut twin_sender, mut twin_receiver) = (twin.sender, twin.receiver);
    let mut messages = client.receiver("/devices/d/messages/devicebound").await.unwrap();
    let mut calls = client.receiver("/devices/d/methods/devicebound").await.unwrap();
    let mut answers = client.sender("/devices/d/methods/devicebound").await.unwrap();

    let receivers: [(&str, &mut Receiver); 3] = [
        ("KillAmqpc2dLink", &mut messages),
        ("KillAmqpTwinLinkResp", &mut twin_receiver),
        ("KillAmqpMethodReqLink", &mut calls),
    ];
    for (operation, receiver) in receivers {
        assert_accepted(send(&mut sender, fault(operation, "1")).await);
        assert_eq!(detached(receiver).await.condition, "amqp:link:detach-forced", "{operation}");
    }
    let senders: [(&str, &mut Sender); 2] =
        [("KillAmqpTwinLinkReq", &mut twin_sender), ("KillAmqpMethodRespLink", &mut answers)];
    for (operation, killed) in senders {
        assert_accepted(send(&mut sender, fault(operation, "1")).await);
        let refusal = Refusal::from(soon(killed.on_detach()).await);
        assert_eq!(refusal.condition, "amqp:link:detach-forced", "{operation}");
    }
    assert_accepted(send(&mut sender, fault("KillAmqpD2CLink", "1")).await);
    assert_eq!(Refusal::from(soon(sender.on_detach()).await).condition, "amqp:link:detach-forced");
    // The connection and its token are as they were.
    client.receiver("/devices/d/messages/devicebound").await.unwrap();
}

#[tokio::test]
async fn messages_are_refused_for_a_while() {
    let (hub, _device, _client, mut sender) = start().await;
    for (operation, expected, code) in [
        ("InvokeThrottling", "com.microsoft:device-container-throttled", 429_001),
        ("InvokeMaxMessageQuota", "amqp:resource-limit-exceeded", 403_002),
        ("InvokeAuthError", "amqp:unauthorized-access", 401_003),
    ] {
        assert_accepted(send(&mut sender, fault(operation, "20")).await);
        let refused = loop {
            // The fault comes after the acceptance.
            let outcome = send(&mut sender, message(data(b"x"))).await;
            if !matches!(outcome, fe2o3_amqp::types::messaging::Outcome::Accepted(_)) {
                break Refusal::from(outcome);
            }
        };
        assert_eq!((refused.condition.as_str(), refused.code), (expected, code));
        hub.advance(Duration::from_secs(20));
        assert_accepted(send(&mut sender, message(data(b"x"))).await);
    }
}

#[tokio::test]
async fn a_fault_waits_for_its_delay_by_the_hubs_clock() {
    let (hub, _device, mut client, mut sender) = start().await;
    let mut late = fault("KillAmqpConnection", "1");
    let properties = late.application_properties.as_mut().unwrap();
    // Node sends a number.
    properties.insert("AzIoTHub_FaultOperationDelayInSecs".to_owned(), SimpleValue::Int(600));
    assert_accepted(send(&mut sender, late).await);
    let mut unknown = fault("Whatever", "1");
    unknown.application_properties.as_mut().unwrap().insert("x".to_owned(), text("y"));
    assert_accepted(send(&mut sender, unknown).await);
    assert_accepted(send(&mut sender, message(data(b"x"))).await);
    hub.advance(Duration::from_secs(600));
    let closed = soon(client.connection.on_close()).await;
    assert!(matches!(closed, Err(ConnectionError::RemoteClosedWithError(_))), "{closed:?}");
}

/// Our own engine as a client that settles second, with a token by PLAIN.
struct Second {
    driver: Driver<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    link: LinkId,
}

impl Second {
    async fn open(hub: &LocalHub, device: &Identity) -> Self {
        let mut io = tls(hub).await;
        let token = token_for(hub, device, 3600);
        let login = Plain { name: format!("{device}@sas.localhost"), password: token.into() };
        soon(sasl::client_plain(&mut io, &login)).await.unwrap();
        let mut driver = Driver::new(io, Side::Client, Config::new("second"));
        let session = driver.connection().begin().unwrap();
        let address = "/devices/d/messages/devicebound";
        let options = AttachOptions {
            rcv_settle_mode: ReceiverSettleMode::Second,
            ..AttachOptions::receiver("second", address, Credit::Auto(10))
        };
        let link = driver.connection().attach(session, options).unwrap();
        Self { driver, link }
    }

    async fn message(&mut self) -> Delivery {
        loop {
            if let Event::Message(delivery) = soon(self.driver.next()).await {
                return delivery;
            }
        }
    }

    /// Accepts without settling; what the hub makes of it.
    async fn accept(&mut self, delivery: &Delivery) -> Option<DeliveryState> {
        let accepted = DeliveryState::Accepted(Accepted {});
        assert!(self.driver.connection().dispose(self.link, delivery.id, accepted, false));
        loop {
            if let Event::Settled { delivery: settled, state, .. } = soon(self.driver.next()).await {
                assert_eq!(settled, delivery.id);
                return state;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_settles_second_waits_for_the_hubs_word() {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let mut client = Second::open(&hub, &device).await;
    let queue = || hub.hub().send_to_device(&device, HubMessage::default()).unwrap();
    queue();
    let delivery = client.message().await;
    assert_eq!(delivery.tag.len(), 16);
    assert_eq!(client.accept(&delivery).await, Some(DeliveryState::Accepted(Accepted {})));
    assert_eq!(hub.hub().get_device("d").unwrap()["cloudToDeviceMessageCount"], 0);

    queue();
    let late = client.message().await;
    hub.advance(Duration::from_secs(60));
    let again = client.message().await;
    // C# takes this condition for a lost lock (amqp.md 3.5).
    match client.accept(&late).await {
        Some(DeliveryState::Rejected(rejected)) => {
            let error = rejected.error.unwrap();
            assert_eq!(iothub_amqp::condition(&error), "amqp:not-found");
            assert!(error.description.unwrap().contains("412002"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(hub.hub().get_device("d").unwrap()["cloudToDeviceMessageCount"], 1);
    assert_eq!(client.accept(&again).await, Some(DeliveryState::Accepted(Accepted {})));
    assert_eq!(hub.hub().get_device("d").unwrap()["cloudToDeviceMessageCount"], 0);
}
