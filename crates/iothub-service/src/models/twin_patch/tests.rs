#![allow(clippy::unwrap_used)]

use std::error::Error as _;

use iothub_common::{Error, ErrorKind};
use serde_json::json;
use serde_json::value::RawValue;

use super::*;

fn body(patch: TwinPatch) -> String {
    String::from_utf8(patch.body().unwrap().to_vec()).unwrap()
}

fn refusal(patch: TwinPatch) -> Error {
    let error = patch.body().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error
}

#[test]
fn only_the_sections_that_are_set_are_sent() {
    assert_eq!(body(TwinPatch::new()), "{}");
    assert_eq!(body(TwinPatch::new().tags(&json!({ "g": "x" }))), r#"{"tags":{"g":"x"}}"#);
    assert_eq!(
        body(TwinPatch::new().desired(&json!({ "a": null }))),
        r#"{"properties":{"desired":{"a":null}}}"#
    );
    assert_eq!(
        body(TwinPatch::new().desired(&json!({})).tags(&json!({ "g": 1 }))),
        r#"{"tags":{"g":1},"properties":{"desired":{}}}"#
    );
}

#[test]
fn json_goes_out_as_it_was_given() {
    let raw: Box<RawValue> =
        serde_json::from_str(r#"{"z":1.50,"a":{"date":"2023-01-31T10:37:08.4599400"}}"#).unwrap();
    assert_eq!(
        body(TwinPatch::new().desired(&raw)),
        r#"{"properties":{"desired":{"z":1.50,"a":{"date":"2023-01-31T10:37:08.4599400"}}}}"#
    );
}

#[test]
fn null_clears_a_section() {
    assert_eq!(body(TwinPatch::new().tags(&json!(null))), r#"{"tags":null}"#);
}

#[test]
fn what_the_hub_wrote_may_be_sent_back() {
    let desired = json!({ "a": 7, "$version": 2, "$metadata": { "$lastUpdated": "2019-01-14T08:54:15Z" } });
    TwinPatch::new().desired(&desired).body().unwrap();
    // Only at the top: deeper it is a key like any other.
    refusal(TwinPatch::new().desired(&json!({ "o": { "$version": 2 } })));
}

#[test]
fn broken_rules_name_the_path() {
    for (patch, path) in [
        (TwinPatch::new().desired(&json!({ "ok": 1, "o": { "a.b": 1 } })), "desired.o.a.b"),
        (TwinPatch::new().desired(&json!({ "a b": 1 })), "desired.a b"),
        (TwinPatch::new().tags(&json!({ "x": { "$y": 1 } })), "tags.x.$y"),
        (TwinPatch::new().tags(&json!({ "#": 1 })), "tags.#"),
        (TwinPatch::new().desired(&json!({ "l": [1, null] })), "desired.l"),
        (TwinPatch::new().desired(&json!({ "i": 4_503_599_627_370_496_u64 })), "desired.i"),
        (TwinPatch::new().desired(&json!({ "s": "x".repeat(4097) })), "desired.s"),
    ] {
        let error = refusal(patch).to_string();
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn a_section_is_an_object() {
    for value in [json!([1]), json!("text"), json!(1), json!(true)] {
        refusal(TwinPatch::new().desired(&value));
        refusal(TwinPatch::new().tags(&value));
    }
}

#[test]
fn what_serde_cannot_write_is_told_when_it_is_sent() {
    // JSON has no keys but texts.
    let patch = TwinPatch::new().desired(&std::collections::HashMap::from([((1, 2), 3)]));
    let error = refusal(patch);
    assert!(error.to_string().contains("desired properties"), "{error}");
    let root = std::iter::successors(error.source(), |&error| error.source()).last().unwrap();
    assert!(root.to_string().contains("key must be a string"), "{error:?}");
}

#[test]
fn a_content_always_has_both_sections() {
    let content = TwinContent::new().desired(&json!({ "a": 1 }));
    assert_eq!(content.body().unwrap(), r#"{"tags":{},"properties":{"desired":{"a":1}}}"#);
    assert_eq!(TwinContent::new().body().unwrap(), r#"{"tags":{},"properties":{"desired":{}}}"#);
}

#[test]
fn a_content_can_start_from_a_twin() {
    let twin: Twin = serde_json::from_str(
        r#"{"deviceId":"d","etag":"AAAAAAAAAAI=","version":3,"tags":{"g":"x"},
            "properties":{"desired":{"a":1,"$version":2},"reported":{"r":1,"$version":1}}}"#,
    )
    .unwrap();
    let content = TwinContent::from(&twin).tags(&json!({ "g": "y" }));
    assert_eq!(
        content.body().unwrap(),
        r#"{"tags":{"g":"y"},"properties":{"desired":{"a":1,"$version":2}}}"#
    );
}
