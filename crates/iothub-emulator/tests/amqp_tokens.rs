//! Tokens over AMQP: what `$cbs` and logins answer, and what a token is good for.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::Duration;

use amqp_client::{
    Client, KEY, OTHER_KEY, Refusal, condition, connection_state, create_device, create_module, data, device,
    key, message, put_token_message, token_for,
};
use fe2o3_amqp::connection::{Error as ConnectionError, OpenError};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{Body, MessageId};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::types::sasl::SaslCode;
use iothub_common::{Identity, SymmetricKey};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use serde_json::json;
use support::{owner_key, soon, token};

const TWIN: &str = "/devices/d/twin";

#[tokio::test]
async fn the_answer_has_the_id_with_its_type() {
    let hub = LocalHub::start().await.unwrap();
    let token = token_for(&hub, &create_device(&hub, "d"), 3600);
    let mut client = Client::open(&hub).await;
    for id in [
        MessageId::String("5e1f0bfc-6a7c-4c0e-9d8e-0f5f6a1c2b3d".into()),
        MessageId::Uuid([7; 16].into()),
        MessageId::Ulong(1 << 40),
        MessageId::Binary(vec![1, 2, 3].into()),
    ] {
        let (answered, status, _) =
            client.ask_cbs(put_token_message(id.clone(), Value::String(token.clone()))).await;
        assert_eq!((answered, status), (id, 200));
    }
}

#[tokio::test]
async fn tokens_that_prove_nothing_are_refused() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    create_module(&hub, "d", "m");
    let resource = identity.resource_uri("localhost");
    let other_key = SymmetricKey::from_base64(OTHER_KEY).unwrap();
    let mut client = Client::open(&hub).await;
    for (what, token, status, text) in [
        ("wrong key", token(&other_key, &resource, None, 3600), 401, "invalid signature"),
        ("expired", token(&key(), &resource, None, -3600), 401, "expired"),
        (
            "unknown device",
            token_for(&hub, &device("nobody"), 3600),
            404,
            "Device nobody at IotHub localhost not registered.",
        ),
        (
            "unknown module",
            token_for(&hub, &Identity::module("d", "nobody").unwrap(), 3600),
            404,
            "Module nobody on device d",
        ),
        ("other hub", token(&key(), "other.test/devices/d", None, 3600), 401, "other.test"),
        ("unknown policy", token(&key(), "localhost", Some("nobody"), 3600), 401, "nobody"),
        ("garbage", "hello".to_owned(), 401, "malformed"),
        ("empty", String::new(), 401, "malformed"),
    ] {
        let (_, answered, description) = client.put_token(&token).await;
        assert_eq!(answered, status, "{what}: {description}");
        assert!(description.contains(text), "{what}: {description}");
        assert!(!description.contains(KEY));
    }
    let refusal = client.sender_refused(TWIN).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access");
    // A good one still works on the same links.
    assert_eq!(client.put_token(&token_for(&hub, &identity, 3600)).await.1, 200);
    client.sender(TWIN).await.unwrap();
}

#[tokio::test]
async fn requests_that_are_no_put_token_are_bad() {
    let hub = LocalHub::start().await.unwrap();
    let token = Value::String(token_for(&hub, &create_device(&hub, "d"), 3600));
    let mut client = Client::open(&hub).await;
    let good = || put_token_message(MessageId::Ulong(1), token.clone());
    let changed = |name: &str, value: &str| {
        let mut message = good();
        let properties = message.application_properties.as_mut().unwrap();
        properties.insert(name.into(), SimpleValue::String(value.into()));
        message
    };
    let mut bare = good();
    bare.application_properties = None;
    let mut binary = good();
    binary.body = data(b"SharedAccessSignature sr=localhost");
    for message in [
        bare,
        binary,
        changed("operation", "delete-token"),
        changed("name", ""),
        changed("type", "jwt"),
        put_token_message(MessageId::Ulong(1), Value::Uint(1)),
    ] {
        let (id, status, _) = client.ask_cbs(message).await;
        assert_eq!((id, status), (MessageId::Ulong(1), 400));
    }
    for kind in ["azure-devices.net:sastoken", "ServiceBus.Windows.Net:SasToken"] {
        assert_eq!(client.ask_cbs(changed("type", kind)).await.1, 200, "{kind}");
    }
}

#[tokio::test]
async fn a_link_needs_a_token_that_covers_it() {
    let hub = LocalHub::start().await.unwrap();
    let (one, _) = (create_device(&hub, "d"), create_device(&hub, "e"));
    create_module(&hub, "d", "m");
    let mut client = Client::open(&hub).await;
    let refused = |refusal: Refusal| (refusal.condition, refusal.code);
    let unauthorized = ("amqp:unauthorized-access".to_owned(), 401_003);
    assert_eq!(refused(client.sender_refused(TWIN).await), unauthorized);
    assert_eq!(refused(client.receiver_refused(TWIN).await), unauthorized);
    // Who proved nothing does not learn either whether a device exists.
    assert_eq!(refused(client.sender_refused("/devices/nobody/twin").await), unauthorized);

    client.put_token(&token_for(&hub, &one, 3600)).await;
    client.sender(TWIN).await.unwrap();
    client.receiver(TWIN).await.unwrap();
    assert_eq!(refused(client.sender_refused("/devices/e/twin").await), unauthorized);
    assert_eq!(refused(client.sender_refused("/devices/D/twin").await), unauthorized);
}

#[tokio::test]
async fn a_policy_connects_as_anybody_who_exists() {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "d");
    create_device(&hub, "off");
    hub.hub()
        .put_device("off", &json!({ "deviceId": "off", "status": "disabled" }), Precondition::IfMatch(None))
        .unwrap();
    let mut client = Client::owner(&hub).await;
    client.sender(TWIN).await.unwrap();
    let cases = [("nobody", 404_001), ("off", 404_001), ("d/modules/nobody", 404_010)];
    for (id, code) in cases {
        let refusal = client.sender_refused(&format!("/devices/{id}/twin")).await;
        assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:not-found", code), "{id}");
    }

    // A policy without the right to connect.
    let mut client = Client::open(&hub).await;
    let service = hub.hub().policy("service").unwrap().primary.clone();
    assert_eq!(client.put_token(&token(&service, "localhost", Some("service"), 3600)).await.1, 200);
    let refusal = client.sender_refused(TWIN).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access");
}

#[tokio::test]
async fn one_identity_failing_leaves_its_neighbour_alone() {
    let hub = LocalHub::start().await.unwrap();
    let (good, bad) = (create_device(&hub, "good"), create_device(&hub, "bad"));
    let mut client = Client::authenticated(&hub, &[&good]).await;
    let mut twin = client.twin(&good).await;
    let other_key = SymmetricKey::from_base64(OTHER_KEY).unwrap();
    let wrong = token(&other_key, &bad.resource_uri("localhost"), None, 3600);
    assert_eq!(client.put_token(&wrong).await.1, 401);
    let refusal = client.sender_refused(&bad.amqp_path("twin")).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access");
    assert_eq!(twin.get().await.status(), 200);
    assert_eq!(
        (connection_state(&hub, "good"), connection_state(&hub, "bad")),
        ("Connected".into(), "Disconnected".into())
    );
}

#[tokio::test]
async fn an_expired_token_takes_its_links_along_and_the_last_one_the_connection() {
    let hub = LocalHub::start().await.unwrap();
    let (short, long) = (create_device(&hub, "short"), create_device(&hub, "long"));
    let mut client = Client::open(&hub).await;
    client.put_token(&token_for(&hub, &short, 600)).await;
    client.put_token(&token_for(&hub, &long, 6000)).await;
    let (mut one, mut other) = (client.twin(&short).await, client.twin(&long).await);

    hub.advance(Duration::from_secs(660));
    let refusal = one.detached().await;
    assert_eq!(
        (refusal.condition.as_str(), refusal.text.as_str()),
        ("amqp:unauthorized-access", "Token Invalid.")
    );
    assert_eq!(connection_state(&hub, "short"), "Disconnected");
    let refused = client.sender_refused(&short.amqp_path("twin")).await;
    assert_eq!(refused.condition, "amqp:unauthorized-access");
    assert_eq!(other.get().await.status(), 200);

    hub.advance(Duration::from_secs(6000));
    match soon(client.connection.on_close()).await {
        Err(ConnectionError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:unauthorized-access");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(connection_state(&hub, "long"), "Disconnected");
}

#[tokio::test]
async fn a_renewed_token_keeps_the_links() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::open(&hub).await;
    client.put_token(&token_for(&hub, &identity, 600)).await;
    let mut twin = client.twin(&identity).await;
    assert_eq!(client.put_token(&token_for(&hub, &identity, 6000)).await.1, 200);
    hub.advance(Duration::from_secs(660));
    assert_eq!(twin.get().await.status(), 200);
    // A failed renewal changes nothing either.
    assert_eq!(client.put_token(&token(&key(), "localhost/devices/d", None, -1)).await.1, 401);
    assert_eq!(twin.get().await.status(), 200);
}

#[tokio::test]
async fn another_key_makes_the_old_token_worthless_for_new_links() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&identity]).await;
    client.sender("/devices/d/messages/events").await.unwrap();
    let keys = json!({ "primaryKey": OTHER_KEY, "secondaryKey": OTHER_KEY });
    let body = json!({ "deviceId": "d", "authentication": { "type": "sas", "symmetricKey": keys } });
    hub.hub().put_device("d", &body, Precondition::IfMatch(None)).unwrap();
    let refusal = client.sender_refused(TWIN).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access");
}

#[tokio::test]
async fn a_deleted_identity_loses_its_links_and_token() {
    let hub = LocalHub::start().await.unwrap();
    let gone = create_device(&hub, "gone");
    let module = create_module(&hub, "gone", "m");
    let stays = create_device(&hub, "stays");
    let mut client = Client::authenticated(&hub, &[&gone, &module, &stays]).await;
    let mut twin = client.twin(&gone).await;
    let mut module_twin = client.twin(&module).await;
    let mut other = client.twin(&stays).await;
    hub.hub().delete_device("gone", Precondition::None).unwrap();
    let refusal = twin.detached().await;
    assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:not-found", 404_001));
    assert_eq!(module_twin.detached().await.condition, "amqp:not-found");
    assert_eq!(other.get().await.status(), 200);

    // The same name again is somebody else.
    create_device(&hub, "gone");
    let refusal = client.sender_refused(&gone.amqp_path("twin")).await;
    assert_eq!(refusal.condition, "amqp:unauthorized-access");
}

#[tokio::test]
async fn a_disabled_device_is_disconnected() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&identity]).await;
    let mut twin = client.twin(&identity).await;
    hub.hub()
        .put_device("d", &json!({ "deviceId": "d", "status": "disabled" }), Precondition::IfMatch(None))
        .unwrap();
    let refusal = twin.detached().await;
    assert_eq!((refusal.condition.as_str(), refusal.code), ("amqp:not-found", 404_001));
}

#[tokio::test]
async fn answers_wait_for_the_receiver() {
    let hub = LocalHub::start().await.unwrap();
    let token = Value::String(token_for(&hub, &create_device(&hub, "d"), 3600));
    let mut client = Client::open(&hub).await;
    let mut sender = client.sender("$cbs").await.unwrap();
    for id in 1..=3 {
        soon(sender.send(put_token_message(MessageId::Ulong(id), token.clone()))).await.unwrap();
    }
    // The token counts already.
    client.sender(TWIN).await.unwrap();
    let mut receiver = client.receiver("$cbs").await.unwrap();
    for id in 1..=3 {
        let delivery = soon(receiver.recv::<Body<Value>>()).await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        let properties = delivery.message().properties.as_ref().unwrap();
        assert_eq!(properties.correlation_id, Some(MessageId::Ulong(id)));
    }
}

#[tokio::test]
async fn a_put_token_nobody_can_read_is_rejected() {
    let hub = LocalHub::start().await.unwrap();
    let mut client = Client::open(&hub).await;
    let mut sender = client.sender("$cbs").await.unwrap();
    let sequence =
        Body::Sequence(vec![fe2o3_amqp::types::messaging::AmqpSequence(vec![Value::Bool(true)])].into());
    let outcome = soon(sender.send(message(sequence))).await.unwrap();
    assert_eq!(Refusal::from(outcome).condition, "amqp:decode-error");
}

#[tokio::test]
async fn logins_with_sasl() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    create_device(&hub, "e");
    let plain = |username: &str, password: String| SaslProfile::Plain { username: username.into(), password };
    let good = token_for(&hub, &identity, 3600);
    let owner = token(&owner_key(&hub), "localhost", Some("iothubowner"), 3600);

    // Anonymous logins have proved nothing yet.
    let mut client = Client::open_with(&hub, Some(SaslProfile::Anonymous)).await.unwrap();
    assert_eq!(client.sender_refused(TWIN).await.condition, "amqp:unauthorized-access");
    assert_eq!(client.put_token(&good).await.1, 200);
    client.sender(TWIN).await.unwrap();

    for (name, token) in [("d@sas.localhost", &good), ("d@localhost", &good), ("d@sas.localhost", &owner)] {
        let mut client = Client::open_with(&hub, Some(plain(name, token.clone()))).await.unwrap();
        let mut twin = client.twin(&identity).await;
        assert_eq!(twin.get().await.status(), 200, "{name}");
        // The login was for this device, whatever the token allows.
        let refusal = client.sender_refused("/devices/e/twin").await;
        assert_eq!(refusal.condition, "amqp:unauthorized-access", "{name}");
    }
    let login = plain("iothubowner@sas.root.localhost", owner.clone());
    Client::open_with(&hub, Some(login)).await.unwrap().sender("/devices/e/twin").await.unwrap();

    for (name, token) in [
        ("e@sas.localhost", &good),
        ("d@sas.otherhub", &good),
        ("d", &good),
        ("service@sas.root.localhost", &owner),
        ("d@sas.root.localhost", &good),
        ("d@sas.localhost", &"hello".to_owned()),
    ] {
        let refused = Client::open_with(&hub, Some(plain(name, token.clone()))).await.err().unwrap();
        assert!(matches!(refused, OpenError::SaslError { code: SaslCode::Auth, .. }), "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn a_login_ends_with_its_token() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let profile =
        SaslProfile::Plain { username: "d@sas.localhost".into(), password: token_for(&hub, &identity, 600) };
    let mut client = Client::open_with(&hub, Some(profile)).await.unwrap();
    let mut twin = client.twin(&identity).await;
    assert_eq!(twin.get().await.status(), 200);
    hub.advance(Duration::from_secs(660));
    match soon(client.connection.on_close()).await {
        Err(ConnectionError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:unauthorized-access");
        }
        other => panic!("{other:?}"),
    }
}
