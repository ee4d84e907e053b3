//! Messages over HTTPS: from devices, to devices, and feedback.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use iothub_common::{Identity, SymmetricKey};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Ack, ConnectionAuth, Message, Precondition};
use serde_json::{Value, json};
use support::{Reply, VERSION, call, raw, request, token};

/// 0, 1, ... 31 in base64.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn hub() -> LocalHub {
    let hub = LocalHub::start().await.unwrap();
    let body = json!({ "authentication": { "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } } });
    for id in ["d", "e"] {
        hub.hub().put_device(id, &body, Precondition::None).unwrap();
    }
    hub.hub().put_module("d", "m", &body, Precondition::None).unwrap();
    hub
}

fn device() -> Identity {
    Identity::device("d").unwrap()
}

/// A request with the token of an identity, like `d` or `d/modules/m`.
async fn as_device(
    hub: &LocalHub,
    who: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Reply {
    let key = SymmetricKey::from_base64(KEY).unwrap();
    let token = token(&key, &format!("localhost/devices/{who}"), None, 3600);
    let authorization = format!("Authorization: {token}");
    let mut all = vec![authorization.as_str()];
    all.extend(headers);
    raw(hub, request(method, path, &all, body).as_bytes()).await
}

#[tokio::test]
async fn a_single_message_has_its_properties_in_headers() {
    let hub = hub().await;
    // As Node sends it (rest.md 11.1).
    let headers = [
        "IoTHub-MessageId: id-1",
        "IoTHub-CorrelationId: id-0",
        "iothub-contenttype: application/json",
        "iothub-contentencoding: utf-8",
        "iothub-to: /devices/d/messages/events",
        "iothub-app-Temp: 20",
        "dt-subject: thermostat",
        "Content-Type: application/octet-stream",
    ];
    let reply = as_device(&hub, "d", "POST", "/devices/d/messages/events", &headers, "hello").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    let events = hub.hub().events();
    let event = &events[0];
    assert_eq!((&event.identity, event.auth), (&device(), ConnectionAuth::DEVICE_SAS));
    assert_eq!(event.auth.to_json(), r#"{"scope":"device","type":"sas","issuer":"iothub"}"#);
    let expected = Message {
        message_id: Some("id-1".to_owned()),
        correlation_id: Some("id-0".to_owned()),
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("utf-8".to_owned()),
        system: vec![("dt-subject".into(), "thermostat".to_owned())],
        properties: vec![("temp".to_owned(), "20".to_owned())],
        body: "hello".into(),
        ..Message::default()
    };
    assert_eq!(event.message, expected);
}

#[tokio::test]
async fn batches_and_modules_and_policies_send_too() {
    let hub = hub().await;
    let batch = r#"[{"body":"b25l","properties":{"iothub-app-n":"1"}},{"body":"two","base64Encoded":false}]"#;
    let headers = ["Content-Type: application/vnd.microsoft.iothub.json"];
    assert_eq!(
        as_device(&hub, "d", "POST", "/devices/d/messages/events/", &headers, batch).await.status,
        204
    );
    let path = "/devices/d/modules/m/messages/events";
    assert_eq!(as_device(&hub, "d/modules/m", "POST", path, &[], "three").await.status, 204);
    assert_eq!(call(&hub, "POST", "/devices/d/messages/events", &[], "four").await.status, 204);
    let sent: Vec<_> = hub
        .hub()
        .events()
        .iter()
        .map(|event| (event.identity.to_string(), event.auth.scope, event.message.body.clone()))
        .collect();
    let expected =
        [("d", "device", "one"), ("d", "device", "two"), ("d/m", "module", "three"), ("d", "hub", "four")];
    assert_eq!(sent, expected.map(|(who, scope, body)| (who.to_owned(), scope, body.into())));
}

#[tokio::test]
async fn what_may_not_be_sent_is_refused() {
    let hub = hub().await;
    let events = "/devices/d/messages/events";
    as_device(&hub, "e", "POST", events, &[], "x").await.refusal(401, "IotHubUnauthorized");
    as_device(&hub, "d/modules/m", "POST", events, &[], "x").await.refusal(401, "IotHubUnauthorized");
    let large = "x".repeat(262_145);
    as_device(&hub, "d", "POST", events, &[], &large).await.refusal(413, "MessageTooLarge");
    let headers = ["Content-Type: application/vnd.microsoft.iothub.json"];
    as_device(&hub, "d", "POST", events, &headers, "{}").await.refusal(400, "IotHubFormatError");
    let nobody = "/devices/nobody/messages/events";
    call(&hub, "POST", nobody, &[], "x").await.refusal(404, "DeviceNotFound");
    assert_eq!(hub.hub().events().len(), 0);
}

fn lock_of(reply: &Reply) -> String {
    let etag = reply.header("etag").unwrap();
    etag.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned()
}

#[tokio::test]
async fn a_device_receives_and_completes_abandons_or_rejects() {
    let hub = hub().await;
    let bound = "/devices/d/messages/deviceBound";
    let receive = async || as_device(&hub, "d", "GET", bound, &[], "").await;
    assert_eq!(receive().await.status, 204);
    let message = Message {
        message_id: Some("id-1".to_owned()),
        correlation_id: Some("id-0".to_owned()),
        user_id: Some("me".into()),
        ack: Ack::Full,
        properties: vec![("Color".to_owned(), "red".to_owned()), ("bad name".to_owned(), "x".to_owned())],
        body: "hello".into(),
        ..Message::default()
    };
    hub.hub().send_to_device(&device(), message).unwrap();

    let first = receive().await;
    assert_eq!((first.status, &first.body[..]), (200, &b"hello"[..]));
    for (name, value) in [
        ("iothub-messageid", "id-1"),
        ("iothub-correlationid", "id-0"),
        ("iothub-userid", "me"),
        ("iothub-deliverycount", "0"),
        ("iothub-to", "/devices/d/messages/devicebound"),
        ("iothub-ack", "full"),
        ("iothub-app-color", "red"),
    ] {
        assert_eq!(first.header(name), Some(value), "{name}");
    }
    assert!(first.header("iothub-enqueuedtime").unwrap().ends_with('Z'));
    assert!(first.header("iothub-sequencenumber").unwrap().parse::<u64>().is_ok());
    assert_eq!(receive().await.status, 204, "it is locked");

    let lock = lock_of(&first);
    // C# sends no usable If-Match here (rest.md 1.6), so the path counts.
    let abandoned = as_device(&hub, "d", "POST", &format!("{bound}/{lock}/abandon"), &[], "").await;
    assert_eq!(abandoned.status, 204);
    let second = receive().await;
    assert_eq!(second.header("iothub-deliverycount"), Some("1"));
    assert_ne!(lock_of(&second), lock);
    let old = as_device(&hub, "d", "DELETE", &format!("{bound}/{lock}"), &[], "").await;
    old.refusal(412, "DeviceMessageLockLost");
    as_device(&hub, "d", "DELETE", &format!("{bound}/nonsense"), &[], "")
        .await
        .refusal(400, "ArgumentInvalid");

    let lock = lock_of(&second);
    let stranger = as_device(&hub, "e", "DELETE", &format!("{bound}/{lock}"), &[], "").await;
    stranger.refusal(401, "IotHubUnauthorized");
    let completed = as_device(&hub, "d", "DELETE", &format!("{bound}/{lock}"), &["If-Match: x"], "").await;
    assert_eq!(completed.status, 204);
    assert_eq!(receive().await.status, 204);

    hub.hub().send_to_device(&device(), Message { ack: Ack::Full, ..Message::default() }).unwrap();
    let lock = lock_of(&receive().await);
    let path = format!("{bound}/{lock}?reject&{VERSION}");
    let key = SymmetricKey::from_base64(KEY).unwrap();
    let token = token(&key, "localhost/devices/d", None, 3600);
    let rejection = format!(
        "DELETE {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(raw(&hub, rejection.as_bytes()).await.status, 204);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let feedback = call(&hub, "GET", "/messages/serviceBound/feedback", &[], "").await;
        ends.push(feedback.json()[0]["statusCode"].clone());
    }
    assert_eq!(ends, ["Success", "Rejected"]);
}

#[tokio::test]
async fn feedback_is_locked_and_settled_by_services() {
    let hub = hub().await;
    let path = "/messages/serviceBound/feedback";
    assert_eq!(call(&hub, "GET", path, &[], "").await.status, 204);
    let message = Message { message_id: Some("id-1".to_owned()), ack: Ack::Negative, ..Message::default() };
    hub.hub().send_to_device(&device(), message).unwrap();
    let purged = call(&hub, "DELETE", "/devices/d/commands", &[], "").await;
    assert_eq!(purged.json().to_string(), r#"{"totalMessagesPurged":1,"deviceId":"d","moduleId":null}"#);
    call(&hub, "DELETE", "/devices/nobody/commands", &[], "").await.refusal(404, "DeviceNotFound");

    let first = call(&hub, "GET", path, &[], "").await;
    let record = first.json()[0].clone();
    let members: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "originalMessageId",
        "description",
        "deviceGenerationId",
        "deviceId",
        "enqueuedTimeUtc",
        "statusCode",
    ];
    assert_eq!(members, expected);
    assert_eq!((&record["originalMessageId"], &record["description"]), (&json!("id-1"), &json!("Purged")));
    assert_eq!(call(&hub, "GET", path, &[], "").await.status, 204);

    let abandoned = format!("{path}/{}/abandon", lock_of(&first));
    assert_eq!(call(&hub, "POST", &abandoned, &[], "").await.status, 204);
    let second = call(&hub, "GET", path, &[], "").await;
    assert_eq!(second.json()[0], record);
    hub.advance(Duration::from_secs(60));
    let late = format!("{path}/{}", lock_of(&second));
    call(&hub, "DELETE", &late, &[], "").await.refusal(412, "DeviceMessageLockLost");
    let third = call(&hub, "GET", path, &[], "").await;
    let complete = format!("{path}/{}", lock_of(&third));
    assert_eq!(call(&hub, "DELETE", &complete, &[], "").await.status, 204);
    assert_eq!(call(&hub, "GET", path, &[], "").await.status, 204);
    as_device(&hub, "d", "GET", path, &[], "").await.refusal(401, "IotHubUnauthorizedAccess");
    assert_eq!(hub.hub().get_device("d").unwrap()["cloudToDeviceMessageCount"], Value::from(0));
}
