//! Direct methods: service on one side, device and module on the other.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use iothub::{DeviceClient, ErrorKind, service::DirectMethod};
use serde_json::{Value, json};
use support::{Bench, DEVICE, MODULE, within};

async fn device(bench: &Bench) -> DeviceClient {
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    within(DeviceClient::connect_with(&string, bench.options())).await.unwrap()
}

#[tokio::test]
async fn payloads_of_every_kind_go_there_and_back() {
    let bench = Bench::start().await;
    let client = device(&bench).await;
    let mut methods = within(client.methods()).await.unwrap();
    let big = "x".repeat(100_000);
    let payloads =
        [json!(null), json!(5), json!("text"), json!([1, 2]), json!({ "a": { "b": true } }), json!(big)];
    for payload in payloads {
        let invoke = bench.registry.invoke_device_method(DEVICE, DirectMethod::new("echo").payload(&payload));
        let answer = async {
            let request = methods.next().await.unwrap();
            assert_eq!(request.name(), "echo");
            let got: Value = request.payload_as().unwrap();
            request.respond(207, &got).await.unwrap();
        };
        let (response, ()) = within(async { tokio::join!(invoke, answer) }).await;
        let response = response.unwrap();
        assert_eq!(response.status, 207);
        assert_eq!(response.to::<Value>().unwrap(), payload);
    }
}

#[tokio::test]
async fn requests_go_to_the_stream_of_their_name_and_else_to_the_general_one() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut reboot = within(client.method("reboot")).await.unwrap();
    let mut others = within(client.methods()).await.unwrap();
    let invoke = |name: &'static str| bench.registry.invoke_module_method(DEVICE, MODULE, name);
    let serve = async {
        reboot.next().await.unwrap().respond(200, "named").await.unwrap();
        let request = others.next().await.unwrap();
        assert_eq!(request.name(), "Reboot", "names are case-sensitive");
        request.respond(200, "general").await.unwrap();
    };
    let calls = async {
        let first = invoke("reboot").await.unwrap().to::<String>().unwrap();
        (first, invoke("Reboot").await.unwrap().to::<String>().unwrap())
    };
    let (answers, ()) = within(async { tokio::join!(calls, serve) }).await;
    assert_eq!(answers, ("named".to_owned(), "general".to_owned()));
}

#[tokio::test]
async fn who_does_not_answer_is_answered_for() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let invoke = |name: &'static str| bench.registry.invoke_module_method(DEVICE, MODULE, name);

    let mut methods = within(client.method("drop")).await.unwrap();
    let dropped = async { drop(methods.next().await.unwrap()) };
    let (response, ()) = within(async { tokio::join!(invoke("drop"), dropped) }).await;
    assert_eq!(response.unwrap().status, 500);

    // Connected and listening, but not to this name.
    assert_eq!(within(invoke("unknown")).await.unwrap().status, 501);

    // Nobody listens any more, so the hub says that the module is not there for methods.
    drop(methods);
    within(client.twin().get()).await.unwrap();
    let error = within(invoke("drop")).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::Unavailable, Some("DeviceNotOnline")));
}

#[tokio::test]
async fn missing_offline_and_silent_are_told_apart() {
    let bench = Bench::start().await;
    let registry = &bench.registry;
    let error = within(registry.invoke_device_method("nobody", "m")).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("DeviceNotFound")));
    let error = within(registry.invoke_module_method(DEVICE, "nobody", "m")).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("ModuleNotFound")));
    let error = within(registry.invoke_device_method(DEVICE, "m")).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::Unavailable, Some("DeviceNotOnline")));

    let client = device(&bench).await;
    let mut methods = within(client.methods()).await.unwrap();
    let shortest = DirectMethod::new("m").response_timeout(Duration::from_secs(5));
    let silent = async {
        let request = methods.next().await.unwrap();
        // Held until the caller has given up: only the hub's clock moves.
        bench.hub.advance(Duration::from_secs(6));
        request
    };
    let (error, request) =
        within(async { tokio::join!(registry.invoke_device_method(DEVICE, shortest), silent) }).await;
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::Timeout, Some("GatewayTimeout")));
    assert!(error.may_have_been_applied());
    // The late answer is for nobody and harms nobody.
    within(request.respond(200, &())).await.ok();
    assert!(client.status().is_connected());
}

#[tokio::test]
async fn handlers_may_use_the_client_and_close_it() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut methods = within(client.methods()).await.unwrap();
    let invoke = bench.registry.invoke_module_method(DEVICE, MODULE, "shutdown");
    let serve = async {
        let request = methods.next().await.unwrap();
        let version = client.twin().report(&json!({ "state": "closing" })).await.unwrap();
        request.respond(200, &version).await.unwrap();
        client.close().await;
        methods.next().await.is_none()
    };
    let (response, ended) = within(async { tokio::join!(invoke, serve) }).await;
    assert_eq!(response.unwrap().to::<u64>().unwrap(), 2);
    assert!(ended);
}

#[tokio::test]
async fn many_at_once_get_their_own_answers() {
    let bench = Bench::start().await;
    let client = device(&bench).await;
    let mut methods = within(client.methods()).await.unwrap();
    let calls = join_all((0..50u32).map(|n| {
        let registry = bench.registry.clone();
        async move {
            let method = DirectMethod::new("double").payload(&n);
            registry.invoke_device_method(DEVICE, method).await.unwrap().to::<u32>().unwrap()
        }
    }));
    let serve = async {
        for _ in 0..50 {
            let request = methods.next().await.unwrap();
            let n: u32 = request.payload_as().unwrap();
            request.respond(200, &(2 * n)).await.unwrap();
        }
    };
    let (answers, ()) = within(async { tokio::join!(calls, serve) }).await;
    assert_eq!(answers, (0..50).map(|n| 2 * n).collect::<Vec<_>>());
}

#[tokio::test]
async fn answers_that_cannot_be_are_refused_here_and_the_caller_gets_500() {
    let bench = Bench::start().await;
    let client = device(&bench).await;
    let mut methods = within(client.methods()).await.unwrap();
    let serve = async {
        let request = methods.next().await.unwrap();
        request.respond(200, &"x".repeat(128 * 1024)).await.unwrap_err()
    };
    let invoke = bench.registry.invoke_device_method(DEVICE, "big");
    let (response, error) = within(async { tokio::join!(invoke, serve) }).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("131074"), "{error}");
    assert_eq!(response.unwrap().status, 500);
}

#[tokio::test]
async fn a_second_reader_is_confirmed_on_links_that_are_up_already() {
    let bench = Bench::start().await;
    let client = device(&bench).await;
    let _first = within(client.messages()).await.unwrap();
    let _second = within(client.messages()).await.unwrap();
    let _methods = within(client.method("a")).await.unwrap();
    let _more = within(client.method("b")).await.unwrap();
}
