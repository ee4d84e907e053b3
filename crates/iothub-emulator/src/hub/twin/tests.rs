//! What the table in `vectors.md` has no rows for: limits, clearing, bodies nobody should send.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    (UNIX_EPOCH + Duration::from_secs(1_700_000_000)).into()
}

fn fresh() -> Twin {
    Twin::fresh(now())
}

fn patch_desired(twin: &mut Twin, desired: Value) -> Result<Option<Notification>, HubError> {
    twin.patch(&json!({ "properties": { "desired": desired } }), now())
}

fn report_code(reported: &Value) -> u32 {
    fresh().report(reported, now()).map_or_else(|error| error.code, |_| 200)
}

/// `{"a":{"a":…{"a":1}}}` with this many objects inside the section.
fn nested(objects: usize) -> Value {
    (0..=objects).fold(json!(1), |inner, _| json!({ "a": inner }))
}

/// Row 39 of the reference's vectors.
#[test]
fn ten_objects_deep_is_the_limit() {
    assert_eq!(report_code(&nested(10)), 200);
    assert_eq!(report_code(&nested(11)), 400_004);
    assert!(patch_desired(&mut fresh(), nested(10)).is_ok());
    assert_eq!(patch_desired(&mut fresh(), nested(11)).unwrap_err().code, 400_004);
}

/// Rows 40 and 41.
#[test]
fn keys_values_and_integers_have_limits() {
    let key = |length: usize| json!({ "k".repeat(length): 1 });
    let text = |length: usize| json!({ "k": "v".repeat(length) });
    for (body, code) in [
        (key(1024), 200),
        (key(1025), 400_004),
        (text(4096), 200),
        (text(4097), 400_004),
        (json!({ "i": -4_503_599_627_370_496_i64 }), 200),
        (json!({ "i": -4_503_599_627_370_497_i64 }), 400_004),
        (json!({ "i": 4_503_599_627_370_495_i64 }), 200),
        (json!({ "i": 4_503_599_627_370_496_i64 }), 400_004),
        (json!({ "d": 1e300 }), 200),
        (json!({ "": "empty key" }), 200),
        (json!({ "$version": 3 }), 400_004),
        (json!([1]), 400_004),
        (json!(null), 400_004),
        (json!("text"), 400_004),
    ] {
        assert_eq!(report_code(&body), code, "{}", &body.to_string()[..body.to_string().len().min(80)]);
    }
}

/// Row 42: the size is that of the section after the update.
#[test]
fn a_section_may_grow_to_its_limit() {
    let mut twin = fresh();
    // Eight members of 1 + 4095 bytes are 32768.
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        twin.report(&json!({ name: "v".repeat(4095) }), now()).unwrap();
    }
    let full = twin.clone();
    let error = twin.report(&json!({ "a": "v".repeat(4096) }), now()).unwrap_err();
    assert_eq!((error.status, error.code), (403, 403_100));
    assert_eq!(error.text, "'Properties.Reported' size should be less than 32768 bytes.");
    assert_eq!(twin, full, "a refused report changed the twin");
    assert!(twin.report(&json!({ "a": "v".repeat(4095) }), now()).is_ok());
    assert!(twin.report(&json!({ "a": null }), now()).is_ok());
}

#[test]
fn tags_have_a_quarter_of_that() {
    let mut twin = fresh();
    let tags = |second: usize| json!({ "tags": { "a": "v".repeat(4095), "b": "v".repeat(second) } });
    assert!(twin.patch(&tags(4095), now()).is_ok());
    let error = twin.patch(&tags(4096), now()).unwrap_err();
    assert_eq!(error.text, "'Tags' size should be less than 8192 bytes.");
    assert_eq!(twin.replace(&tags(4096), now()).unwrap_err().code, 403_100);
}

/// Half of an update is none: row 27 for two sections.
#[test]
fn one_bad_section_refuses_both() {
    let mut twin = fresh();
    let body = json!({ "tags": { "g": 1 }, "properties": { "desired": { "a b": 1 } } });
    assert_eq!(twin.patch(&body, now()).unwrap_err().code, 400_004);
    assert_eq!(twin.replace(&body, now()).unwrap_err().code, 400_004);
    assert_eq!(twin, fresh());
}

#[test]
fn what_counts_nothing_still_has_an_end() {
    let empty_arrays = vec![json!([]); 200_000];
    assert_eq!(report_code(&json!({ "a": empty_arrays })), 403_100);
    assert_eq!(report_code(&json!({ "a": vec![json!([]); 1000] })), 200);
}

/// Row 46.
#[test]
fn reports_leave_the_etag() {
    let mut twin = fresh();
    let etag = twin.etag();
    assert_eq!(etag, "AAAAAAAAAAE=");
    assert_eq!(twin.report(&json!({ "a": 1 }), now()).unwrap(), 2);
    assert_eq!(twin.report(&json!({ "a": 2 }), now()).unwrap(), 3);
    assert_eq!(twin.etag(), etag);
    assert_eq!(twin.version(), 4);
    patch_desired(&mut twin, json!({ "b": 1 })).unwrap();
    assert_eq!(twin.etag(), "AAAAAAAAAAI=");
    assert_eq!(twin.version(), 5);
}

/// Row 47.
#[test]
fn a_module_has_no_times_until_it_is_written() {
    let mut twin = Twin::fresh(Timestamp::NEVER);
    patch_desired(&mut twin, json!({ "a": 1 })).unwrap();
    let properties = twin.properties();
    assert_eq!(properties["reported"]["$metadata"], json!({ "$lastUpdated": "0001-01-01T00:00:00Z" }));
    assert_eq!(properties["desired"]["$metadata"]["$lastUpdated"], "2023-11-14T22:13:20Z");
}

#[test]
fn null_clears_a_section() {
    let mut twin = fresh();
    twin.patch(
        &json!({ "tags": { "g": 1 }, "properties": { "desired": { "a": 1, "b": { "c": 2 } } } }),
        now(),
    )
    .unwrap();
    let told = patch_desired(&mut twin, Value::Null).unwrap().unwrap();
    assert_eq!(told.body, r#"{"a":null,"b":null,"$version":3}"#);
    assert_eq!(twin.device_document()["desired"], json!({ "$version": 3 }));
    assert_eq!(patch_desired(&mut twin, Value::Null).unwrap(), None, "there is nothing left to clear");
    assert_eq!(twin.patch(&json!({ "tags": null }), now()).unwrap(), None);
    assert!(twin.tags.is_empty());
    assert_eq!(twin.etag(), "AAAAAAAAAAQ=");
}

#[test]
fn a_replacement_stores_no_nulls() {
    let mut twin = fresh();
    patch_desired(&mut twin, json!({ "o": { "x": 1, "y": 2 }, "gone": 1 })).unwrap();
    let body = json!({ "properties": { "desired": { "o": { "x": null, "z": 3 }, "n": null } } });
    let told = twin.replace(&body, now()).unwrap();
    assert_eq!(twin.device_document()["desired"], json!({ "o": { "z": 3 }, "$version": 3 }));
    assert_eq!(told.body, r#"{"o":{"z":3,"x":null,"y":null},"gone":null,"$version":3}"#);
}

#[test]
fn the_order_of_keys_is_kept() {
    let mut twin = fresh();
    patch_desired(&mut twin, json!({ "c": 1, "a": 2, "d": 3, "b": 4 })).unwrap();
    patch_desired(&mut twin, json!({ "e": 5, "c": null, "d": { "x": 1 } })).unwrap();
    let desired = twin.device_document()["desired"].to_string();
    assert_eq!(desired, r#"{"a":2,"d":{"x":1},"b":4,"e":5,"$version":3}"#);
}

#[test]
fn a_whole_fetched_twin_can_be_sent_back() {
    let mut twin = fresh();
    let body = json!({
        "deviceId": "d", "etag": null, "version": null, "status": "disabled", "connectionState": "Connected",
        "capabilities": { "iotEdge": true }, "tags": {},
        "properties": { "desired": { "$metadata": {}, "$version": 1 }, "reported": { "not": "ours" } },
    });
    assert_eq!(twin.patch(&body, now()).unwrap(), None);
    assert_eq!(twin, fresh());
}

#[test]
fn bodies_nobody_should_send() {
    for (body, code, says) in [
        (json!({ "desiredProperties": {} }), 400_000, "desiredProperties"),
        (json!({ "properties": { "wished": {} } }), 400_000, "properties.wished"),
        (json!({ "properties": 1 }), 400_004, "properties"),
        (json!({ "properties": { "desired": [] } }), 400_004, "properties.desired"),
        (json!({ "tags": "text" }), 400_004, "tags"),
        (json!({ "tags": { "$x": 1 } }), 400_004, "$x"),
        (json!([]), 400_004, "object"),
        (json!({ "properties": { "desired": { "a": { "$metadata": 1 } } } }), 400_004, "$metadata"),
    ] {
        let mut twin = fresh();
        let error = twin.patch(&body, now()).unwrap_err();
        assert_eq!(error.code, code, "{body}");
        assert!(error.text.contains(says), "{error}");
        assert_eq!(twin, fresh(), "{body}");
    }
}

#[test]
fn values_come_back_as_they_were_sent() {
    let text = r#"{"z":66,"a":28.02,"f":1.0,"date":"2023-01-31T10:37:08.4599400","l":[{"y":1,"b":[]}],"ü":"ß\u0001"}"#;
    let mut twin = fresh();
    twin.report(&serde_json::from_str(text).unwrap(), now()).unwrap();
    let whole = twin.device_document().to_string();
    let expected =
        format!(r#"{{"desired":{{"$version":1}},"reported":{},"$version":2}}}}"#, &text[..text.len() - 1]);
    assert_eq!(whole, expected);
}

#[test]
fn a_twin_survives_being_stored() {
    let mut twin = fresh();
    twin.patch(
        &json!({ "tags": { "g": [1] }, "properties": { "desired": { "b": 1, "a": { "c": 2.5 } } } }),
        now(),
    )
    .unwrap();
    twin.report(&json!({ "z": null, "y": "x" }), now()).unwrap();
    let stored = serde_json::to_string(&twin).unwrap();
    let loaded: Twin = serde_json::from_str(&stored).unwrap();
    assert_eq!(loaded, twin);
    assert_eq!(loaded.properties().to_string(), twin.properties().to_string());
}
