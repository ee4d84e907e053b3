//! The query language against the rules of twins.md 5; what is expected was worked out by hand.

#![allow(clippy::unwrap_used)]

mod hostile;
mod paging;
mod results;
mod where_clause;

use iothub_common::Identity;
use serde_json::{Value, json};

use super::*;
use crate::hub::{HubConfig, Precondition};

/// Four devices and four modules:
///
/// | | tags | desired | reported | else |
/// |---|---|---|---|---|
/// | d1 | color red, size 5, loc {city Oslo}, group g1 | temp 20, on true, list [1,2] | temp 19.5, fw 1.0 | modules m1, m2 |
/// | d2 | color blue, size 7 | temp 25 | fw 1.2 | disabled "broken" |
/// | d3 | | | | edge, system modules |
/// | d4 | color red, size "big" | | | |
async fn hub() -> Hub {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    for (id, body) in [
        ("d1", json!({})),
        ("d2", json!({ "status": "disabled", "statusReason": "broken" })),
        ("d3", json!({ "capabilities": { "iotEdge": true } })),
        ("d4", json!({})),
    ] {
        hub.put_device(id, &body, Precondition::None).unwrap();
    }
    for id in ["m1", "m2"] {
        hub.put_module("d1", id, &json!({}), Precondition::None).unwrap();
    }
    for (identity, twin) in [
        (
            Identity::device("d1"),
            json!({ "tags": { "color": "red", "size": 5, "loc": { "city": "Oslo" }, "group": "g1" },
                "properties": { "desired": { "temp": 20, "on": true, "list": [1, 2] } } }),
        ),
        (
            Identity::device("d2"),
            json!({ "tags": { "color": "blue", "size": 7 }, "properties": { "desired": { "temp": 25 } } }),
        ),
        (Identity::device("d4"), json!({ "tags": { "color": "red", "size": "big" } })),
        (Identity::module("d1", "m2"), json!({ "tags": { "kind": "x" } })),
    ] {
        hub.patch_twin(&identity.unwrap(), &twin, Precondition::None).unwrap();
    }
    hub.report(&Identity::device("d1").unwrap(), &json!({ "temp": 19.5, "fw": "1.0" })).unwrap();
    // A disabled device cannot report.
    hub.put_device("d2", &json!({}), Precondition::IfMatch(None)).unwrap();
    hub.report(&Identity::device("d2").unwrap(), &json!({ "fw": "1.2" })).unwrap();
    let disabled = json!({ "status": "disabled", "statusReason": "broken" });
    hub.put_device("d2", &disabled, Precondition::IfMatch(None)).unwrap();
    hub
}

async fn page(hub: &Hub, text: &str) -> Result<Page, HubError> {
    hub.query(text, &PageRequest::default()).await
}

/// The result as JSON text.
async fn rows(hub: &Hub, text: &str) -> String {
    Value::Array(page(hub, text).await.unwrap().items).to_string()
}

async fn error(hub: &Hub, text: &str) -> String {
    let error = page(hub, text).await.expect_err(text);
    assert_eq!(error.code, 400_004, "{text}");
    error.text
}
