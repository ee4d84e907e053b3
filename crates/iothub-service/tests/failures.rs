//! Failures: what they are called, which requests are sent again, and how long a call may take.
#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use iothub_service::{DirectMethod, ErrorKind, IfMatch, NewDevice, NewJob, Registry, TlsConfig, TwinPatch};
use serde_json::json;
use support::{FakeHub, Step, connection_string, device, json, refusal, twin};
use tokio::net::TcpListener;

#[tokio::test]
async fn refusals_have_kind_code_and_tracking_id() {
    for (status, name, kind) in [
        (400, "ArgumentInvalid", ErrorKind::InvalidInput),
        (401, "IotHubUnauthorizedAccess", ErrorKind::Unauthorized),
        (403, "DeviceModelMaxPropertiesExceeded", ErrorKind::InvalidInput),
        (404, "DeviceNotFound", ErrorKind::NotFound),
        (409, "DeviceAlreadyExists", ErrorKind::AlreadyExists),
        (412, "PreconditionFailed", ErrorKind::PreconditionFailed),
    ] {
        let hub = FakeHub::start([refusal(status, name, "text")]).await;
        let error = hub.registry().create_device("pump-7").await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.hub_code()), (kind, Some(status), Some(name)));
        let tracking_id = error.tracking_id().unwrap();
        assert!(tracking_id.starts_with("0123456789abcdef0123456789abcdef"), "{tracking_id}");
        assert!(!error.may_have_been_applied());
        assert_eq!(hub.requests().len(), 1, "{name} was sent again");
    }
}

#[tokio::test]
async fn an_unknown_module_is_named_with_its_device() {
    let hub = FakeHub::start([refusal(404, "ModuleNotFound", "pump-7/valve")]).await;
    let error = hub.registry().get_module("pump-7", "valve").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`valve`") && error.to_string().contains("`pump-7`"), "{error}");
}

#[tokio::test]
async fn the_code_of_the_header_counts_where_the_body_has_none() {
    let hub =
        FakeHub::start([Step::Answer(404, &[("iothub-errorcode", "DeviceNotFound")], String::new())]).await;
    let error = hub.registry().get_device("d").await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("DeviceNotFound")));
}

#[tokio::test]
async fn reads_are_sent_again_after_whatever_passes() {
    let again = [
        Step::Close,
        Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"deviceId\"".to_vec()),
        refusal(408, "Timeout", "text"),
        refusal(429, "ThrottlingException", "text"),
        refusal(500, "ServerError", "InternalServerError"),
        refusal(502, "BadGateway", "text"),
        refusal(503, "ServiceUnavailable", "text"),
        refusal(504, "GatewayTimeout", "text"),
    ];
    for step in again {
        let hub = FakeHub::start([step.clone(), step.clone(), json(200, device("d", "MA=="))]).await;
        let read = hub.registry().get_device("d").await;
        assert!(read.is_ok(), "{step:?}: {read:?}");
        assert_eq!(hub.requests().len(), 3);
    }
}

#[tokio::test]
async fn changes_are_sent_again_only_when_nothing_was_changed() {
    for step in [refusal(429, "ThrottlingException", "text"), refusal(503, "ServiceUnavailable", "text")] {
        let hub = FakeHub::start([step.clone(), step, json(200, device("d", "MA=="))]).await;
        hub.registry().create_device("d").await.unwrap();
        assert_eq!(hub.requests().len(), 3);
    }
}

#[tokio::test]
async fn changes_that_may_have_been_made_are_not_sent_again() {
    let steps = [
        Step::Close,
        refusal(500, "ServerError", "InternalServerError"),
        refusal(504, "GatewayTimeout", "x"),
    ];
    for step in steps {
        let hub = FakeHub::start((0..10).map(|_| step.clone())).await;
        let registry = hub.registry();
        let patch = TwinPatch::new().desired(&json!({ "a": 1 }));
        let errors = [
            registry.create_device("d").await.unwrap_err(),
            registry.add_module("d", "m").await.unwrap_err(),
            registry.delete_device_if_match("d", &IfMatch::Any).await.unwrap_err(),
            registry.update_device_twin("d", &patch).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.may_have_been_applied(), "{step:?}: {error:?}");
            assert!(error.is_retryable(), "{step:?}: {error:?}");
        }
        assert_eq!(hub.requests().len(), 4, "{step:?}");
    }
}

#[tokio::test]
async fn a_pause_beyond_the_end_of_the_call_is_not_begun() {
    // An hour: the test would not end if it were waited for.
    let throttled = Step::Answer(429, &[("Retry-After", "3600")], String::new());
    let hub = FakeHub::start([throttled]).await;
    let error = hub.registry().get_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn times_beyond_all_clocks_do_no_harm() {
    let throttled = Step::Answer(429, &[("Retry-After", "18446744073709551615")], String::new());
    let hub =
        FakeHub::start([throttled, json(200, r#"{"status":200}"#), json(200, device("d", "MA=="))]).await;
    let registry = hub.builder().call_timeout(Duration::MAX).connection_age(Duration::MAX).build().unwrap();
    let error = registry.get_device("d").await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(u64::MAX)));
    let method = DirectMethod::new("x").connect_timeout(Duration::MAX).response_timeout(Duration::MAX);
    registry.invoke_device_method("d", method).await.unwrap();
    registry.get_device("d").await.unwrap();

    for start in [
        SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40),
    ] {
        let job = NewJob::update_twins("j", "*", TwinPatch::new()).start_time(start);
        let error = registry.create_job(job.max_execution_time(Duration::MAX)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_hub_that_does_not_answer_is_a_timeout() {
    let hub = FakeHub::start([Step::Hang, Step::Hang]).await;
    let registry = hub.builder().call_timeout(Duration::from_secs(2)).build().unwrap();
    let error = registry.create_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_been_applied());
    assert!(error.to_string().contains(&format!("localhost:{}", hub.address.port())), "{error}");

    let error = registry.get_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.may_have_been_applied());
}

#[tokio::test]
async fn a_host_that_takes_connections_and_says_nothing_cannot_be_reached() {
    // Accepts (by the backlog), but never says a word of TLS.
    let silent = TcpListener::bind("localhost:0").await.unwrap();
    let mut options = FakeHub::start([]).await.options();
    options.https_port = Some(silent.local_addr().unwrap().port());
    let registry = Registry::builder(&connection_string())
        .unwrap()
        .options(options)
        .call_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let error = registry.create_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    // The request was never sent.
    assert!(!error.may_have_been_applied());
}

#[tokio::test]
async fn a_hub_that_is_down_is_named_with_its_port() {
    let hub = FakeHub::start([]).await;
    let mut options = hub.options();
    // A port that was free a moment ago.
    let port = {
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    options.https_port = Some(port);
    let registry = Registry::from_connection_string_with(&connection_string(), options).unwrap();
    let error = registry.create_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&format!("localhost:{port}")), "{error}");
    assert!(!error.may_have_been_applied());
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_said_to_be_one() {
    let hub = FakeHub::start([json(200, device("d", "MA=="))]).await;
    let other = FakeHub::start([]).await;
    let mut options = hub.options();
    options.tls = TlsConfig::default().platform_roots(false).ca_pem(other.ca_pem.as_bytes()).unwrap();
    let registry = Registry::from_connection_string_with(&connection_string(), options).unwrap();
    let error = registry.get_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate, "{error:?}");
    assert!(error.to_string().contains("not trusted"), "{error}");
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let hub = FakeHub::start_for("elsewhere.example", [json(200, device("d", "MA=="))]).await;
    let error = hub.registry().get_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate, "{error:?}");
    assert!(error.to_string().contains("localhost"), "{error}");
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn answers_that_are_no_http_or_no_json_are_protocol_errors() {
    let cases = [
        Step::Raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()),
        Step::Answer(200, &[], "<html>".to_owned()),
        json(200, json!({ "no": "device" })),
        Step::Answer(200, &[], String::new()),
    ];
    for step in cases {
        let hub = FakeHub::start([step.clone()]).await;
        let error = hub.registry().get_device("d").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{step:?}: {error:?}");
        assert_eq!(hub.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_change_with_an_answer_that_cannot_be_read_may_have_been_made() {
    let hub = FakeHub::start([json(200, "{}")]).await;
    let error = hub.registry().create_device(NewDevice::new("d")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.may_have_been_applied());
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let hub =
        FakeHub::start([Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[".to_vec())])
            .await;
    let error = hub.registry().get_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("longer"), "{error}");
}

#[tokio::test]
async fn a_connection_the_hub_closed_is_replaced() {
    let hub = FakeHub::start([json(200, twin("d")), Step::Close, json(200, twin("d"))]).await;
    let registry = hub.registry();
    registry.get_device_twin("d").await.unwrap();
    registry.get_device_twin("d").await.unwrap();
    let connections: Vec<_> = hub.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}
