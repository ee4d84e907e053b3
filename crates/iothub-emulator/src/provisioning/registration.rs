//! What became of a registration, and how devices are told (dps.md 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::Timestamp;

/// The last registration of a device.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    /// As the device spells it.
    id: String,
    pub(super) operation: String,
    outcome: Outcome,
    /// The group with keys that it came in by.
    group: Option<String>,
    /// How often `assigning` is still to be said; the answer to the registration is the first.
    assigning: u32,
    was_polled: bool,
    created: Timestamp,
    updated: Timestamp,
    etag: String,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Assigned { device_id: String },
    Failed { code: u32, text: String },
    Disabled,
}

impl Registration {
    /// `polls`: how often a device that asks is put off; `None` tells the outcome at once.
    pub(super) fn new(
        id: &str,
        known: Option<&Self>,
        outcome: Outcome,
        group: Option<String>,
        polls: Option<u32>,
        now: Timestamp,
    ) -> Self {
        let uuid = Uuid::new_v4();
        // The shape of real ones; some clients put it into paths unescaped (dps.md 1).
        let operation = format!("5.{}.{}", &uuid.simple().to_string()[..16], Uuid::new_v4());
        Self {
            id: id.to_owned(),
            operation,
            outcome,
            group,
            assigning: polls.map_or(0, |polls| polls.saturating_add(1)),
            was_polled: false,
            created: known.map_or(now, |known| known.created),
            updated: now,
            etag: STANDARD.encode(format!("\"{uuid}\"")),
        }
    }

    pub(super) fn device_id(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Assigned { device_id } => Some(device_id),
            _ => None,
        }
    }

    pub(super) fn is_assigning(&self) -> bool {
        self.assigning > 0
    }

    /// Somebody asks for it.
    pub(super) fn polled(&mut self) {
        self.assigning = self.assigning.saturating_sub(1);
        self.was_polled = true;
    }

    /// The answer of now. Decided ones always have a `registrationState`: C# and Java need it.
    pub(super) fn to_json(&self, hub: &str) -> Value {
        if self.is_assigning() {
            let mut answer = json!({ "operationId": self.operation, "status": "assigning" });
            if self.was_polled {
                answer["registrationState"] = json!({ "registrationId": self.id, "status": "assigning" });
            }
            return answer;
        }
        let mut state = json!({
            "registrationId": self.id,
            "createdDateTimeUtc": self.created.for_twin(),
        });
        let status = match &self.outcome {
            Outcome::Assigned { device_id } => {
                state["assignedHub"] = hub.into();
                state["deviceId"] = device_id.as_str().into();
                state["status"] = "assigned".into();
                state["substatus"] = "initialAssignment".into();
                if let Some(group) = &self.group {
                    state["symmetricKey"] = json!({ "enrollmentGroupId": group });
                }
                "assigned"
            }
            Outcome::Failed { code, text } => {
                state["status"] = "failed".into();
                state["errorCode"] = (*code).into();
                state["errorMessage"] = text.as_str().into();
                "failed"
            }
            Outcome::Disabled => {
                state["status"] = "disabled".into();
                state["errorMessage"] = "The enrollment is disabled.".into();
                "disabled"
            }
        };
        state["lastUpdatedDateTimeUtc"] = self.updated.for_twin().into();
        state["etag"] = self.etag.as_str().into();
        json!({ "operationId": self.operation, "status": status, "registrationState": state })
    }
}
