//! Bulks: how items are put into calls, and that each has its result (rest.md 3.5).
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;

use futures_util::StreamExt;
use iothub_service::{
    BulkItem, Device, DeviceStatus, ETag, ErrorKind, Module, NewDevice, NewModule, TwinContent, TwinPatch,
};
use serde_json::{Value, json};
use support::{FakeHub, KEY, Step, device, json, module, refusal};

fn all_good() -> Step {
    json(200, r#"{"isSuccessful":true,"errors":[],"warnings":[]}"#)
}

fn ids(request: &support::Request) -> Vec<String> {
    let body = request.json();
    body.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_kind_of_item_has_its_mode() {
    let hub = FakeHub::start((0..20).map(|_| all_good())).await;
    let mut read: Device = serde_json::from_value(device("d3", "MQ==")).unwrap();
    read.status = DeviceStatus::Disabled;
    let other_device: Device = serde_json::from_value(device("d4", "MQ==")).unwrap();
    let other_module: Module = serde_json::from_value(module("d6", "m", "MQ==")).unwrap();
    let module: Module = serde_json::from_value(module("d5", "m", "MQ==")).unwrap();
    let etag = ETag::new("MQ==");
    let twin = TwinContent::new().tags(&Tags { z: 1, a: 2 }).desired(&json!({ "b": 1.5 }));
    let patch = TwinPatch::new().tags(&json!({ "x": null }));
    let items = [
        BulkItem::create_device(NewDevice::new("d1").keys(KEY, KEY).status_reason("new")).with_twin(&twin),
        BulkItem::add_module("d2", NewModule::new("m").managed_by("me")),
        BulkItem::update_device(&read),
        BulkItem::overwrite_device(&other_device),
        BulkItem::update_module(&module),
        BulkItem::overwrite_module(&other_module),
        BulkItem::update_device_twin("d7", &patch),
        BulkItem::update_module_twin("d8", "m", &patch),
        BulkItem::delete_device("d9"),
        BulkItem::delete_device_if_match("d10", &etag),
        BulkItem::delete_module("d11", "m"),
        BulkItem::delete_module_if_match("d12", "m", &etag),
    ];
    let report = hub.registry().bulk(items).report().await;
    assert_eq!((report.succeeded, report.failed.len()), (12, 0));

    let request = hub.request();
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/devices?api-version=2021-04-12")
    );
    let body = request.json();
    let row = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", text("id"), text("moduleId"), text("importMode"), text("eTag"))
    };
    assert_eq!(
        body.as_array().unwrap().iter().map(row).collect::<Vec<_>>(),
        [
            "d1 - create -",
            "d2 m create -",
            "d3 - updateIfMatchETag MQ==",
            "d4 - update -",
            "d5 m updateIfMatchETag MQ==",
            "d6 m update -",
            "d7 - updateTwin -",
            "d8 m updateTwin -",
            "d9 - delete -",
            "d10 - deleteIfMatchETag MQ==",
            "d11 m delete -",
            "d12 m deleteIfMatchETag MQ==",
        ]
    );
    let keys = json!({ "primaryKey": KEY, "secondaryKey": KEY });
    assert_eq!(body[0]["authentication"]["symmetricKey"], keys);
    assert_eq!((&body[0]["statusReason"], &body[0]["status"]), (&json!("new"), &json!("enabled")));
    assert_eq!(
        (&body[0]["tags"], &body[0]["properties"]),
        (&twin_tags(), &json!({ "desired": { "b": 1.5 } }))
    );
    // In the order of the struct, whatever else in the build does to JSON objects.
    assert!(request.body.contains(r#""tags":{"z":1,"a":2}"#), "{}", request.body);
    assert_eq!(body[1]["managedBy"], "me");
    assert_eq!((&body[2]["status"], &body[2]["authentication"]["symmetricKey"]), (&json!("disabled"), &keys));
    assert_eq!((&body[6]["tags"], body[6].get("properties")), (&json!({ "x": null }), None));
}

#[derive(serde::Serialize)]
struct Tags {
    z: u32,
    a: u32,
}

fn twin_tags() -> Value {
    json!({ "z": 1, "a": 2 })
}

#[tokio::test]
async fn two_hundred_and_fifty_go_in_three_calls_and_each_has_its_result() {
    let hub = FakeHub::start((0..3).map(|_| all_good())).await;
    let mut results = hub.registry().create_devices((0..250).map(|n| format!("d{n}"))).concurrency(1);
    let mut seen = HashSet::new();
    while let Some(result) = results.next().await {
        result.result.unwrap();
        assert_eq!(result.device_id, format!("d{}", result.index));
        assert!(seen.insert(result.index));
    }
    assert_eq!(seen.len(), 250);
    let sizes: Vec<_> = hub.requests().iter().map(|request| ids(request).len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[tokio::test]
async fn bad_items_are_named_with_their_codes_and_the_rest_is_done() {
    // 9 goes through, 2 of them are refused by the hub.
    let partial = json!({ "isSuccessful": false, "errors": [
        { "deviceId": "b", "moduleId": "", "errorCode": 409001, "errorStatus": "ErrorCode:DeviceAlreadyExists;b" },
        { "deviceId": "c", "moduleId": null, "errorCode": 400004, "errorStatus": "ErrorCode:ArgumentInvalid;bad key" },
    ], "warnings": [] });
    let header = &[
        ("IotHubErrorCode", "BulkRegistryOperationFailure"),
        ("iothub-errorcode", "BulkRegistryOperationFailure"),
    ];
    let hub = FakeHub::start([Step::Answer(400, header, partial.to_string())]).await;
    let bad_twin = TwinContent::new().tags(&json!({ "a.b": 1 }));
    let items = [
        BulkItem::create_device("a"),
        BulkItem::create_device("no/slash"),
        BulkItem::create_device("b"),
        BulkItem::add_module("x", "m m"),
        BulkItem::create_device("c"),
        BulkItem::create_device("e").with_twin(&bad_twin),
    ];
    let report = hub.registry().bulk(items).report().await;
    assert_eq!(report.succeeded, 1);
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|failed| {
            let error = failed.result.as_ref().unwrap_err();
            assert!(!error.may_have_been_applied());
            (failed.index, failed.device_id.as_str(), failed.module_id.as_deref(), error.hub_code().unwrap())
        })
        .collect();
    assert_eq!(
        failed,
        [
            (1, "no/slash", None, "ArgumentInvalid"),
            (2, "b", None, "DeviceAlreadyExists"),
            (3, "x", Some("m m"), "ArgumentInvalid"),
            (4, "c", None, "ArgumentInvalid"),
            (5, "e", None, "ArgumentInvalid"),
        ]
    );
    // Those that cannot be right were not sent.
    assert_eq!(ids(&hub.request()), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_call_that_fails_is_a_result_for_each_of_its_items() {
    let refused = || refusal(400, "DeviceDefinedMultipleTimes", "text");
    for (step, kind, applied) in [
        (Step::Close, ErrorKind::Connect, true),
        (refusal(500, "ServerError", "x"), ErrorKind::Unavailable, true),
        (refused(), ErrorKind::InvalidInput, false),
        (json(200, "no json"), ErrorKind::Protocol, true),
    ] {
        let hub = FakeHub::start([step, all_good()]).await;
        let bulk = hub.registry().create_devices((0..150).map(|n| format!("d{n}"))).concurrency(1);
        let report = bulk.report().await;
        assert_eq!((report.succeeded, report.failed.len()), (50, 100), "{kind:?}");
        for (n, failed) in report.failed.iter().enumerate() {
            let error = failed.result.as_ref().unwrap_err();
            assert_eq!((failed.index, error.kind(), error.may_have_been_applied()), (n, kind, applied));
        }
        assert_eq!(hub.requests().len(), 2);
    }
}

#[tokio::test]
async fn throttled_calls_are_sent_again() {
    let hub = FakeHub::start([
        refusal(429, "ThrottlingException", "x"),
        refusal(429, "ThrottlingException", "x"),
        all_good(),
    ])
    .await;
    let report = hub.registry().delete_devices(["a", "b"]).report().await;
    assert_eq!((report.succeeded, report.failed.len()), (2, 0));
    assert_eq!(hub.requests().len(), 3);
}

#[tokio::test]
async fn a_device_comes_before_its_modules_and_never_twice_in_a_call() {
    let hub = FakeHub::start((0..10).map(|_| all_good())).await;
    let items = (0..3).flat_map(|n| {
        let id = format!("d{n}");
        [
            BulkItem::create_device(id.as_str()),
            BulkItem::add_module(id.as_str(), "m1"),
            BulkItem::add_module(id, "m2"),
        ]
    });
    let report = hub.registry().bulk(items).report().await;
    assert_eq!((report.succeeded, report.failed.len()), (9, 0));
    let requests = hub.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(ids(request), ["d0", "d1", "d2"]);
    }
    assert_eq!(requests[0].json()[0].get("moduleId"), None);
    let modules: HashSet<_> = [1, 2].map(|n: usize| requests[n].json()[0]["moduleId"].to_string()).into();
    assert_eq!(modules.len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_before_it_is_polled_nor_for_nothing() {
    let hub = FakeHub::start([]).await;
    let registry = hub.registry();
    let _ = registry.create_devices(["a"]);
    let report = registry.bulk([]).report().await;
    assert_eq!((report.succeeded, report.failed.len()), (0, 0));
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn keyless_updates_are_refused_like_single_ones() {
    let hub = FakeHub::start([]).await;
    let mut keyless: Device = serde_json::from_value(device("d", "MA==")).unwrap();
    keyless.authentication.symmetric_key = Default::default();
    let report = hub.registry().bulk([BulkItem::update_device(&keyless)]).report().await;
    assert_eq!(report.failed[0].result.as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn nothing_shows_a_key() {
    let item = BulkItem::create_device(NewDevice::new("d").keys(KEY, KEY));
    assert!(!format!("{item:?}").contains(KEY));
}
