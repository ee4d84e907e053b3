//! Digital twins through the hub's handle (rest.md 10).

#![allow(clippy::unwrap_used)]

use super::*;
use crate::hub::{HubConfig, Push};

const MODEL: &str = "dtmi:example:Thermostat;1";

fn hub() -> (Hub, Identity) {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    (hub, Identity::device("d").unwrap())
}

fn patch(hub: &Hub, device: &Identity, steps: Value) -> Result<String, HubError> {
    hub.patch_digital_twin(device, &steps, Precondition::IfMatch(None))
}

/// The desired properties without what the hub adds.
fn desired(hub: &Hub, device: &Identity) -> Value {
    let mut desired = hub.get_twin(device).unwrap()["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|name, _| !name.starts_with('$'));
    desired
}

#[test]
fn a_document_has_values_and_their_metadata() {
    let (hub, device) = hub();
    hub.connect(&device).unwrap().set_model_id(MODEL);
    let reported = json!({
        "serial": "x1",
        "target": { "value": 20, "ac": 200, "av": 2, "ad": "done" },
        "thermostat": { "__t": "c", "temperature": 19.5 },
        "plain": { "value": 1 },
    });
    hub.report(&device, &reported).unwrap();
    patch(
        &hub,
        &device,
        json!([
            { "op": "add", "path": "/target", "value": 21 },
            { "op": "add", "path": "/thermostat/limit", "value": 30 },
            { "op": "add", "path": "/new", "value": { "a": 1 } },
        ]),
    )
    .unwrap();
    let DigitalTwin { document, etag } = hub.get_digital_twin(&device).unwrap();
    let twin = hub.get_twin(&device).unwrap();
    assert_eq!((etag, &twin["modelId"]), ("AAAAAAAAAAI=".to_owned(), &json!(MODEL)));
    let reported_at = twin["properties"]["reported"]["$metadata"]["$lastUpdated"].clone();
    let desired_at = twin["properties"]["desired"]["$metadata"]["$lastUpdated"].clone();
    assert_eq!(
        document,
        json!({
            "$dtId": "d",
            "serial": "x1",
            "target": 20,
            "thermostat": { "temperature": 19.5, "$metadata": {
                "temperature": { "lastUpdateTime": reported_at },
                "limit": { "desiredValue": 30, "desiredVersion": 2, "lastUpdateTime": desired_at },
            } },
            "plain": { "value": 1 },
            "$metadata": {
                "$model": MODEL,
                "serial": { "lastUpdateTime": reported_at },
                "target": { "desiredValue": 21, "desiredVersion": 2, "ackVersion": 2, "ackCode": 200,
                    "ackDescription": "done", "lastUpdateTime": reported_at },
                "plain": { "lastUpdateTime": reported_at },
                "new": { "desiredValue": { "a": 1 }, "desiredVersion": 2, "lastUpdateTime": desired_at },
            },
        })
    );
}

#[test]
fn a_fresh_one_is_nearly_empty() {
    let (hub, device) = hub();
    let document = hub.get_digital_twin(&device).unwrap().document;
    assert_eq!(document, json!({ "$dtId": "d", "$metadata": { "$model": "" } }));
    assert_eq!(hub.get_digital_twin(&Identity::device("x").unwrap()).unwrap_err().code, 404_001);
}

#[test]
fn steps_change_desired_properties() {
    let (hub, device) = hub();
    for (steps, expected) in [
        (json!([{ "op": "add", "path": "/a", "value": 1 }]), json!({ "a": 1 })),
        (
            json!([{ "op": "replace", "path": "/a", "value": { "x": 1, "y": { "z": 2 } } }]),
            json!({ "a": { "x": 1, "y": { "z": 2 } } }),
        ),
        // A value replaces another as a whole.
        (
            json!([{ "op": "replace", "path": "/a", "value": { "y": { "w": 3 } } }]),
            json!({ "a": { "y": { "w": 3 } } }),
        ),
        (
            json!([{ "op": "add", "path": "/c/p", "value": 1 }]),
            json!({ "a": { "y": { "w": 3 } }, "c": { "__t": "c", "p": 1 } }),
        ),
        (
            json!([{ "op": "remove", "path": "/a" }, { "op": "add", "path": "/c/q", "value": [2] }, { "op": "remove", "path": "/c/p" }]),
            json!({ "c": { "__t": "c", "q": [2] } }),
        ),
        (
            json!([{ "op": "add", "path": "/c", "value": { "r": 3, "$metadata": {} } }]),
            json!({ "c": { "r": 3, "__t": "c" } }),
        ),
        (
            json!([{ "op": "remove", "path": "/nothing" }, { "op": "remove", "path": "/no/thing" }]),
            json!({ "c": { "r": 3, "__t": "c" } }),
        ),
        (
            json!([{ "op": "remove", "path": "/c" }, { "op": "add", "path": "/c", "value": "text" }]),
            json!({ "c": "text" }),
        ),
        (
            json!([{ "op": "add", "path": "/x~1y~0z", "value": 1 }, { "op": "remove", "path": "/c" }]),
            json!({ "x/y~z": 1 }),
        ),
        (json!([]), json!({ "x/y~z": 1 })),
    ] {
        patch(&hub, &device, steps.clone()).unwrap();
        assert_eq!(desired(&hub, &device), expected, "{steps}");
    }
}

#[test]
fn bad_patches_change_nothing() {
    let (hub, device) = hub();
    let step = |step: Value| json!([{ "op": "add", "path": "/good", "value": 1 }, step]);
    for body in [
        json!({}),
        json!(null),
        step(json!("add")),
        step(json!({ "op": "add", "value": 1 })),
        step(json!({ "op": "add", "path": "a", "value": 1 })),
        step(json!({ "op": "add", "path": "", "value": 1 })),
        step(json!({ "op": "add", "path": "/", "value": 1 })),
        step(json!({ "op": "add", "path": "/a/b/c", "value": 1 })),
        step(json!({ "op": "add", "path": "/$metadata", "value": 1 })),
        step(json!({ "op": "add", "path": "/bad key", "value": 1 })),
        step(json!({ "op": "add", "path": "/a" })),
        step(json!({ "op": "add", "path": "/a", "value": null })),
        step(json!({ "op": "add", "path": "/a/b", "value": { "$metadata": {} } })),
        step(json!({ "op": "move", "path": "/a", "from": "/b" })),
        step(json!({ "path": "/a", "value": 1 })),
    ] {
        assert_eq!(patch(&hub, &device, body.clone()).unwrap_err().code, 400_004, "{body}");
        assert_eq!(desired(&hub, &device), json!({}), "{body}");
    }
    let other = Precondition::IfMatch(Some("AAAAAAAAAAk=".to_owned()));
    assert_eq!(hub.patch_digital_twin(&device, &step(json!({})), other).unwrap_err().code, 412_001);
}

#[test]
fn a_connected_device_is_told() {
    let (hub, device) = hub();
    let connected = hub.connect(&device).unwrap();
    connected.subscribe_desired();
    patch(&hub, &device, json!([{ "op": "add", "path": "/c/p", "value": 1 }])).unwrap();
    let body = br#"{"c":{"__t":"c","p":1},"$version":2}"#.as_slice().into();
    assert_eq!(connected.try_recv(), Some(Push::Desired { version: 2, body }));
}
