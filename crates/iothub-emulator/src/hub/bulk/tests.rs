//! The modes of bulk requests (rest.md 3.5), and what is refused.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::hub::{HubConfig, Push};

fn hub() -> Hub {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    hub.put_device("old", &json!({}), Precondition::None).unwrap();
    hub
}

fn device(id: &str) -> Identity {
    Identity::device(id).unwrap()
}

/// The codes of the items that were refused.
fn codes(hub: &Hub, items: Value) -> Vec<u32> {
    hub.bulk(&items).unwrap().errors.into_iter().map(|error| error.error.code).collect()
}

fn refused(hub: &Hub, body: &Value) -> HubError {
    hub.bulk(body).unwrap_err()
}

#[test]
fn every_mode_in_any_case() {
    // On a device that is there and one that is not: the code, and whether it is there afterwards.
    for (mode, on_old, old_stays, on_new, new_is_there) in [
        (json!("create"), Some(409_001), true, None, true),
        (json!("Create"), Some(409_001), true, None, true),
        (json!("update"), None, true, Some(404_001), false),
        (json!("Update"), None, true, Some(404_001), false),
        (json!("createOrUpdate"), None, true, None, true),
        (json!(null), None, true, None, true),
        (json!("delete"), None, false, Some(404_001), false),
        (json!("DELETE"), None, false, Some(404_001), false),
        (json!("updateTwin"), None, true, Some(404_001), false),
        // Without the etag they compare.
        (json!("updateIfMatchETag"), Some(400_004), true, Some(400_004), false),
        (json!("deleteIfMatchETag"), Some(400_004), true, Some(400_004), false),
        (json!("upsert"), Some(400_004), true, Some(400_004), false),
        (json!(1), Some(400_004), true, Some(400_004), false),
    ] {
        let hub = hub();
        let items = json!([{ "id": "old", "importMode": mode }, { "id": "new", "importMode": mode }]);
        let expected: Vec<_> = on_old.into_iter().chain(on_new).collect();
        assert_eq!(codes(&hub, items), expected, "{mode}");
        assert_eq!(hub.get_device("old").is_ok(), old_stays, "{mode}");
        assert_eq!(hub.get_device("new").is_ok(), new_is_there, "{mode}");
    }
}

#[test]
fn etags_are_compared_however_they_are_spelled() {
    for (name, mode) in [
        ("eTag", "updateIfMatchETag"),
        ("etag", "UpdateIfMatchETag"),
        ("ETag", "createOrUpdateIfMatchETag"),
        ("etag", "DeleteIfMatchETag"),
    ] {
        let hub = hub();
        let wrong = json!([{ "id": "old", "importMode": mode, name: "abc" }]);
        assert_eq!(codes(&hub, wrong), [412_001], "{mode}");
        let etag = hub.get_device("old").unwrap()["etag"].as_str().unwrap().to_owned();
        let quoted = json!([{ "id": "old", "importMode": mode, name: format!("\"{etag}\"") }]);
        assert_eq!(codes(&hub, quoted), Vec::<u32>::new(), "{mode}");
    }
    let hub = hub();
    let twin = |etag: &str| json!([{ "id": "old", "importMode": "updateTwinIfMatchETag", "twinETag": etag, "tags": { "a": 1 } }]);
    assert_eq!(codes(&hub, twin("AAAAAAAAAAk=")), [412_001]);
    assert_eq!(codes(&hub, twin("AAAAAAAAAAE=")), Vec::<u32>::new());
    assert_eq!(hub.get_twin(&device("old")).unwrap()["tags"], json!({ "a": 1 }));
}

#[test]
fn a_device_is_created_with_its_twin_and_fresh_versions() {
    let hub = hub();
    let item = json!({
        "id": "new", "importMode": "create", "status": "disabled", "statusReason": "not yet",
        "authentication": { "type": "certificateAuthority" },
        "capabilities": { "iotEdge": true },
        "tags": { "color": "red" },
        "properties": { "desired": { "a": 1, "$version": 7, "$metadata": {} }, "reported": { "not": "taken" } },
    });
    assert_eq!(codes(&hub, json!([item])), Vec::<u32>::new());
    let identity = hub.get_device("new").unwrap();
    assert_eq!(identity["status"], "disabled");
    assert_eq!(identity["statusReason"], "not yet");
    assert_eq!(identity["authentication"]["type"], "certificateAuthority");
    assert_eq!(identity["capabilities"]["iotEdge"], true);
    let twin = hub.get_twin(&device("new")).unwrap();
    assert_eq!((&twin["etag"], &twin["version"]), (&json!("AAAAAAAAAAE="), &json!(2)));
    assert_eq!(twin["tags"], json!({ "color": "red" }));
    let desired = &twin["properties"]["desired"];
    assert_eq!((&desired["a"], &desired["$version"]), (&json!(1), &json!(1)));
    let reported = &twin["properties"]["reported"];
    assert_eq!((reported.get("not"), &reported["$version"]), (None, &json!(1)));
    // Keys are made where none are given.
    assert_eq!(codes(&hub, json!([{ "id": "plain", "importMode": "create" }])), Vec::<u32>::new());
    let keys = hub.get_device("plain").unwrap()["authentication"]["symmetricKey"].clone();
    assert!(keys["primaryKey"].is_string() && keys["secondaryKey"].is_string());
}

#[test]
fn modules_need_their_device() {
    let hub = hub();
    let item = |device: &str, module: &str, mode: &str| json!([{ "id": device, "moduleId": module, "importMode": mode, "tags": { "k": 1 } }]);
    assert_eq!(codes(&hub, item("nobody", "m", "create")), [404_001]);
    assert_eq!(codes(&hub, item("old", "m", "update")), [404_010]);
    assert_eq!(codes(&hub, item("old", "m", "create")), Vec::<u32>::new());
    assert_eq!(codes(&hub, item("old", "m", "create")), [409_301]);
    assert_eq!(codes(&hub, item("old", "bad id", "create")), [400_004]);
    let twin = hub.get_twin(&Identity::module("old", "m").unwrap()).unwrap();
    assert_eq!(twin["tags"], json!({ "k": 1 }));
    assert_eq!(codes(&hub, item("old", "m", "delete")), Vec::<u32>::new());
    assert_eq!(hub.list_modules("old").unwrap().len(), 0);
    let result = hub.bulk(&item("old", "m", "delete")).unwrap().to_json();
    assert_eq!(
        result,
        json!({ "isSuccessful": false, "warnings": [], "errors": [
            { "deviceId": "old", "moduleId": "m", "errorCode": 404_010, "errorStatus": "old/m" }
        ] })
    );
}

/// Bad items leave nothing behind, good ones are done.
#[test]
fn items_stand_alone() {
    let hub = hub();
    let long = "v".repeat(4000);
    let items = json!([
        { "id": "a", "importMode": "create" },
        { "id": "b c", "importMode": "create" },
        { "id": "d", "importMode": "create", "tags": { "x": long, "y": long, "z": long } },
        { "id": "e", "importMode": "create", "properties": { "desired": { "bad key": 1 } } },
        { "id": "f", "importMode": "create", "authentication": { "symmetricKey": { "primaryKey": "MDEyMzQ1Njc4OWFiY2RlZg==" } } },
        { "id": "old", "importMode": "update", "tags": { "$bad": 1 }, "status": "disabled" },
        { "importMode": "create" },
        "text",
        { "id": "g", "importMode": "create" },
    ]);
    let result = hub.bulk(&items).unwrap();
    let shown: Vec<_> =
        result.errors.iter().map(|error| (error.device_id.as_str(), error.error.code)).collect();
    let expected = [
        ("b c", 400_004),
        ("d", 403_100),
        ("e", 400_004),
        ("f", 400_004),
        ("old", 400_004),
        ("", 400_004),
        ("", 400_004),
    ];
    assert_eq!(shown, expected);
    let ids: Vec<_> = hub.list_devices(1000).iter().map(|device| device["deviceId"].clone()).collect();
    assert_eq!(ids, ["a", "g", "old"]);
    assert_eq!(hub.get_device("old").unwrap()["status"], "enabled");
}

#[test]
fn some_requests_are_refused_as_a_whole() {
    let hub = hub();
    let many =
        |count: usize| (0..count).map(|n| json!({ "id": format!("d{n}"), "importMode": "create" })).collect();
    let error = refused(&hub, &many(101));
    assert_eq!((error.code, error.name), (413_002, "TooManyDevices"));
    for body in [json!([]), json!({}), json!(null)] {
        assert_eq!(refused(&hub, &body).code, 400_004, "{body}");
    }
    // Also when it is about two modules of one device.
    let twice = json!([{ "id": "x" }, { "id": "old", "moduleId": "a" }, { "id": "old", "moduleId": "b" }]);
    let error = refused(&hub, &twice);
    assert_eq!((error.code, error.text.as_str()), (400_011, "DeviceDefinedMultipleTimes, device ID old"));
    assert_eq!(hub.list_devices(1000).len(), 1, "nothing was done");
    assert_eq!(codes(&hub, many(100)), Vec::<u32>::new());
    assert_eq!(hub.list_devices(1000).len(), 101);
}

#[test]
fn who_is_connected_is_told() {
    let hub = hub();
    hub.put_device("gone", &json!({}), Precondition::None).unwrap();
    let old = hub.connect(&device("old")).unwrap();
    let gone = hub.connect(&device("gone")).unwrap();
    old.subscribe_desired();
    let items = json!([
        { "id": "old", "importMode": "updateTwin", "properties": { "desired": { "a": 1 } } },
        { "id": "gone", "importMode": "delete" },
    ]);
    assert_eq!(codes(&hub, items), Vec::<u32>::new());
    let body = br#"{"a":1,"$version":2}"#.as_slice().into();
    assert_eq!(old.try_recv(), Some(Push::Desired { version: 2, body }));
    assert!(matches!(gone.try_recv(), Some(Push::Gone(error)) if error.code == 404_001));
}
