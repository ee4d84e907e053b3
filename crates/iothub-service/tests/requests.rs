//! What every call sends, and what it makes of the answer.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt};
use iothub_service::{
    Device, ETag, ErrorKind, IfMatch, Module, NewDevice, NewModule, Registry, TwinContent, TwinPatch,
};
use serde_json::json;
use support::{FakeHub, KEY, Step, connection_string, device, json, module, refusal, twin};

const VERSION: &str = "?api-version=2021-04-12";

fn to<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn every_request_has_the_headers_the_hub_wants() {
    let hub = FakeHub::start([json(200, device("d", "MA=="))]).await;
    hub.registry().create_device("d").await.unwrap();
    let request = hub.request();
    // The port is no part of the name: certificates, tokens and the hub know the bare one.
    assert_eq!(request.header("Host"), Some("localhost"));
    assert_eq!(request.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(request.header("User-Agent"), Some(concat!("iothub-rust/", env!("CARGO_PKG_VERSION"))));
    uuid::Uuid::parse_str(request.header("Request-Id").unwrap()).unwrap();

    let token = request.header("Authorization").unwrap();
    let token = token.strip_prefix("SharedAccessSignature ").unwrap();
    assert!(token.contains("sr=localhost&"), "{token}");
    assert!(token.contains("skn=iothubowner"), "{token}");
    let expiry: u64 = token.split('&').find_map(|pair| pair.strip_prefix("se=")).unwrap().parse().unwrap();
    let expiry = UNIX_EPOCH + Duration::from_secs(expiry);
    assert!(expiry > SystemTime::now() && expiry < SystemTime::now() + Duration::from_secs(3601));
    assert!(!token.contains(KEY));
}

#[tokio::test]
async fn a_request_without_a_body_has_no_content_type() {
    let hub = FakeHub::start([json(200, device("d", "MA=="))]).await;
    hub.registry().get_device("d").await.unwrap();
    let request = hub.request();
    assert_eq!(request.header("Content-Type"), None);
    assert_eq!(request.header("If-Match"), None);
    assert_eq!(request.body, "");
}

#[tokio::test]
async fn one_connection_and_one_token_serve_many_calls() {
    let hub = FakeHub::start([json(200, device("d", "MA==")), json(200, device("d", "MA=="))]).await;
    let registry = hub.registry();
    registry.get_device("d").await.unwrap();
    registry.clone().get_device("d").await.unwrap();
    let requests = hub.requests();
    assert_eq!((requests[0].connection, requests[1].connection), (0, 0));
    assert_eq!(requests[0].header("Authorization"), requests[1].header("Authorization"));
    assert_ne!(requests[0].header("Request-Id"), requests[1].header("Request-Id"));
}

#[tokio::test]
async fn devices_are_created_read_updated_and_deleted() {
    let hub = FakeHub::start([
        json(200, device("d", "MA==")),
        json(200, device("d", "MA==")),
        json(200, device("d", "MQ==")),
        json(200, device("d", "Mg==")),
        Step::Answer(204, &[], String::new()),
        Step::Answer(204, &[], String::new()),
    ])
    .await;
    let registry = hub.registry();

    let created = registry.create_device(NewDevice::new("d").keys(KEY, KEY)).await.unwrap();
    assert_eq!(created.device_id, "d");
    let mut read = registry.get_device("d").await.unwrap();
    read.status_reason = Some("checked".to_owned());
    let updated = registry.update_device(&read).await.unwrap();
    assert_eq!(updated.etag, ETag::new("MQ=="));
    registry.update_device_if_match(&read, &IfMatch::Any).await.unwrap();
    registry.delete_device("d").await.unwrap();
    registry.delete_device_if_match("d", &IfMatch::ETag(updated.etag)).await.unwrap();

    let requests = hub.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.header("If-Match"))).collect();
    assert_eq!(
        seen,
        [
            ("PUT", None),
            ("GET", None),
            ("PUT", Some("\"MA==\"")),
            ("PUT", Some("*")),
            ("DELETE", Some("*")),
            ("DELETE", Some("\"MQ==\"")),
        ]
    );
    assert!(requests.iter().all(|request| request.target == format!("/devices/d{VERSION}")));
    assert_eq!(requests[0].json()["authentication"]["symmetricKey"]["primaryKey"], KEY);
    let mut sent_back = device("d", "MA==");
    sent_back["statusReason"] = json!("checked");
    assert_eq!(requests[2].json(), sent_back);
}

#[tokio::test]
async fn modules_are_added_read_updated_deleted_and_listed() {
    let hub = FakeHub::start([
        json(200, module("d", "m", "MA==")),
        json(200, module("d", "m", "MA==")),
        json(200, module("d", "m", "MQ==")),
        json(200, module("d", "m", "Mg==")),
        Step::Answer(204, &[], String::new()),
        Step::Answer(204, &[], String::new()),
        json(200, json!([module("d", "m", "MQ=="), module("d", "n", "MA==")])),
    ])
    .await;
    let registry = hub.registry();

    registry.add_module("d", NewModule::new("m").managed_by("me")).await.unwrap();
    let mut read = registry.get_module("d", "m").await.unwrap();
    read.managed_by = Some("you".to_owned());
    registry.update_module(&read).await.unwrap();
    registry.update_module_if_match(&read, &IfMatch::Any).await.unwrap();
    registry.delete_module("d", "m").await.unwrap();
    registry.delete_module_if_match("d", "m", &IfMatch::ETag(ETag::new("MQ=="))).await.unwrap();
    let modules = registry.list_modules("d").await.unwrap();
    assert_eq!(modules.iter().map(|m| m.module_id.as_str()).collect::<Vec<_>>(), ["m", "n"]);

    let requests = hub.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.header("If-Match"))).collect();
    assert_eq!(
        seen,
        [
            ("PUT", None),
            ("GET", None),
            ("PUT", Some("\"MA==\"")),
            ("PUT", Some("*")),
            ("DELETE", Some("*")),
            ("DELETE", Some("\"MQ==\"")),
            ("GET", None),
        ]
    );
    let (last, others) = requests.split_last().unwrap();
    assert!(others.iter().all(|request| request.target == format!("/devices/d/modules/m{VERSION}")));
    assert_eq!(last.target, format!("/devices/d/modules{VERSION}"));
    assert_eq!(requests[0].json()["managedBy"], "me");
    assert_eq!(requests[2].json()["managedBy"], "you");
}

#[tokio::test]
async fn twins_are_read_patched_and_replaced() {
    let hub = FakeHub::start((0..10).map(|_| json(200, twin("d")))).await;
    let registry = hub.registry();
    let patch = TwinPatch::new().desired(&json!({ "a": 1 }));
    let content = TwinContent::new().tags(&json!({ "g": "x" }));
    let if_match = IfMatch::ETag(ETag::new("AAAAAAAAAAE="));

    registry.get_device_twin("d").await.unwrap();
    registry.update_device_twin("d", &patch).await.unwrap();
    registry.update_device_twin_if_match("d", &patch, &if_match).await.unwrap();
    registry.replace_device_twin("d", &content).await.unwrap();
    registry.replace_device_twin_if_match("d", &content, &if_match).await.unwrap();
    registry.get_module_twin("d", "m").await.unwrap();
    registry.update_module_twin("d", "m", &patch).await.unwrap();
    registry.update_module_twin_if_match("d", "m", &patch, &if_match).await.unwrap();
    registry.replace_module_twin("d", "m", &content).await.unwrap();
    registry.replace_module_twin_if_match("d", "m", &content, &if_match).await.unwrap();

    let requests = hub.requests();
    let seen: Vec<_> =
        requests.iter().map(|r| (r.method.as_str(), r.header("If-Match"), r.body.as_str())).collect();
    let patch = r#"{"properties":{"desired":{"a":1}}}"#;
    let content = r#"{"tags":{"g":"x"},"properties":{"desired":{}}}"#;
    let expected = [
        ("GET", None, ""),
        ("PATCH", Some("*"), patch),
        ("PATCH", Some("\"AAAAAAAAAAE=\""), patch),
        ("PUT", Some("*"), content),
        ("PUT", Some("\"AAAAAAAAAAE=\""), content),
    ];
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5..], expected);
    assert!(requests[..5].iter().all(|request| request.target == format!("/twins/d{VERSION}")));
    assert!(requests[5..].iter().all(|request| request.target == format!("/twins/d/modules/m{VERSION}")));
}

#[tokio::test]
async fn ids_are_escaped_one_by_one() {
    let hub =
        FakeHub::start([json(200, module("dev+1", "$edgeHub", "MA==")), json(200, twin("dev%2b#@1"))]).await;
    let registry = hub.registry();
    registry.get_module("dev+1", "$edgeHub").await.unwrap();
    registry.get_device_twin("dev%2b#@1").await.unwrap();
    let targets: Vec<_> = hub.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(
        targets,
        [format!("/devices/dev%2B1/modules/%24edgeHub{VERSION}"), format!("/twins/dev%252b%23%401{VERSION}"),]
    );
}

#[tokio::test]
async fn devices_are_listed_as_a_stream() {
    let hub =
        FakeHub::start([json(200, json!([device("a", "MA=="), device("b", "MA==")])), json(200, "[]")]).await;
    let registry = hub.registry();
    let stream = registry.list_devices();
    assert!(hub.requests().is_empty());
    let devices: Vec<Device> = stream.try_collect().await.unwrap();
    assert_eq!(devices.iter().map(|d| d.device_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(hub.request().target, "/devices?top=1000&api-version=2021-04-12");
    assert_eq!(registry.list_devices().count().await, 0);
}

#[tokio::test]
async fn devices_beyond_the_first_thousand_are_found_and_read() {
    let full: Vec<_> = (0..1000).map(|n| device(&format!("d{n}"), "MA==")).collect();
    let hub = FakeHub::start([
        json(200, json!(full)),
        Step::Answer(200, &[("x-ms-continuation", "next")], json!([{ "deviceId": "d7" }]).to_string()),
        json(200, json!([{ "deviceId": "more" }])),
        json(200, device("more", "MA==")),
    ])
    .await;
    let devices: Vec<Device> = hub.registry().list_devices().try_collect().await.unwrap();
    assert_eq!(devices.len(), 1001);
    assert_eq!(devices[1000].device_id, "more");
    let requests = hub.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target.trim_end_matches(VERSION)).collect();
    assert_eq!(targets[1..], ["/devices/query", "/devices/query", "/devices/more"]);
    assert_eq!(requests[2].header("x-ms-continuation"), Some("next"));
}

#[tokio::test]
async fn a_list_that_cannot_be_finished_says_so() {
    let full: Vec<_> = (0..1000).map(|n| device(&format!("d{n}"), "MA==")).collect();
    let hub =
        FakeHub::start([json(200, json!(full)), refusal(401, "IotHubUnauthorizedAccess", "Unauthorized")])
            .await;
    let items: Vec<_> = hub.registry().list_devices().collect().await;
    assert_eq!(items.len(), 1001);
    assert!(items[..1000].iter().all(Result::is_ok));
    assert_eq!(items[1000].as_ref().unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_list_that_is_refused_is_one_error() {
    let hub = FakeHub::start([refusal(401, "IotHubUnauthorizedAccess", "Unauthorized")]).await;
    let items: Vec<_> = hub.registry().list_devices().collect().await;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].as_ref().unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn get_or_create_creates() {
    let hub = FakeHub::start([json(200, device("d", "MA==")), json(200, module("d", "m", "MA=="))]).await;
    let registry = hub.registry();
    let device = registry.get_or_create_device("d").await.unwrap();
    assert!(device.was_created());
    assert_eq!(device.device_id, "d");
    assert!(registry.get_or_add_module("d", "m").await.unwrap().was_created());
    assert!(hub.requests().iter().all(|request| request.method == "PUT"));
}

#[tokio::test]
async fn get_or_create_finds() {
    let hub = FakeHub::start([
        refusal(409, "DeviceAlreadyExists", "Conflict"),
        json(200, device("d", "MA==")),
        refusal(409, "ModuleAlreadyExistsOnDevice", "Conflict"),
        json(200, module("d", "m", "MA==")),
        // The first answer got lost, the module was made.
        Step::Close,
        json(200, module("d", "m", "MA==")),
    ])
    .await;
    let registry = hub.registry();
    assert!(!registry.get_or_create_device("d").await.unwrap().was_created());
    assert!(!registry.get_or_add_module("d", "m").await.unwrap().was_created());
    let found: Module = registry.get_or_add_module("d", "m").await.unwrap().into_inner();
    assert_eq!(found.module_id, "m");
    let methods: Vec<_> = hub.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "GET", "PUT", "GET", "PUT", "GET"]);
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_sent() {
    let hub = FakeHub::start([]).await;
    let registry = hub.registry();
    let mut keyless: Device = to(device("d", "MA=="));
    keyless.authentication.symmetric_key = Default::default();
    let mut keyless_module: Module = to(module("d", "m", "MA=="));
    keyless_module.authentication.symmetric_key = Default::default();
    let bad_patch = TwinPatch::new().desired(&json!({ "o": { "a.b": 1 } }));
    let if_match = IfMatch::ETag(ETag::new("line\nbreak"));

    let errors = [
        (registry.create_device("a b").await.unwrap_err(), "device id"),
        (registry.get_device("").await.unwrap_err(), "device id"),
        (registry.get_or_create_device("a/b").await.unwrap_err(), "device id"),
        (registry.delete_device("..").await.unwrap_err(), "device id"),
        (registry.add_module("d", "m\n").await.unwrap_err(), "module id"),
        (registry.get_or_add_module("d", "ü").await.unwrap_err(), "module id"),
        (registry.get_module_twin("d", &"m".repeat(129)).await.unwrap_err(), "module id"),
        (registry.update_device(&keyless).await.unwrap_err(), "`d`"),
        (registry.update_module(&keyless_module).await.unwrap_err(), "`d/m`"),
        (registry.update_module_twin("d", "m", &bad_patch).await.unwrap_err(), "desired.o.a.b"),
        (registry.delete_device_if_match("d", &if_match).await.unwrap_err(), "etag"),
    ];
    for (error, names) in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(names), "{error}");
        assert!(!error.may_have_been_applied());
    }
    assert!(hub.requests().is_empty());
}

#[test]
fn a_registry_is_made_outside_of_a_runtime() {
    let registry = Registry::from_connection_string(&connection_string());
    // A machine without any trusted certificate cannot make one; that is an error of its own.
    match registry {
        Ok(registry) => assert_eq!(registry.host_name(), "localhost"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Certificate),
    }
}

#[test]
fn connection_strings_of_others_are_refused() {
    let error =
        Registry::from_connection_string(&format!("HostName=localhost;DeviceId=d;SharedAccessKey={KEY}"))
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!format!("{error} {error:?}").contains(KEY));
}

#[tokio::test]
async fn nothing_shows_the_key() {
    let hub = FakeHub::start([]).await;
    let builder = hub.builder();
    assert!(!format!("{builder:?} {builder:#?}").contains(KEY));
    assert!(!format!("{:?}", builder.build().unwrap()).contains(KEY));
}

#[test]
fn futures_and_streams_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let check = |registry: &Registry| {
        is_send(registry.create_device("d"));
        is_send(registry.get_or_add_module("d", "m"));
        is_send(registry.list_devices());
        is_send(registry.bulk([]).report());
        is_send(registry.query("").pages());
        is_send(registry.query("").typed::<Device>());
        is_send(registry.list_jobs(None, None));
        is_send(registry.change_device("d", |_| ()));
        is_send(registry.invoke_device_method("d", "m"));
        is_send(registry.wait_for_job("j"));
        is_send(registry.update_device_twin("d", &TwinPatch::new()));
    };
    let _ = check;
}
