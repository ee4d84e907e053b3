//! A module identity: what a PUT says about it, and how the hub shows it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::authentication::Authentication;
use super::record::{self, Record};
use crate::hub::error::HubError;
use crate::hub::timestamp::Timestamp;
use crate::hub::twin::Twin;

/// No limit is known; this one is ample (inferred).
const MAX_MANAGED_BY: usize = 128;

/// A module with its twin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::hub) struct Module {
    pub(in crate::hub) record: Record,
    pub(super) managed_by: Option<String>,
    pub(in crate::hub) twin: Twin,
}

/// What a PUT body says. Unknown members are passed over.
#[derive(Debug)]
pub(super) struct ModuleSpec {
    pub(super) managed_by: Option<String>,
    pub(super) authentication: Authentication,
}

impl ModuleSpec {
    pub(super) fn read(device_id: &str, module_id: &str, body: &Value) -> Result<Self, HubError> {
        let body = record::object(body)?;
        record::check_same_id(body, "deviceId", device_id)?;
        record::check_same_id(body, "moduleId", module_id)?;
        Ok(Self {
            managed_by: record::optional_text(body, "managedBy", MAX_MANAGED_BY)?,
            authentication: Authentication::read(body.get("authentication"))?,
        })
    }
}

impl Module {
    /// A fresh module's twin shows no time until its first write (twins.md 3).
    pub(super) fn new(record: Record, managed_by: Option<String>) -> Self {
        Self { record, managed_by, twin: Twin::fresh(Timestamp::NEVER) }
    }

    /// The identity as the registry shows it, in the hub's own order (rest.md 4).
    pub(super) fn to_json(&self, device_id: &str, module_id: &str) -> Value {
        let presence = &self.record.presence;
        json!({
            "deviceId": device_id,
            "moduleId": module_id,
            "managedBy": self.managed_by,
            "generationId": self.record.generation().to_string(),
            "etag": self.record.etag(),
            "connectionState": presence.state(),
            "connectionStateUpdatedTime": presence.updated.for_identity(),
            "lastActivityTime": presence.last_activity.for_identity(),
            "cloudToDeviceMessageCount": 0,
            "authentication": self.record.authentication.to_json(),
        })
    }
}
