//! Counts, and whether the hub is there at all.

use serde_json::json;

use super::answer::{Answer, Outcome};
use super::call::Call;

pub(super) async fn health(_call: Call) -> Outcome {
    Ok(Answer::json(&json!({ "status": "ok" })))
}

/// Rest.md 3.1.
pub(super) async fn devices(call: Call) -> Outcome {
    let counts = call.hub.statistics();
    Ok(Answer::json(&json!({
        "totalDeviceCount": counts.devices,
        "enabledDeviceCount": counts.enabled,
        "disabledDeviceCount": counts.devices - counts.enabled,
    })))
}

/// Rest.md 3.1.
pub(super) async fn service(call: Call) -> Outcome {
    Ok(Answer::json(&json!({ "connectedDeviceCount": call.hub.statistics().connected })))
}
