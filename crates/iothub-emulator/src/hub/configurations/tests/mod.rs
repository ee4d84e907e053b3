//! Configurations through the hub's handle (twins.md 6.1).

#![allow(clippy::unwrap_used)]

mod bodies;
mod targets;

use iothub_common::Identity;

use super::*;
use crate::hub::HubConfig;

/// Devices `a`, `b` and `c` with the tags red, red and blue; module `m` of `a` with the tag `kind` x.
fn hub() -> Hub {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    for (id, color) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        hub.put_device(id, &json!({}), Precondition::None).unwrap();
        tag(&hub, id, color);
    }
    hub.put_module("a", "m", &json!({}), Precondition::None).unwrap();
    let patch = json!({ "tags": { "kind": "x" } });
    hub.patch_twin(&Identity::module("a", "m").unwrap(), &patch, Precondition::None).unwrap();
    hub
}

fn tag(hub: &Hub, id: &str, color: &str) {
    let patch = json!({ "tags": { "color": color } });
    hub.patch_twin(&Identity::device(id).unwrap(), &patch, Precondition::None).unwrap();
}

fn put(hub: &Hub, id: &str, priority: u64, condition: &str, content: Value) -> Value {
    let body = json!({ "id": id, "priority": priority, "targetCondition": condition, "content": { "deviceContent": content } });
    hub.put_configuration(id, &body, Precondition::None).unwrap()
}

/// The desired properties without what the hub adds.
fn desired(hub: &Hub, id: &str) -> Value {
    let twin = hub.get_twin(&Identity::device(id).unwrap()).unwrap();
    let mut desired = twin["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|name, _| !name.starts_with('$'));
    desired
}

/// Like `high Applied, low Targeted`.
fn statuses(hub: &Hub, id: &str) -> String {
    let twin = hub.get_twin(&Identity::device(id).unwrap()).unwrap();
    let Some(configurations) = twin.get("configurations") else { return String::new() };
    let text = |(id, status): (&String, &Value)| format!("{id} {}", status["status"].as_str().unwrap());
    configurations.as_object().unwrap().iter().map(text).collect::<Vec<_>>().join(", ")
}

fn run(hub: &Hub) {
    hub.advance(INTERVAL);
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> u32 {
    result.unwrap_err().code
}

const ANY: Precondition = Precondition::IfMatch(None);
