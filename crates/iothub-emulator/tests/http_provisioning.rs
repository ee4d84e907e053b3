//! The provisioning service over HTTPS, as requests of Microsoft's clients are on the wire (dps.md 4, 8).
#![allow(clippy::unwrap_used)]

mod support;

use iothub_common::SymmetricKey;
use iothub_emulator::LocalHub;
use iothub_emulator::provisioning::{Attestation, Enrollment, ProvisioningConfig};
use serde_json::{Value, json};
use support::{Reply, call, raw, request, token};

const SCOPE: &str = "0ne00000001";

/// A hub with an enrollment of `a:b`, and a token for it.
async fn hub_with_enrollment() -> (LocalHub, String) {
    let hub = LocalHub::builder().provisioning(ProvisioningConfig::default()).start().await.unwrap();
    let key = SymmetricKey::generate().unwrap();
    hub.provisioning().enroll(Enrollment::individual("a:b", Attestation::keys(key.clone(), key.clone())));
    let token = token(&key, &format!("{SCOPE}/registrations/a:b"), Some("registration"), 3600);
    (hub, token)
}

async fn ask(hub: &LocalHub, token: &str, method: &str, path: &str, body: &str) -> Reply {
    let token = format!("Authorization: {token}");
    raw(hub, request(method, path, &[&token], body).as_bytes()).await
}

/// Checks the form of a refusal and gives its text.
fn refusal(reply: &Reply, status: u16, code: u32) -> String {
    let body = reply.json();
    assert_eq!((reply.status, &body["errorCode"]), (status, &json!(code)), "{body}");
    assert!(body["trackingId"].is_string() && body["timestampUtc"].is_string());
    body["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_device_registers_and_asks() {
    let (hub, token) = hub_with_enrollment().await;
    let path = format!("/{SCOPE}/registrations/a%3Ab/register");
    let started = ask(&hub, &token, "PUT", &path, r#"{"registrationId":"a:b","payload":{"x":1}}"#).await;
    assert_eq!((started.status, started.header("retry-after")), (202, Some("3")));
    let operation = started.json()["operationId"].as_str().unwrap().to_owned();
    let location = started.header("location").unwrap();
    assert_eq!(location, format!("/{SCOPE}/registrations/a%3Ab/operations/{operation}"));

    // Node's GET has a body.
    let done = ask(&hub, &token, "GET", location, "{}").await;
    assert_eq!((done.status, done.header("retry-after")), (200, None));
    assert_eq!(done.header("content-type"), Some("application/json; charset=utf-8"));
    let state = &done.json()["registrationState"];
    assert_eq!((&state["deviceId"], &state["assignedHub"]), (&json!("a:b"), &json!("localhost")));
    let device: Value = hub.hub().get_device("a:b").unwrap();
    assert_eq!(device["status"], "enabled");
}

#[tokio::test]
async fn refusals_are_json_of_its_own_form() {
    let (hub, token) = hub_with_enrollment().await;
    let register = |scope: &str, id: &str| format!("/{scope}/registrations/{id}/register");
    let good = register(SCOPE, "a:b");
    for (method, path, body, status, code) in [
        ("PUT", register("0ne00000002", "a:b"), "{}", 401, 401_002),
        ("PUT", register(SCOPE, "other"), "{}", 401, 401_002),
        ("PUT", register(SCOPE, "a%20b"), "{}", 400, 400_000),
        ("PUT", good.clone(), "no json", 400, 400_000),
        ("PUT", good.clone(), r#"{"registrationId":"other"}"#, 400, 400_000),
        ("GET", format!("/{SCOPE}/registrations/a:b/operations/5.0.0"), "", 404, 404_203),
        ("POST", good.clone(), "{}", 404, 404_000),
        ("GET", format!("/{SCOPE}/registrations/a:b"), "", 404, 404_000),
    ] {
        refusal(&ask(&hub, &token, method, &path, body).await, status, code);
    }
    let without = raw(&hub, request("PUT", &good, &[], "{}").as_bytes()).await;
    assert!(refusal(&without, 401, 401_002).contains("neither a token nor"));
    let unversioned = format!("PUT {good} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(refusal(&raw(&hub, unversioned.as_bytes()).await, 400, 400_000).contains("api-version"));
    // The hub's own paths have the hub's own refusals.
    ask(&hub, &token, "GET", "/devices/registrations", "").await.refusal(401, "IotHubUnauthorizedAccess");
}

#[tokio::test]
async fn enrollments_are_put_and_read_and_deleted() {
    let hub = LocalHub::start().await.unwrap();
    let body = json!({
        "registrationId": "sensor-01",
        "attestation": { "type": "symmetricKey" },
        "deviceId": "press-7",
        "allocationPolicy": "hashed",
    });
    let path = "/enrollments/sensor-01";
    let put = call(&hub, "PUT", path, &[], &body.to_string()).await;
    assert_eq!(put.status, 200);
    let document = put.json();
    assert_eq!(call(&hub, "GET", path, &[], "").await.json(), document);
    assert_eq!(
        (&document["provisioningStatus"], &document["allocationPolicy"]),
        (&json!("enabled"), &json!("hashed"))
    );

    // With the key that was made for it.
    let key = document["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let resource = format!("{SCOPE}/registrations/sensor-01");
    let token = token(&SymmetricKey::from_base64(key).unwrap(), &resource, None, 3600);
    let register = format!("/{resource}/register");
    assert_eq!(ask(&hub, &token, "PUT", &register, "{}").await.status, 202);
    assert_eq!(hub.hub().get_device("press-7").unwrap()["status"], "enabled");

    assert_eq!(call(&hub, "DELETE", path, &[], "").await.status, 204);
    refusal(&call(&hub, "GET", path, &[], "").await, 404, 404_201);
    refusal(&ask(&hub, &token, "PUT", &register, "{}").await, 401, 401_002);
}

#[tokio::test]
async fn bad_enrollments_are_refused() {
    let hub = LocalHub::start().await.unwrap();
    for (path, body) in [
        ("/enrollments/a", json!({})),
        ("/enrollments/a", json!({ "attestation": { "type": "tpm" } })),
        (
            "/enrollments/a",
            json!({ "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": "*" } } }),
        ),
        ("/enrollments/a", json!({ "registrationId": "b", "attestation": { "type": "symmetricKey" } })),
        ("/enrollments/a", json!({ "attestation": { "type": "symmetricKey" }, "provisioningStatus": "on" })),
        ("/enrollmentGroups/a", json!({ "attestation": { "type": "x509" } })),
        ("/enrollmentGroups/a", json!([])),
    ] {
        refusal(&call(&hub, "PUT", path, &[], &body.to_string()).await, 400, 400_000);
    }
    let request = request("PUT", "/enrollments/a", &[], r#"{"attestation":{"type":"symmetricKey"}}"#);
    refusal(&raw(&hub, request.as_bytes()).await, 401, 401_002);
    refusal(&call(&hub, "POST", "/enrollments/query", &[], "{}").await, 404, 404_000);
}
