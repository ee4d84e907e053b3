//! Twins over AMQP (amqp.md 3.8): what is asked, answered and pushed.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use amqp_client::{
    Client, NOTIFICATIONS, REPORTED, Refusal, connection_state, create_device, create_module, data, message,
    receive,
};
use fe2o3_amqp::Sendable;
use fe2o3_amqp::link::SenderAttachError;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::types::messaging::{Body, MessageId, Outcome, Properties};
use fe2o3_amqp::types::primitives::Value;
use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use serde_json::{Value as Json, json};
use support::soon;

async fn start() -> (LocalHub, Identity, Client) {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "d");
    let identity = create_module(&hub, "d", "m");
    let client = Client::authenticated(&hub, &[&identity]).await;
    (hub, identity, client)
}

fn patch(hub: &LocalHub, identity: &Identity, desired: &Json) {
    let body = json!({ "properties": { "desired": desired } });
    hub.hub().patch_twin(identity, &body, Precondition::None).unwrap();
}

fn reported(hub: &LocalHub, identity: &Identity) -> Json {
    let mut twin = hub.hub().get_twin(identity).unwrap();
    let mut reported = twin["properties"]["reported"].take();
    reported.as_object_mut().unwrap().remove("$metadata");
    reported
}

#[tokio::test]
async fn get_gives_both_sections_with_their_versions() {
    let (hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    let answer = twin.get().await;
    assert_eq!((answer.status(), answer.version()), (200, 1));
    assert_eq!(answer.json(), json!({ "desired": { "$version": 1 }, "reported": { "$version": 1 } }));

    patch(&hub, &identity, &json!({ "rate": 5 }));
    let answer = twin.get().await;
    assert_eq!((answer.status(), answer.version()), (200, 2));
    assert_eq!(answer.json()["desired"], json!({ "rate": 5, "$version": 2 }));
}

#[tokio::test]
async fn patch_reports_and_answers_with_the_version() {
    let (hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    for (body, version, after) in [
        (r#"{"a":1,"b":{"c":"x"}}"#, 2, json!({ "a": 1, "b": { "c": "x" }, "$version": 2 })),
        (r#"{"b":{"c":null,"d":28.02}}"#, 3, json!({ "a": 1, "b": { "d": 28.02 }, "$version": 3 })),
        ("{}", 4, json!({ "a": 1, "b": { "d": 28.02 }, "$version": 4 })),
    ] {
        let answer = twin.patch(body).await;
        assert_eq!((answer.status(), answer.version(), answer.body.len()), (200, version, 0));
        assert_eq!(reported(&hub, &identity), after);
    }
}

#[tokio::test]
async fn requests_are_answered_in_order() {
    let (_hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    for n in 0..300_u64 {
        let body = data(format!("{{\"n\":{n}}}").as_bytes());
        twin.send(Some(MessageId::Ulong(n)), "PATCH", Some(REPORTED), body, true).await.unwrap();
    }
    for n in 0..300_u64 {
        let answer = twin.next().await;
        assert_eq!((answer.id.as_ref(), answer.version()), (Some(&MessageId::Ulong(n)), n as i64 + 2));
    }
}

#[tokio::test]
async fn the_id_comes_back_with_its_type() {
    let (_hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    for id in [
        MessageId::String("Get0b0c".into()),
        MessageId::Uuid([9; 16].into()),
        MessageId::Ulong(u64::MAX),
        MessageId::Binary(vec![0, 255].into()),
    ] {
        // C# sends no body at all, Java an empty one, others a space.
        for body in [Body::Empty, data(b""), data(b" ")] {
            twin.send(Some(id.clone()), "GET", None, body, true).await.unwrap();
            let answer = twin.next().await;
            assert_eq!((answer.id.as_ref(), answer.status()), (Some(&id), 200));
        }
    }
}

#[tokio::test]
async fn a_message_id_is_as_good_and_no_id_is_refused() {
    let (_hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    let id = MessageId::Ulong(7);
    let mut get = amqp_client::request(None, "GET", None, Body::Empty);
    get.properties = Some(Properties { message_id: Some(id.clone()), ..Properties::default() });
    soon(twin.sender.send(Sendable::builder().message(get).settled(true).build())).await.unwrap();
    assert_eq!(twin.next().await.id, Some(id));

    // Unsettled: an outcome says it.
    let outcome = twin.send(None, "GET", None, Body::Empty, false).await.unwrap();
    assert_eq!(Refusal::from(outcome).condition, "amqp:invalid-field");
    assert_eq!(twin.get().await.status(), 200);
    // Settled: nothing but the link itself can say it.
    twin.send(None, "GET", None, Body::Empty, true).await.unwrap();
    assert_eq!(twin.detached().await.condition, "amqp:invalid-field");
}

#[tokio::test]
async fn unsettled_requests_are_accepted() {
    let (_hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    for (operation, resource) in [("PUT", Some(NOTIFICATIONS)), ("PATCH", Some(REPORTED)), ("GET", None)] {
        let id = Some(MessageId::Uuid([3; 16].into()));
        let outcome = twin.send(id.clone(), operation, resource, data(b"{}"), false).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted(_)), "{operation}: {outcome:?}");
        let answer = twin.next().await;
        assert_eq!((answer.id.as_ref(), answer.status()), (id.as_ref(), 200));
    }
}

#[tokio::test]
async fn bad_reports_change_nothing_and_say_why() {
    let (hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(4097));
    let large = format!(
        r#"{{{}}}"#,
        (0..9).map(|n| format!(r#""k{n}":"{}""#, "x".repeat(4000))).collect::<Vec<_>>().join(",")
    );
    let nested = "[".repeat(100_000);
    for (body, status, code, text) in [
        (r#"{"a.b":1,"ok":2}"#, 400, 400_004, "Error in Property/Tag a.b."),
        (r#"{"$x":1}"#, 400, 400_004, "$x"),
        (r#"{"a b":1}"#, 400, 400_004, "a b"),
        (r#"{"l":[1,null]}"#, 400, 400_004, "cannot be null"),
        (long.as_str(), 400, 400_004, "4096"),
        (large.as_str(), 403, 403_100, "'Properties.Reported' size should be less than 32768 bytes."),
        ("{\"a\":", 400, 400_006, "JSON"),
        ("", 400, 400_006, "JSON"),
        ("\u{0}", 400, 400_006, "JSON"),
        (nested.as_str(), 400, 400_006, "JSON"),
        ("[1]", 400, 400_004, ""),
    ] {
        let answer = twin.patch(body).await;
        assert_eq!(answer.status(), status, "{}", String::from_utf8_lossy(&answer.body));
        let error = answer.json();
        assert_eq!(error["errorCode"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
        assert!(error["trackingId"].is_string() && error["timestampUtc"].is_string(), "{error}");
    }
    assert_eq!(reported(&hub, &identity), json!({ "$version": 1 }));
    assert_eq!(twin.patch(r#"{"ok":2}"#).await.version(), 2);
}

#[tokio::test]
async fn unknown_operations_and_resources_are_bad_requests() {
    let (_hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    for (operation, resource) in [
        ("POST", None),
        ("", None),
        ("PATCH", Some("/properties/desired")),
        ("PATCH", None),
        ("PUT", Some(REPORTED)),
        ("DELETE", None),
    ] {
        let answer = twin.ask(operation, resource, b"{}").await;
        assert_eq!((answer.status(), &answer.json()["errorCode"]), (400, &json!(400_004)), "{operation}");
    }
}

#[tokio::test]
async fn desired_changes_are_told_to_who_subscribed() {
    let (hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    // Before the subscription nothing is told, and subscribing tells nothing.
    patch(&hub, &identity, &json!({ "early": 1 }));
    twin.subscribe().await;
    patch(&hub, &identity, &json!({ "a": 1 }));
    patch(&hub, &identity, &json!({ "a": null, "b": { "c": [1, 2] } }));
    for (version, body) in [
        (3, json!({ "a": 1, "$version": 3 })),
        (4, json!({ "a": null, "b": { "c": [1, 2] }, "$version": 4 })),
    ] {
        let notification = twin.next().await;
        assert_eq!(notification.id, None);
        assert_eq!(notification.annotation("resource"), Some(&Value::String("/properties/desired".into())));
        assert_eq!(notification.annotation("status"), None);
        assert_eq!(notification.version(), version);
        assert_eq!(notification.json(), body);
    }
    // Tags, reports and repeated subscriptions tell nothing.
    hub.hub().patch_twin(&identity, &json!({ "tags": { "t": 1 } }), Precondition::None).unwrap();
    assert_eq!(twin.patch(r#"{"r":1}"#).await.status(), 200);
    twin.subscribe().await;

    assert_eq!(twin.ask("DELETE", Some(NOTIFICATIONS), b" ").await.status(), 200);
    patch(&hub, &identity, &json!({ "a": 2 }));
    // `ask` fails when anything but its answer comes.
    assert_eq!(twin.get().await.version(), 5);
}

#[tokio::test]
async fn identities_on_one_connection_have_their_own_twins() {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let module = create_module(&hub, "d", "m");
    let mut client = Client::authenticated(&hub, &[&device, &module]).await;
    let (mut one, mut other) = (client.twin(&device).await, client.twin(&module).await);
    one.subscribe().await;
    other.subscribe().await;
    patch(&hub, &device, &json!({ "for": "device" }));
    patch(&hub, &module, &json!({ "for": "module" }));
    assert_eq!(one.next().await.json()["for"], "device");
    assert_eq!(other.next().await.json()["for"], "module");
    assert_eq!(one.patch(r#"{"r":1}"#).await.version(), 2);
    assert_eq!(reported(&hub, &module), json!({ "$version": 1 }));
}

#[tokio::test]
async fn requests_wait_for_the_receiver_of_their_pair() {
    let (hub, identity, mut client) = start().await;
    let mut sender = client.twin_sender(&identity, "p").await.unwrap();
    for n in 0..5 {
        let patch = amqp_client::request(
            Some(MessageId::Ulong(n)),
            "PATCH",
            Some(REPORTED),
            data(format!("{{\"n\":{n}}}").as_bytes()),
        );
        soon(sender.send(Sendable::builder().message(patch).settled(true).build())).await.unwrap();
    }
    let mut receiver = client.twin_receiver(&identity, "p", CreditMode::Auto(200)).await.unwrap();
    for n in 0..5 {
        let answer = receive(&mut receiver).await.unwrap();
        assert_eq!((answer.id.as_ref(), answer.version()), (Some(&MessageId::Ulong(n)), n as i64 + 2));
    }
    assert_eq!(reported(&hub, &identity)["n"], 4);
}

#[tokio::test]
async fn either_link_may_come_first() {
    let (_hub, identity, mut client) = start().await;
    let receiver = client.twin_receiver(&identity, "p", CreditMode::Auto(200)).await.unwrap();
    let sender = client.twin_sender(&identity, "p").await.unwrap();
    let mut twin = amqp_client::Twin { sender, receiver };
    assert_eq!(twin.get().await.status(), 200);
}

#[tokio::test]
async fn links_without_an_id_pair_by_session() {
    let (_hub, identity, mut client) = start().await;
    let address = identity.amqp_path("twin");
    let sender = client.sender(&address).await.unwrap();
    let receiver = client.receiver(&address).await.unwrap();
    let mut twin = amqp_client::Twin { sender, receiver };
    assert_eq!(twin.get().await.status(), 200);
}

#[tokio::test]
async fn a_new_pair_displaces_the_old_one() {
    let (hub, identity, mut client) = start().await;
    let mut old = client.twin(&identity).await;
    old.subscribe().await;
    let mut new = client.twin(&identity).await;
    assert_eq!(old.detached().await.condition, "amqp:link:stolen");
    // The subscription went with its pair.
    patch(&hub, &identity, &json!({ "a": 1 }));
    assert_eq!(new.get().await.status(), 200);
    assert_eq!(connection_state_of(&hub, &identity), "Connected");
}

fn connection_state_of(hub: &LocalHub, identity: &Identity) -> String {
    let module = hub.hub().get_module(identity.device_id(), identity.module_id().unwrap()).unwrap();
    module["connectionState"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_same_pair_once_more_is_a_conflict() {
    let (_hub, identity, mut client) = start().await;
    let sender = client.twin_sender(&identity, "p").await.unwrap();
    let receiver = client.twin_receiver(&identity, "p", CreditMode::Auto(200)).await.unwrap();
    match client.twin_sender(&identity, "p").await {
        Err(SenderAttachError::RemoteClosedWithError(error)) => {
            assert_eq!(Refusal::from(error).condition, "com.microsoft:link-creation-conflict");
        }
        // The stock client sometimes loses the reason.
        other => assert!(matches!(other, Err(SenderAttachError::IllegalState)), "{other:?}"),
    }
    let mut twin = amqp_client::Twin { sender, receiver };
    assert_eq!(twin.get().await.status(), 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_has_to_come_back() {
    let hub = LocalHub::start().await.unwrap();
    let (slow, other) = (create_device(&hub, "slow"), create_device(&hub, "other"));
    let mut client = Client::authenticated(&hub, &[&slow, &other]).await;
    let mut barrier = client.twin(&other).await;
    let sender = client.twin_sender(&slow, "p").await.unwrap();
    let mut receiver = client.twin_receiver(&slow, "p", CreditMode::Manual).await.unwrap();
    receiver.set_credit(1).await.unwrap();
    let mut twin = amqp_client::Twin { sender, receiver };
    twin.subscribe().await;

    // No credit is left. Each answer on the other twin shows that what came before was handed on: a thousand wait.
    for n in 0..2 {
        for k in 0..500 {
            patch(&hub, &slow, &json!({ "n": n * 500 + k }));
        }
        assert_eq!(barrier.get().await.status(), 200);
    }
    assert_eq!(connection_state(&hub, "slow"), "Connected");
    patch(&hub, &slow, &json!({ "n": 1000 }));
    let refusal = twin.detached().await;
    assert_eq!(refusal.condition, "amqp:link:detach-forced");
    assert!(refusal.text.contains("slow"), "{}", refusal.text);

    // It was told, and nothing is lost for who reads again.
    let mut twin = client.twin(&slow).await;
    let answer = twin.get().await;
    assert_eq!((answer.version(), &answer.json()["desired"]["n"]), (1002, &json!(1000)));
    assert_eq!(barrier.get().await.status(), 200);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let (_hub, identity, mut client) = start().await;
    let mut twin = client.twin(&identity).await;
    let sequence = || {
        let values = fe2o3_amqp::types::messaging::AmqpSequence(vec![Value::Bool(true)]);
        message(Body::Sequence(vec![values].into()))
    };
    let outcome = soon(twin.sender.send(sequence())).await.unwrap();
    assert_eq!(Refusal::from(outcome).condition, "amqp:decode-error");
    assert_eq!(twin.get().await.status(), 200);
    soon(twin.sender.send(Sendable::builder().message(sequence()).settled(true).build())).await.unwrap();
    assert_eq!(twin.detached().await.condition, "amqp:decode-error");
}
