//! What wrong input to the service half gets: a clear error each, and nothing half-written.
#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error as _;

use futures_util::{StreamExt, TryStreamExt};
use iothub::service::{NewAuthentication, RawJson, TwinContent};
use iothub::{Device, ErrorKind, NewDevice, Registry, TwinPatch};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use serde_json::{Value, json};
use support::within;

async fn hub() -> (LocalHub, Registry) {
    let hub = LocalHub::start().await.unwrap();
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    (hub, registry)
}

/// The error's own text and those of its causes.
fn whole(error: &iothub::Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// The base64 of so many bytes, all 7.
fn key(bytes: usize) -> String {
    "BwcH".repeat(bytes / 3) + ["", "Bw==", "Bwc="][bytes % 3]
}

#[tokio::test]
async fn a_query_with_a_mistake_gets_the_hubs_text_and_the_position() {
    let (_hub, registry) = hub().await;
    for (query, says) in [
        ("SELECT * FROM devices WHERE tags.a = ", "Line 1:"),
        ("SELECT *\nFROM devices WHERE tags.a = 'x", "Line 2:"),
        ("SELEKT", "Line 1:"),
        ("SELECT * FROM planets", "planets"),
    ] {
        let items: Vec<_> = within(registry.query(query).collect()).await;
        assert_eq!(items.len(), 1, "{query}");
        let error = items[0].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.hub_code()), (ErrorKind::InvalidInput, Some("ArgumentInvalid")));
        assert!(whole(error).contains(says), "{query}: {}", whole(error));
    }
}

#[tokio::test]
async fn illegal_ids_name_the_character_and_are_not_sent() {
    let (hub, registry) = hub().await;
    for (id, says) in
        [("a b", "' '"), ("a/b", "'/'"), ("ü", "'ü'"), ("", "empty"), (&*"x".repeat(129), "129")]
    {
        let error = within(registry.create_device(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("device id") && error.to_string().contains(says), "{error}");
        let error = within(registry.add_module("d", id)).await.unwrap_err();
        assert!(error.to_string().contains("module id") && error.to_string().contains(says), "{error}");
    }
    assert!(hub.hub().list_devices(1000).is_empty());
}

#[tokio::test]
async fn keys_have_16_to_64_bytes() {
    let (hub, registry) = hub().await;
    for (bytes, good) in [(15, false), (16, true), (64, true), (65, false)] {
        let device = NewDevice::new(format!("d{bytes}")).keys(key(bytes), key(bytes));
        let result = within(registry.create_device(device)).await;
        assert_eq!(result.is_ok(), good, "{bytes}: {result:?}");
        if let Err(error) = result {
            assert_eq!((error.kind(), error.hub_code()), (ErrorKind::InvalidInput, Some("ArgumentInvalid")));
            assert!(whole(&error).to_lowercase().contains("key"), "{}", whole(&error));
            assert!(!whole(&error).contains(&key(bytes)));
        }
    }
    assert_eq!(hub.hub().list_devices(1000).len(), 2);
}

#[tokio::test]
async fn both_keys_or_neither() {
    let (hub, registry) = hub().await;
    for (primary, secondary) in [(key(32), String::new()), (String::new(), key(32))] {
        let keys = NewAuthentication::Keys { primary: primary.into(), secondary: secondary.into() };
        let error =
            within(registry.create_device(NewDevice::new("d").authentication(keys))).await.unwrap_err();
        assert_eq!((error.kind(), error.hub_code()), (ErrorKind::InvalidInput, Some("ArgumentInvalid")));
        assert!(whole(&error).to_lowercase().contains("key"), "{}", whole(&error));
    }
    assert!(hub.hub().list_devices(1000).is_empty());

    // The same for an update: the keys that are there stay.
    let device = within(registry.create_device("d")).await.unwrap();
    let mut half = device.clone();
    half.authentication.symmetric_key.secondary_key = None;
    let error = within(registry.update_device(&half)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut none = half;
    none.authentication.symmetric_key.primary_key = None;
    let error = within(registry.update_device(&none)).await.unwrap_err();
    assert!(error.to_string().contains("both keys"), "{error}");
    let read = within(registry.get_device("d")).await.unwrap();
    assert_eq!(
        read.authentication.symmetric_key.secondary_key,
        device.authentication.symmetric_key.secondary_key
    );
    assert_eq!(read.etag, device.etag);
}

#[tokio::test]
async fn the_fifty_first_module_is_one_too_many() {
    let (hub, registry) = hub().await;
    within(registry.create_device("d")).await.unwrap();
    for n in 0..50 {
        within(registry.add_module("d", format!("m{n}"))).await.unwrap();
    }
    let error = within(registry.add_module("d", "m50")).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::QuotaExceeded, Some("TooManyModulesOnDevice")));
    assert!(error.to_string().contains("`d`"), "{error}");
    assert_eq!(hub.hub().list_modules("d").unwrap().len(), 50);
}

#[tokio::test]
async fn tags_end_at_8_kibibytes() {
    let (_hub, registry) = hub().await;
    within(registry.create_device("d")).await.unwrap();
    // Two keys of one character, values of up to 4096: 8192 in all, then one more (twins.md 1.3).
    let tags = |second: usize| json!({ "a": "x".repeat(4095), "b": "y".repeat(second) });
    let fits = TwinPatch::new().tags(&tags(4095));
    let before = within(registry.update_device_twin("d", &fits)).await.unwrap();
    let too_big = TwinPatch::new().tags(&tags(4096)).desired(&json!({ "also": 1 }));
    let error = within(registry.update_device_twin("d", &too_big)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!((error.status(), error.hub_code()), (Some(403), Some("DeviceModelMaxPropertiesExceeded")));
    assert!(whole(&error).contains("8192"), "{}", whole(&error));
    // The desired properties beside it were not written either.
    let after = within(registry.get_device_twin("d")).await.unwrap();
    assert_eq!((after.etag, after.version), (before.etag, before.version));
    assert_eq!(after.properties.desired.get::<u8>("also").unwrap(), None);
}

#[tokio::test]
async fn a_twin_with_one_bad_key_is_not_written_at_all() {
    let (_hub, registry) = hub().await;
    let before = {
        within(registry.create_device("d")).await.unwrap();
        within(registry.get_device_twin("d")).await.unwrap()
    };
    let bad = json!({ "good": 1, "list": [{ "inner": null }] });
    let errors = [
        within(registry.update_device_twin("d", &TwinPatch::new().desired(&bad))).await.unwrap_err(),
        within(registry.replace_device_twin("d", &TwinContent::new().desired(&bad))).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("desired.list[0].inner"), "{error}");
    }
    assert_eq!(within(registry.get_device_twin("d")).await.unwrap().version, before.version);
}

#[tokio::test]
async fn unknown_fields_and_odd_keys_are_kept() {
    let (hub, registry) = hub().await;
    hub.hub().put_device("d", &json!({ "deviceId": "d" }), Precondition::None).unwrap();
    let tags = r#"{"":1,"ü😀":"\u00e9","n":4503599627370495,"date":"2023-01-31T10:37:08.4599400","z":{"b":1.50,"a":[]}}"#;
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str(tags).unwrap();
    within(registry.update_device_twin("d", &TwinPatch::new().tags(&raw))).await.unwrap();

    let wanted: Value = serde_json::from_str(tags).unwrap();
    let twin = within(registry.get_device_twin("d")).await.unwrap();
    assert_eq!(twin.tags::<Value>().unwrap(), wanted);
    // Text for text where the hub has no say: order, dates and numbers stay.
    for part in [r#""n":4503599627370495"#, r#""date":"2023-01-31T10:37:08.4599400""#] {
        assert!(twin.tags.as_str().contains(part), "{}", twin.tags);
    }
    let order: Vec<_> =
        ["n", "date", "z"].iter().map(|key| twin.tags.as_str().find(&format!("\"{key}\""))).collect();
    assert!(order.is_sorted(), "{}", twin.tags);

    // The same through a query, raw and typed.
    let items: Vec<RawJson> = within(registry.query("SELECT * FROM devices").try_collect()).await.unwrap();
    assert_eq!(items[0].to::<Value>().unwrap()["tags"], wanted);
    let keys: Vec<&str> = ["deviceId", "etag", "version"].to_vec();
    assert!(keys.iter().all(|key| items[0].as_str().contains(&format!("\"{key}\""))));

    // A field of a newer hub comes through a read and an update.
    let mut answer = hub.hub().get_device("d").unwrap();
    answer["fromTheFuture"] = json!({ "b": [1], "a": null });
    let device: Device = serde_json::from_value(answer.clone()).unwrap();
    assert_eq!(serde_json::to_value(&device).unwrap()["fromTheFuture"], answer["fromTheFuture"]);
    within(registry.update_device(&device)).await.unwrap();
}
