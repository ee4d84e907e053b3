//! Direct methods from the service: answers as they are, and failures told apart.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use iothub::service::{DeviceStatus, DirectMethod};
use iothub::{DeviceClient, Error, ErrorKind, Result};
use serde_json::{Value, json};
use support::{Bench, DEVICE, MODULE, within};

async fn device(bench: &Bench) -> DeviceClient {
    let device = within(bench.registry.get_device(DEVICE)).await.unwrap();
    let connection_string = device.connection_string(bench.registry.host_name()).unwrap();
    within(DeviceClient::connect_with(&connection_string, bench.options())).await.unwrap()
}

fn kind_and_code<T: std::fmt::Debug>(result: Result<T>) -> (ErrorKind, String, Error) {
    let error = result.unwrap_err();
    (error.kind(), error.hub_code().unwrap_or_default().to_owned(), error)
}

#[tokio::test]
async fn payloads_go_there_and_back_as_they_are() {
    let bench = Bench::start().await;
    let client = device(&bench).await;
    let mut requests = within(client.methods()).await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let payload: Box<serde_json::value::RawValue> = request.payload_as().unwrap();
            request.respond(404, &payload).await.unwrap();
        }
    });
    for text in [
        r#"{"z":1.50,"a":{"n":123456789012345678901234567890,"t":"2023-01-31T10:37:08.4599400"}}"#,
        r#""text""#,
        "[1,null,2]",
        "0",
        "null",
    ] {
        let raw: Box<serde_json::value::RawValue> = serde_json::from_str(text).unwrap();
        let method = DirectMethod::new("echo").payload(&raw);
        let response = within(bench.registry.invoke_device_method(DEVICE, method)).await.unwrap();
        // The status is the device's, so this is no error.
        assert_eq!((response.status, response.payload.as_str()), (404, text));
    }
    within(client.close()).await;
}

#[tokio::test]
async fn missing_offline_silent_and_unknown_are_told_apart() {
    let bench = Bench::start().await;
    let invoke = |id: &'static str| within(bench.registry.invoke_device_method(id, "x"));

    let (kind, code, error) = kind_and_code(invoke("nobody").await);
    assert_eq!((kind, code.as_str()), (ErrorKind::NotFound, "DeviceNotFound"));
    assert!(error.to_string().contains("`nobody`"), "{error}");
    let missing = within(bench.registry.invoke_module_method(DEVICE, "nobody", "x")).await;
    let (kind, code, error) = kind_and_code(missing);
    assert_eq!((kind, code.as_str()), (ErrorKind::NotFound, "ModuleNotFound"));
    assert!(error.to_string().contains("`nobody`") && error.to_string().contains(DEVICE), "{error}");

    // Registered but not connected, and connected without listening to methods.
    let (kind, code, error) = kind_and_code(invoke(DEVICE).await);
    assert_eq!((kind, code.as_str()), (ErrorKind::Unavailable, "DeviceNotOnline"));
    assert!(error.is_retryable() && !error.may_have_been_applied());
    let client = device(&bench).await;
    let (kind, code, _) = kind_and_code(invoke(DEVICE).await);
    assert_eq!((kind, code.as_str()), (ErrorKind::Unavailable, "DeviceNotOnline"));

    // Listening to other methods only: the device itself says so.
    let mut other = within(client.method("other")).await.unwrap();
    let response = invoke(DEVICE).await.unwrap();
    assert_eq!((response.status, response.is_success()), (501, false));

    // It hears of it and never answers.
    let method = DirectMethod::new("other").response_timeout(Duration::from_secs(5));
    let (silent, request) =
        tokio::join!(within(bench.registry.invoke_device_method(DEVICE, method)), other.next());
    let (kind, code, error) = kind_and_code(silent);
    assert_eq!((kind, code.as_str()), (ErrorKind::Timeout, "GatewayTimeout"));
    assert!(error.may_have_been_applied());
    assert_eq!(request.unwrap().name(), "other");

    // Disabled counts as not there.
    within(bench.registry.set_device_status(DEVICE, DeviceStatus::Disabled, None)).await.unwrap();
    let (kind, code, _) = kind_and_code(invoke(DEVICE).await);
    assert_eq!((kind, code.as_str()), (ErrorKind::NotFound, "DeviceNotFound"));
}

#[tokio::test]
async fn the_hub_waits_for_a_module_that_is_on_its_way() {
    let bench = Bench::start().await;
    let method = DirectMethod::new("hello").connect_timeout(Duration::from_secs(60));
    let invoked = within(bench.registry.invoke_module_method(DEVICE, MODULE, method));
    let late = async {
        let client = bench.connect().await;
        let mut requests = within(client.methods()).await.unwrap();
        let request = within(requests.next()).await.unwrap();
        request.respond(200, &json!({ "hello": "there" })).await.unwrap();
        client
    };
    let (response, client) = tokio::join!(invoked, late);
    assert_eq!(response.unwrap().to::<Value>().unwrap(), json!({ "hello": "there" }));
    within(client.close()).await;
}

#[tokio::test]
async fn names_payloads_and_timeouts_that_are_not_allowed() {
    let bench = Bench::start().await;
    let cases = [
        DirectMethod::new("x".repeat(101)),
        DirectMethod::new(" "),
        DirectMethod::new("x").response_timeout(Duration::from_secs(4)),
        DirectMethod::new("x").response_timeout(Duration::from_secs(301)),
        DirectMethod::new("x").connect_timeout(Duration::from_secs(301)),
        DirectMethod::new("x").payload(&"y".repeat(128 * 1024)),
    ];
    for method in cases {
        let shown = format!("{:?}", method.clone().payload(&()));
        let error = within(bench.registry.invoke_device_method(DEVICE, method)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{shown}: {error:?}");
        assert!(!error.may_have_been_applied());
    }
}
