//! Methods that modules call through a gateway, as their requests are on the wire (rest.md 12.2).
#![allow(clippy::unwrap_used)]

mod support;

use iothub_common::SymmetricKey;
use iothub_emulator::LocalHub;
use serde_json::Value;
use support::{Reply, call, raw, token};

async fn module_token(hub: &LocalHub, device: &str, module: &str) -> String {
    call(hub, "PUT", &format!("/devices/{device}"), &[], &format!(r#"{{"deviceId":"{device}"}}"#)).await;
    let path = format!("/devices/{device}/modules/{module}");
    let body = format!(r#"{{"deviceId":"{device}","moduleId":"{module}"}}"#);
    let made = call(hub, "PUT", &path, &[], &body).await.json();
    let key = made["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let key = SymmetricKey::from_base64(key).unwrap();
    token(&key, &format!("{}/devices/{device}/modules/{module}", hub.host_name()), None, 3600)
}

/// As Node's modules call: without an api-version.
async fn invoke(hub: &LocalHub, token: &str, caller: Option<&str>) -> Reply {
    let body = r#"{"methodName":"m"}"#;
    let caller = caller.map(|caller| format!("x-ms-edge-moduleId: {caller}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /twins/e/methods HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nAuthorization: {token}\r\n\
         {caller}\r\n{body}",
        body.len()
    );
    raw(hub, request.as_bytes()).await
}

#[tokio::test]
async fn a_gateway_looks_at_who_calls() {
    let hub = LocalHub::builder().edge_gateway("e").start().await.unwrap();
    let (ours, theirs) = (module_token(&hub, "e", "m").await, module_token(&hub, "f", "m").await);
    // Nobody listens: the call was let through.
    let reply = invoke(&hub, &ours, Some("e/m")).await;
    assert_eq!((reply.status, reply.header("iothub-errorcode")), (404, Some("DeviceNotOnline")));

    invoke(&hub, &ours, None).await.refusal(400, "GenericBadRequest");
    invoke(&hub, &ours, Some("e")).await.refusal(400, "GenericBadRequest");
    invoke(&hub, &ours, Some("e/other")).await.refusal(401, "IotHubUnauthorized");
    invoke(&hub, &theirs, Some("e/m")).await.refusal(401, "IotHubUnauthorized");
    invoke(&hub, &theirs, Some("f/m")).await.refusal(401, "IotHubUnauthorizedAccess");

    // Services call as ever.
    let reply = call(&hub, "POST", "/twins/e/methods", &[], r#"{"methodName":"m"}"#).await;
    let message: Value = serde_json::from_str(reply.json()["Message"].as_str().unwrap()).unwrap();
    assert_eq!(message["errorCode"], 404_103);
}

#[tokio::test]
async fn a_hub_that_is_no_gateway_lets_no_module_call() {
    let hub = LocalHub::start().await.unwrap();
    let token = module_token(&hub, "e", "m").await;
    invoke(&hub, &token, Some("e/m")).await.refusal(401, "IotHubUnauthorizedAccess");
}
