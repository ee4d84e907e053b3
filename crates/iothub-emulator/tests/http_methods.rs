//! Direct methods over HTTPS; the device is in the same process.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Claim, Connected, MethodResponse, Precondition, Push};
use serde_json::{Value, json};
use support::{Reply, call, owner_token, raw, soon};

async fn hub() -> LocalHub {
    let hub = LocalHub::start().await.unwrap();
    hub.hub().put_device("d", &json!({}), Precondition::None).unwrap();
    hub.hub().put_module("d", "m", &json!({}), Precondition::None).unwrap();
    hub
}

fn listening(hub: &LocalHub, identity: Identity) -> Connected {
    let connected = hub.hub().connect(&identity).unwrap();
    connected.claim(Claim::Methods);
    connected
}

async fn answer(connected: &Connected, status: i32, payload: &'static str) -> (String, String) {
    let Push::Method { id, name, payload: sent } = soon(connected.recv()).await else { panic!() };
    connected.respond(id, MethodResponse { status, payload: payload.into() }).unwrap();
    (name, String::from_utf8(sent.to_vec()).unwrap())
}

/// Checks that this is a refusal in shape B (rest.md 2.1) and gives what is in its message.
fn refused(reply: &Reply, status: u16, code: u32, name: &str) -> Value {
    assert_eq!(reply.status, status, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("iothub-errorcode"), Some(name));
    let body = reply.json();
    assert_eq!((body.as_object().unwrap().len(), &body["ExceptionMessage"]), (2, &json!("")));
    let message: Value = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
    assert_eq!(message["errorCode"], code);
    assert!(message["trackingId"].as_str().unwrap().contains("-G:0-TimeStamp:"));
    assert!(message["timestampUtc"].as_str().unwrap().ends_with('Z'));
    message
}

const CALL: &str = r#"{"methodName":"reboot","payload": {"b":1.0, "a":[12345678901234567890]}}"#;

#[tokio::test]
async fn payloads_pass_in_both_directions_as_they_are() {
    let hub = hub().await;
    for (path, identity) in [
        ("/twins/d/methods", Identity::device("d").unwrap()),
        ("/twins/d/modules/m/methods", Identity::module("d", "m").unwrap()),
    ] {
        let connected = listening(&hub, identity);
        let (reply, (name, payload)) =
            tokio::join!(call(&hub, "POST", path, &[], CALL), answer(&connected, 404, r#"{"c": 1.50}"#));
        assert_eq!(name, "reboot");
        assert_eq!(payload, r#"{"b":1.0, "a":[12345678901234567890]}"#);
        // The status is the device's own, not HTTP's.
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.body, br#"{"status":404,"payload":{"c": 1.50}}"#);
    }
}

#[tokio::test]
async fn refusals_have_the_methods_own_shape() {
    let hub = hub().await;
    let post = async |path: &str, body: &str| call(&hub, "POST", path, &[], body).await;
    refused(&post("/twins/nobody/methods", CALL).await, 404, 404_001, "DeviceNotFound");
    refused(&post("/twins/d/modules/nobody/methods", CALL).await, 404, 404_010, "ModuleNotFound");
    let offline = refused(&post("/twins/d/methods", CALL).await, 404, 404_103, "DeviceNotOnline");
    assert_eq!(offline["message"], "Timed out waiting for device to connect.");
    assert_eq!(offline["info"], json!({ "timeout": "00:00:00" }));
    refused(&post("/twins/d/methods", "").await, 400, 400_005, "ArgumentNull");
    refused(&post("/twins/d/methods", r#"{"payload":1}"#).await, 400, 400_004, "ArgumentInvalid");
    let slow = r#"{"methodName":"m","responseTimeoutInSeconds":301}"#;
    refused(&post("/twins/d/methods", slow).await, 400, 400_004, "ArgumentInvalid");
}

#[tokio::test]
async fn an_offline_device_is_waited_for_and_a_silent_one_too() {
    let hub = hub().await;
    let patient = r#"{"methodName":"m","connectTimeoutInSeconds":250,"responseTimeoutInSeconds":5}"#;
    let device = Identity::device("d").unwrap();
    let (reply, ()) = tokio::join!(call(&hub, "POST", "/twins/d/methods", &[], patient), async {
        while hub.hub().method_calls(&device) == 0 {
            tokio::task::yield_now().await;
        }
        hub.advance(Duration::from_secs(250));
    });
    let offline = refused(&reply, 404, 404_103, "DeviceNotOnline");
    assert_eq!(offline["info"], json!({ "timeout": "00:04:10" }));

    let connected = listening(&hub, device);
    let (reply, ()) = tokio::join!(call(&hub, "POST", "/twins/d/methods", &[], CALL), async {
        let Push::Method { .. } = soon(connected.recv()).await else { panic!() };
        hub.advance(Duration::from_secs(30));
    });
    let late = refused(&reply, 504, 504_101, "GatewayTimeout");
    assert_eq!(late["message"], "Timed out waiting for the response from device.");
    assert_eq!(late["info"], json!({}));

    let (reply, ()) = tokio::join!(call(&hub, "POST", "/twins/d/methods", &[], CALL), async {
        let Push::Method { .. } = soon(connected.recv()).await else { panic!() };
        drop(connected);
    });
    refused(&reply, 404, 404_104, "DeviceConnectionClosedRemotely");
}

#[tokio::test]
async fn calls_need_the_service_right_but_no_version() {
    let hub = hub().await;
    let connected = listening(&hub, Identity::device("d").unwrap());
    let token = owner_token(&hub);
    let request = format!(
        "POST /twins/d/methods HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\r\n{CALL}",
        CALL.len()
    );
    let (reply, _) = tokio::join!(raw(&hub, request.as_bytes()), answer(&connected, 200, "null"));
    assert_eq!(reply.body, br#"{"status":200,"payload":null}"#);
    let anonymous = request.replace("Authorization", "X-Authorization");
    raw(&hub, anonymous.as_bytes()).await.refusal(401, "IotHubUnauthorizedAccess");
}
