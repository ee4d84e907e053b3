//! Direct methods: what is sent, for how long it is waited, what is never sent twice (rest.md 7).
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use iothub_service::{DirectMethod, ErrorKind};
use serde_json::json;
use support::{FakeHub, Step, device, json, refusal};

#[tokio::test]
async fn methods_are_sent_with_their_timeouts_and_payload() {
    let answer = r#"{"status":404,"payload":{"z":1.50,"n":123456789012345678901234567890}}"#;
    let hub = FakeHub::start([json(200, answer), json(200, r#"{"status":200,"payload":null}"#)]).await;
    let registry = hub.registry();
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str(r#"{"b":1.0,"a":[]}"#).unwrap();
    let method = DirectMethod::new("set")
        .payload(&raw)
        .connect_timeout(Duration::from_millis(1))
        .response_timeout(Duration::from_secs(7));
    let response = registry.invoke_device_method("d+1", method).await.unwrap();
    // The device's status, whatever it is, and its payload as it wrote it.
    assert_eq!((response.status, response.is_success()), (404, false));
    assert_eq!(response.payload.as_str(), r#"{"z":1.50,"n":123456789012345678901234567890}"#);

    let response = registry.invoke_module_method("d", "m", "reboot").await.unwrap();
    assert!(response.is_success() && response.payload.is_null());
    response.to::<()>().unwrap();

    let requests = hub.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target.split('?').next().unwrap()).collect();
    assert_eq!(targets, ["/twins/d%2B1/methods", "/twins/d/modules/m/methods"]);
    let bodies: Vec<_> = hub.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(
        bodies,
        [
            r#"{"methodName":"set","responseTimeoutInSeconds":7,"connectTimeoutInSeconds":1,"payload":{"b":1.0,"a":[]}}"#,
            r#"{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0,"payload":null}"#,
        ]
    );
}

/// Shape B (rest.md 2.1).
fn method_refusal(status: u16, number: u32, name: &'static str) -> Step {
    let inner = json!({ "errorCode": number, "trackingId": "ab-G:0", "message": "text", "info": {} });
    let body = json!({ "Message": inner.to_string(), "ExceptionMessage": "" });
    Step::Answer(status, Box::leak(Box::new([("iothub-errorcode", name)])), body.to_string())
}

#[tokio::test]
async fn method_failures_are_told_apart_and_not_repeated() {
    let cases = [
        (404, 404_001, "DeviceNotFound", ErrorKind::NotFound, false),
        (404, 404_010, "ModuleNotFound", ErrorKind::NotFound, false),
        (404, 404_103, "DeviceNotOnline", ErrorKind::Unavailable, false),
        (404, 404_104, "DeviceConnectionClosedRemotely", ErrorKind::Unavailable, true),
        (504, 504_101, "GatewayTimeout", ErrorKind::Timeout, true),
        (400, 400_004, "ArgumentInvalid", ErrorKind::InvalidInput, false),
    ];
    for (status, number, name, kind, applied) in cases {
        let hub = FakeHub::start([method_refusal(status, number, name)]).await;
        let error = hub.registry().invoke_module_method("d", "m", "x").await.unwrap_err();
        assert_eq!((error.kind(), error.hub_code()), (kind, Some(name)), "{error}");
        assert_eq!(error.may_have_been_applied(), applied, "{name}");
        assert_eq!(hub.requests().len(), 1, "{name}");
    }
    for lost in [Step::Close, refusal(502, "BadGateway", "x"), refusal(500, "ServerError", "x")] {
        let hub = FakeHub::start([lost, json(200, r#"{"status":200}"#)]).await;
        let error = hub.registry().invoke_device_method("d", "x").await.unwrap_err();
        assert!(error.may_have_been_applied(), "{error:?}");
        assert_eq!(hub.requests().len(), 1);
    }
}

#[tokio::test]
async fn throttled_methods_never_reached_the_device_and_are_sent_again() {
    let hub =
        FakeHub::start([refusal(429, "ThrottlingException", "x"), json(200, r#"{"status":200}"#)]).await;
    assert!(hub.registry().invoke_device_method("d", "x").await.unwrap().is_success());
}

#[tokio::test]
async fn the_time_for_a_method_exceeds_its_own_timeouts() {
    let hub = FakeHub::start([json(200, device("d", "MA==")), Step::Hang]).await;
    let registry = hub.builder().call_timeout(Duration::from_secs(1)).build().unwrap();
    registry.get_device("d").await.unwrap();
    // The connection is there and the hub never answers: the clock can jump.
    tokio::time::pause();
    let method = DirectMethod::new("slow")
        .connect_timeout(Duration::from_secs(200))
        .response_timeout(Duration::from_secs(300));
    let begun = tokio::time::Instant::now();
    let error = registry.invoke_device_method("d", method).await.unwrap_err();
    assert!(begun.elapsed() > Duration::from_secs(500), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.may_have_been_applied());
}
