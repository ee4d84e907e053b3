//! Queries over the wire: headers, pages, refusals (rest.md 6).
#![allow(clippy::unwrap_used)]

mod support;

use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Portion, Precondition};
use serde_json::{Value, json};
use support::{Reply, VERSION, call, connect, owner_token, read_reply, soon};
use tokio::io::AsyncWriteExt;

const PATH: &str = "/devices/query";

async fn query(hub: &LocalHub, headers: &[&str], text: &str) -> Reply {
    call(hub, "POST", PATH, headers, &json!({ "query": text }).to_string()).await
}

async fn hub_with(devices: usize) -> LocalHub {
    let hub = LocalHub::start().await.unwrap();
    for number in 0..devices {
        hub.hub().put_device(&format!("d{number:04}"), &json!({}), Precondition::None).unwrap();
    }
    hub
}

#[tokio::test]
async fn an_answer_has_the_headers_clients_insist_on() {
    let hub = hub_with(2).await;
    hub.hub().put_module("d0000", "m", &json!({}), Precondition::None).unwrap();
    for (text, item_type, rows) in [
        ("SELECT * FROM devices", "Twin", 2),
        ("select * from devices.modules", "Twin", 1),
        ("SELECT deviceId FROM devices", "Raw", 2),
        ("SELECT COUNT() AS n FROM devices", "Raw", 1),
        ("SELECT * FROM devices.jobs", "DeviceJob", 0),
    ] {
        let reply = query(&hub, &[], text).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-ms-item-type"), Some(item_type), "{text}");
        assert_eq!(reply.header("x-ms-continuation"), None, "{text}");
        assert_eq!(reply.json().as_array().unwrap().len(), rows, "{text}");
    }
    let twin = call(&hub, "GET", "/twins/d0000", &[], "").await.json();
    let reply = query(&hub, &[], "SELECT * FROM devices WHERE deviceId = 'd0000'").await;
    assert_eq!(reply.json(), json!([twin]));
    hub.shutdown().await;
}

#[tokio::test]
async fn refusals_have_the_hubs_words() {
    let hub = hub_with(1).await;
    let text = query(&hub, &[], "SELECT * FROM devices WHERE SELECT").await.refusal(400, "ArgumentInvalid");
    let expected =
        "SQL query parse failed due to following errors: Line 1:29 Unexpected character at input 'SELECT'";
    assert!(text.starts_with(expected), "{text}");

    for body in ["{}", r#"{"query":null}"#, r#"{"Query":"SELECT * FROM devices"}"#, "[]"] {
        let reply = call(&hub, "POST", PATH, &[], body).await;
        assert_eq!(reply.refusal(400, "ArgumentNull"), "BadRequest");
    }
    call(&hub, "POST", PATH, &[], "").await.refusal(400, "ArgumentNull");
    call(&hub, "POST", PATH, &[], "{").await.refusal(400, "GenericBadRequest");
    let text = "SELECT * FROM devices";
    query(&hub, &["x-ms-max-item-count: many"], text).await.refusal(400, "ArgumentInvalid");
    query(&hub, &["x-ms-continuation: nonsense"], text).await.refusal(400, "ArgumentInvalid");
    // Negative and empty values ask for nothing special.
    let reply = query(&hub, &["x-ms-max-item-count: -1", "x-ms-continuation:"], text).await;
    assert_eq!(reply.status, 200);
    hub.shutdown().await;
}

/// 2,500 devices, page by page on one connection, and with a new connection for each page.
#[tokio::test]
async fn a_fleet_comes_completely_at_every_page_size() {
    let hub = hub_with(2500).await;
    let expected: Vec<_> = (0..2500).map(|number| format!("d{number:04}")).collect();
    for (max_items, pages) in [(Some(1), 2500), (Some(100), 25), (Some(1000), 25), (None, 25)] {
        let mut stream = connect(&hub).await;
        let body = json!({ "query": "SELECT deviceId FROM devices" }).to_string();
        let token = owner_token(&hub);
        let (mut ids, mut count) = (Vec::new(), 0);
        let mut continuation = None;
        loop {
            let mut head =
                format!("POST {PATH}?{VERSION} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n");
            if let Some(max_items) = max_items {
                head.push_str(&format!("x-ms-max-item-count: {max_items}\r\n"));
            }
            if let Some(token) = continuation {
                head.push_str(&format!("x-ms-continuation: {token}\r\n"));
            }
            let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            soon(stream.write_all(request.as_bytes())).await.unwrap();
            let reply = read_reply(&mut stream).await;
            assert_eq!(reply.status, 200);
            ids.extend(reply.json().as_array().unwrap().iter().map(|row| row["deviceId"].clone()));
            count += 1;
            continuation = reply.header("x-ms-continuation").map(str::to_owned);
            if continuation.is_none() {
                break;
            }
            if max_items == Some(1000) {
                stream = connect(&hub).await;
            }
        }
        assert_eq!(ids, expected.iter().map(|id| Value::from(id.as_str())).collect::<Vec<_>>());
        assert_eq!(count, pages, "{max_items:?}");
    }
    hub.shutdown().await;
}

/// Twins change under a token: what was written since is shown.
#[tokio::test]
async fn a_page_shows_what_is_there_now() {
    let hub = hub_with(3).await;
    let text = "SELECT * FROM devices WHERE NOT IS_DEFINED(tags.done)";
    let first = query(&hub, &["x-ms-max-item-count: 1"], text).await;
    assert_eq!(first.json()[0]["deviceId"], "d0000");
    let identity = Identity::device("d0001").unwrap();
    hub.hub().patch_twin(&identity, &json!({ "tags": { "done": 1 } }), Precondition::None).unwrap();
    let continuation = format!("x-ms-continuation: {}", first.header("x-ms-continuation").unwrap());
    let second = query(&hub, &["x-ms-max-item-count: 1", &continuation], text).await;
    assert_eq!(second.json()[0]["deviceId"], "d0002");
    assert_eq!(second.header("x-ms-continuation"), None);
    hub.shutdown().await;
}

#[tokio::test]
async fn throttling_is_on_the_wire_and_executes_nothing() {
    let hub = hub_with(0).await;
    hub.hub().faults().throttle(Portion::EveryNth(2), std::time::Duration::from_secs(30));
    assert_eq!(call(&hub, "PUT", "/devices/a", &[], "{}").await.status, 200);
    let text = call(&hub, "PUT", "/devices/b", &[], "{}").await.refusal(429, "ThrottlingBacklogTimeout");
    assert_eq!(text, "The request has been throttled. Wait 10 seconds and try again. Operation type: CRUD");
    assert_eq!(call(&hub, "GET", "/devices/a", &[], "").await.status, 200);
    let minute = std::time::Duration::from_secs(60);
    hub.hub().faults().throttle_with_retry_after(1.0, minute, std::time::Duration::from_secs(3));
    // Who has no right is told that first, and the health check is no call.
    let reply = support::raw(&hub, support::request("GET", "/devices/a", &[], "").as_bytes()).await;
    reply.refusal(401, "IotHubUnauthorizedAccess");
    assert_eq!(call(&hub, "GET", "/health", &[], "").await.status, 200);
    let reply = call(&hub, "GET", "/devices/a", &[], "").await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("3")));
    assert_eq!(hub.hub().faults().throttled(), 2);
    hub.advance(minute);
    assert_eq!(hub.hub().get_device("b").unwrap_err().code, 404_001);
    assert_eq!(call(&hub, "GET", "/devices", &[], "").await.json().as_array().unwrap().len(), 1);
    hub.shutdown().await;
}
