//! The hub's own endpoints under `/admin`, faults of calls over HTTP, and failover.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::Duration;

use amqp_client::messages::{assert_accepted, send};
use amqp_client::{Client, condition, create_device, data, message, token_for};
use fe2o3_amqp::connection::Error as ConnectionError;
use futures_util::FutureExt;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Effect, Rule};
use serde_json::json;
use support::{Reply, call, connect_to, raw, request, soon, token};

async fn admin(hub: &LocalHub, method: &str, path: &str, body: &str) -> Reply {
    call(hub, method, path, &[], body).await
}

#[tokio::test]
async fn faults_are_made_and_ended_by_the_owner() {
    let hub = LocalHub::start().await.unwrap();
    let body = json!({ "effect": "failHttp", "status": 503, "times": 2 }).to_string();
    assert_eq!(admin(&hub, "POST", "/admin/faults", &body).await.status, 204);
    admin(&hub, "GET", "/devices", "").await.refusal(503, "ServiceUnavailable");
    assert_eq!(admin(&hub, "GET", "/admin/counters", "").await.status, 200, "no fault hits these");
    assert_eq!(admin(&hub, "DELETE", "/admin/faults", "").await.status, 204);
    assert_eq!(admin(&hub, "GET", "/devices", "").await.status, 200);
    assert_eq!(admin(&hub, "POST", "/admin/faults", r#"{"seed":7}"#).await.status, 204);
    let text = admin(&hub, "POST", "/admin/faults", r#"{"effect":"tea"}"#).await;
    assert_eq!(text.refusal(400, "ArgumentInvalid"), "there is no effect 'tea'");
    for body in ["{}", "[]", "tea", r#"{"effect":"swallowTokens","disrupt":"endSession"}"#] {
        assert_eq!(admin(&hub, "POST", "/admin/faults", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn nobody_else_may() {
    let hub = LocalHub::start().await.unwrap();
    let service = hub.hub().policy("service").unwrap().primary.clone();
    let service = token(&service, hub.host_name(), Some("service"), 3600);
    let service = format!("Authorization: {service}");
    for (method, path) in [
        ("POST", "/admin/faults"),
        ("DELETE", "/admin/faults"),
        ("GET", "/admin/counters"),
        ("POST", "/admin/clock"),
        ("POST", "/admin/reset"),
    ] {
        for headers in [&[][..], &[service.as_str()]] {
            let reply = raw(&hub, request(method, path, headers, "{}").as_bytes()).await;
            reply.refusal(401, "IotHubUnauthorizedAccess");
        }
    }
}

#[tokio::test]
async fn a_live_connection_is_disrupted_and_counted() {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&device]).await;
    let mut sender = client.sender("/devices/d/messages/events").await.unwrap();
    assert_accepted(send(&mut sender, message(data(b"x"))).await);
    let body = json!({ "disrupt": "closeConnection", "deviceId": "d" }).to_string();
    let told = admin(&hub, "POST", "/admin/faults", &body).await;
    assert_eq!(told.json(), json!({ "told": 1 }));
    soon(client.connection.on_close()).await.unwrap_err();
    while hub.hub().counters().connections_now > 0 {
        tokio::task::yield_now().await;
    }
    let counters = admin(&hub, "GET", "/admin/counters", "").await.json();
    let expected = json!({
        "connectionsOpened": 1, "connectionsNow": 0, "linksNow": 0, "twinGets": 0, "reportedPatches": 0,
        "putTokensAccepted": 1, "putTokensRefused": 0, "telemetryAccepted": 1, "notificationsSent": 0,
        "faults": { "closeConnection": 1 },
    });
    assert_eq!(counters, expected);
}

#[tokio::test]
async fn the_clock_is_moved_and_everything_forgotten() {
    let hub = LocalHub::start().await.unwrap();
    create_device(&hub, "d");
    let before = hub.hub().now();
    let moved = admin(&hub, "POST", "/admin/clock", r#"{"advanceSeconds":600}"#).await;
    assert_eq!(moved.status, 204);
    assert!(hub.hub().now() >= before + Duration::from_secs(600));
    for body in [r#"{"advanceSeconds":-1}"#, r#"{"advanceSeconds":"1"}"#, "{}"] {
        assert_eq!(admin(&hub, "POST", "/admin/clock", body).await.status, 400, "{body}");
    }
    assert_eq!(admin(&hub, "POST", "/admin/reset", "").await.status, 204);
    assert_eq!(admin(&hub, "GET", "/devices", "").await.json(), json!([]));
}

#[tokio::test]
async fn slow_calls_wait_for_the_hubs_clock() {
    let hub = LocalHub::start().await.unwrap();
    hub.hub().faults().add(Rule::new(Effect::SlowHttp(Duration::from_secs(1000))).times(1));
    let mut slow = Box::pin(admin(&hub, "GET", "/devices", ""));
    while !hub.hub().counters().faults.contains_key("slowHttp") {
        assert!(slow.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(admin(&hub, "GET", "/devices", "").await.status, 200, "one only");
    assert!(slow.as_mut().now_or_never().is_none());
    hub.advance(Duration::from_secs(1000));
    assert_eq!(slow.await.status, 200);
}

#[tokio::test]
async fn after_a_failover_devices_are_served_at_the_new_port_only() {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let old = hub.amqps_port();
    let mut before = Client::authenticated(&hub, &[&device]).await;
    let new = hub.failover().await.unwrap();
    assert_ne!(new, old);
    assert_eq!((hub.amqps_port(), hub.client_options().amqps_port), (new, Some(new)));
    match soon(before.connection.on_close()).await {
        Err(ConnectionError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error.condition), "amqp:connection:forced");
        }
        other => panic!("{other:?}"),
    }
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    while connect_to(&hub, address, old).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let mut after = Client::open(&hub).await;
    assert_eq!(after.put_token(&token_for(&hub, &device, 3600)).await.1, 200);
    hub.failover().await.unwrap();
    soon(after.connection.on_close()).await.unwrap_err();
    assert_eq!(hub.hub().counters().faults["failover"], 2);
    hub.shutdown().await;
}
