//! Digital twins and commands over the wire (rest.md 10).
#![allow(clippy::unwrap_used)]

mod support;

use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Claim, MethodResponse, Precondition, Push};
use serde_json::{Value, json};
use support::{call, soon};

async fn hub() -> LocalHub {
    let hub = LocalHub::start().await.unwrap();
    hub.hub().put_device("d-1", &json!({}), Precondition::None).unwrap();
    hub
}

#[tokio::test]
async fn a_twin_is_read_and_patched() {
    let hub = hub().await;
    let read = call(&hub, "GET", "/digitaltwins/d-1", &[], "").await;
    assert_eq!((read.status, read.header("etag")), (200, Some("\"AAAAAAAAAAE=\"")));
    assert_eq!(read.json(), json!({ "$dtId": "d-1", "$metadata": { "$model": "" } }));

    let steps = json!([{ "op": "add", "path": "/c/limit", "value": 5 }]).to_string();
    let patched = call(&hub, "PATCH", "/digitaltwins/d-1", &["If-Match: *"], &steps).await;
    assert_eq!((patched.status, patched.body.len()), (202, 0));
    assert_eq!(patched.header("etag"), Some("\"AAAAAAAAAAI=\""));
    assert!(patched.header("location").unwrap().ends_with("/digitaltwins/d-1"));
    let twin = call(&hub, "GET", "/twins/d-1", &[], "").await.json();
    assert_eq!(twin["properties"]["desired"]["c"], json!({ "__t": "c", "limit": 5 }));

    let old = ["If-Match: \"AAAAAAAAAAE=\""];
    call(&hub, "PATCH", "/digitaltwins/d-1", &old, &steps).await.refusal(412, "PreconditionFailed");
    call(&hub, "PATCH", "/digitaltwins/d-1", &[], "{}").await.refusal(400, "ArgumentInvalid");
    call(&hub, "GET", "/digitaltwins/x", &[], "").await.refusal(404, "DeviceNotFound");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_command_is_a_method() {
    let hub = hub().await;
    let device = hub.hub().connect(&Identity::device("d-1").unwrap()).unwrap();
    device.claim(Claim::Methods);
    for (path, body, name, payload) in [
        ("/digitaltwins/d-1/commands/reboot", r#"{"delay":5}"#, "reboot", r#"{"delay":5}"#),
        ("/digitaltwins/d-1/components/c1/commands/reset", "", "c1*reset", "null"),
    ] {
        let answer = async {
            let Push::Method { id, name, payload } = device.recv().await else { panic!("no method came") };
            device.respond(id, MethodResponse { status: 207, payload: "[1,2]".into() }).unwrap();
            (name, payload)
        };
        let (reply, (called, given)) =
            soon(async { tokio::join!(call(&hub, "POST", path, &[], body), answer) }).await;
        assert_eq!((called.as_str(), &given[..]), (name, payload.as_bytes()));
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-ms-command-statuscode"), Some("207"));
        assert!(reply.header("x-ms-request-id").is_some());
        assert_eq!(reply.json(), json!([1, 2]));
    }
    hub.shutdown().await;
}

/// Refusals are JSON within JSON, as those of methods.
#[tokio::test]
async fn a_command_that_cannot_be_is_refused() {
    let hub = hub().await;
    for (path, body, status, name, code) in [
        ("/digitaltwins/d-1/commands/reboot", "", 404, "DeviceNotOnline", 404_103),
        ("/digitaltwins/x/commands/reboot", "", 404, "DeviceNotFound", 404_001),
        ("/digitaltwins/d-1/commands/reboot", "{", 400, "ArgumentInvalid", 400_004),
    ] {
        let reply = call(&hub, "POST", path, &[], body).await;
        assert_eq!((reply.status, reply.header("iothub-errorcode")), (status, Some(name)), "{path} {body}");
        let inner: Value = serde_json::from_str(reply.json()["Message"].as_str().unwrap()).unwrap();
        assert_eq!(inner["errorCode"], code);
    }
    hub.shutdown().await;
}
