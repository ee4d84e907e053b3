//! The whole twin as services see it: the twin proper and what its identity adds (twins.md 1.1).

use iothub_common::Identity;
use serde_json::{Map, Value};

use super::Twin;
use crate::hub::registry::{Device, Module, Record};
use crate::hub::timestamp::Timestamp;

/// Twins show the time of a status change under another name than identities (rest.md 5.1).
const STATUS_UPDATE_TIME: &str = "statusUpdateTime";

/// The document of a device's twin, or of a module's when `module` is given, in the hub's own order.
pub(in crate::hub) fn root_document(identity: &Identity, device: &Device, module: Option<&Module>) -> Value {
    let (record, twin) = match module {
        None => (&device.record, &device.twin),
        Some(module) => (&module.record, &module.twin),
    };
    let mut root = Root(Map::new());
    root.put("deviceId", identity.device_id());
    if let Some(module_id) = identity.module_id() {
        root.put("moduleId", module_id);
    }
    root.put("etag", twin.etag());
    root.put("deviceEtag", record.etag());
    root.put_status(device, module.is_some());
    root.put_presence(record);
    root.put("authenticationType", record.authentication.kind());
    root.put("x509Thumbprint", record.authentication.thumbprints_json());
    if module.is_none() {
        root.put("modelId", "");
    }
    root.put("version", twin.version());
    root.put_content(twin);
    if module.is_none() {
        root.put_edge(device);
    }
    Value::Object(root.0)
}

struct Root(Map<String, Value>);

impl Root {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Modules have no status of their own, their twins say `enabled` (twins.md 1.1, 4).
    fn put_status(&mut self, device: &Device, is_module: bool) {
        let status = &device.status;
        if is_module {
            self.put("status", "enabled");
            self.put(STATUS_UPDATE_TIME, Timestamp::NEVER.for_twin());
            return;
        }
        self.put("status", status.text());
        if let Some(reason) = &status.reason {
            self.put("statusReason", reason.as_str());
        }
        self.put(STATUS_UPDATE_TIME, status.updated.for_twin());
    }

    fn put_presence(&mut self, record: &Record) {
        self.put("connectionState", record.presence.state());
        self.put("lastActivityTime", record.presence.last_activity.for_twin());
        self.put("cloudToDeviceMessageCount", 0);
    }

    /// No tags when there are none.
    fn put_content(&mut self, twin: &Twin) {
        if !twin.tags.is_empty() {
            self.put("tags", twin.tags.values());
        }
        self.put("properties", twin.properties());
    }

    fn put_edge(&mut self, device: &Device) {
        self.put("capabilities", serde_json::json!({ "iotEdge": device.iot_edge }));
        if let Some(scope) = &device.device_scope {
            self.put("deviceScope", scope.as_str());
        }
        if !device.parent_scopes.is_empty() {
            self.put("parentScopes", device.parent_scopes.clone());
        }
    }
}
