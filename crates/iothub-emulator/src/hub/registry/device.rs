//! A device identity: what a PUT says about it, and how the hub shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::authentication::Authentication;
use super::module::Module;
use super::record::{self, Record, invalid};
use crate::hub::error::HubError;
use crate::hub::timestamp::Timestamp;
use crate::hub::twin::Twin;

const MAX_STATUS_REASON: usize = 128;
/// No limit is known; this one is ample (inferred).
const MAX_SCOPE: usize = 512;

/// A device with all that goes away with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::hub) struct Device {
    pub(in crate::hub) record: Record,
    pub(in crate::hub) status: Status,
    pub(in crate::hub) iot_edge: bool,
    /// An edge device's own scope, or its parent's on a leaf (rest.md 3.2).
    pub(in crate::hub) device_scope: Option<String>,
    /// At most one.
    pub(in crate::hub) parent_scopes: Vec<String>,
    /// The Plug and Play model that it named when it connected last; empty without one.
    #[serde(default)]
    pub(in crate::hub) model_id: String,
    pub(in crate::hub) twin: Twin,
    pub(in crate::hub) modules: BTreeMap<String, Module>,
}

/// Whether a device may connect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::hub) struct Status {
    pub(in crate::hub) enabled: bool,
    pub(in crate::hub) reason: Option<String>,
    /// When `enabled` last changed.
    pub(in crate::hub) updated: Timestamp,
}

/// What a PUT body says. What the hub makes itself is passed over in it, unknown members too (rest.md 3.2).
#[derive(Debug)]
pub(super) struct DeviceSpec {
    pub(super) enabled: bool,
    pub(super) status_reason: Option<String>,
    pub(super) authentication: Authentication,
    pub(super) iot_edge: Option<bool>,
    pub(super) device_scope: Option<String>,
    pub(super) parent_scope: Option<String>,
}

impl DeviceSpec {
    pub(super) fn read(id: &str, body: &Value) -> Result<Self, HubError> {
        let body = record::object(body)?;
        record::check_same_id(body, "deviceId", id)?;
        Ok(Self {
            enabled: enabled(body)?,
            status_reason: record::optional_text(body, "statusReason", MAX_STATUS_REASON)?,
            authentication: Authentication::read(body.get("authentication"))?,
            iot_edge: iot_edge(body)?,
            device_scope: record::optional_text(body, "deviceScope", MAX_SCOPE)?
                .filter(|scope| !scope.is_empty()),
            parent_scope: parent_scope(body)?,
        })
    }
}

impl Status {
    pub(super) fn new(enabled: bool, reason: Option<String>) -> Self {
        Self { enabled, reason, updated: Timestamp::NEVER }
    }

    pub(super) fn update(&mut self, enabled: bool, reason: Option<String>, now: Timestamp) {
        if self.enabled != enabled {
            self.updated = now;
        }
        self.enabled = enabled;
        self.reason = reason;
    }

    pub(in crate::hub) fn text(&self) -> &'static str {
        if self.enabled { "enabled" } else { "disabled" }
    }
}

impl Device {
    pub(super) fn new(record: Record, status: Status, now: Timestamp) -> Self {
        Self {
            record,
            status,
            iot_edge: false,
            device_scope: None,
            parent_scopes: Vec::new(),
            model_id: String::new(),
            twin: Twin::fresh(now),
            modules: BTreeMap::new(),
        }
    }

    /// The identity as the registry shows it, in the hub's own order (rest.md 3.2).
    pub(super) fn to_json(&self, id: &str) -> Value {
        let presence = &self.record.presence;
        let mut json = json!({
            "deviceId": id,
            "generationId": self.record.generation().to_string(),
            "etag": self.record.etag(),
            "connectionState": presence.state(),
            "status": self.status.text(),
            "statusReason": self.status.reason,
            "connectionStateUpdatedTime": presence.updated.for_identity(),
            "statusUpdatedTime": self.status.updated.for_identity(),
            "lastActivityTime": presence.last_activity.for_identity(),
            "cloudToDeviceMessageCount": 0,
            "authentication": self.record.authentication.to_json(),
            "capabilities": { "iotEdge": self.iot_edge },
        });
        if let Some(scope) = &self.device_scope {
            json["deviceScope"] = scope.as_str().into();
        }
        if !self.parent_scopes.is_empty() {
            json["parentScopes"] = self.parent_scopes.clone().into();
        }
        json
    }
}

/// Absent is enabled (rest.md 3.2): a PUT says all there is to say, an update too.
fn enabled(body: &Map<String, Value>) -> Result<bool, HubError> {
    match body.get("status") {
        None | Some(Value::Null) => Ok(true),
        Some(Value::String(status)) if status.eq_ignore_ascii_case("enabled") => Ok(true),
        Some(Value::String(status)) if status.eq_ignore_ascii_case("disabled") => Ok(false),
        Some(_) => Err(invalid("status must be 'enabled' or 'disabled'")),
    }
}

fn iot_edge(body: &Map<String, Value>) -> Result<Option<bool>, HubError> {
    match body.get("capabilities") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(capabilities)) => match capabilities.get("iotEdge") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(iot_edge)) => Ok(Some(*iot_edge)),
            Some(_) => Err(invalid("capabilities.iotEdge must be true or false")),
        },
        Some(_) => Err(invalid("capabilities must be an object")),
    }
}

fn parent_scope(body: &Map<String, Value>) -> Result<Option<String>, HubError> {
    match body.get("parentScopes") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(scopes)) => match scopes.as_slice() {
            [] => Ok(None),
            [Value::String(scope)] if scope.len() <= MAX_SCOPE => {
                Ok(Some(scope.clone()).filter(|scope| !scope.is_empty()))
            }
            _ => Err(invalid("parentScopes holds at most one scope, a string")),
        },
        Some(_) => Err(invalid("parentScopes must be an array of strings")),
    }
}
