//! What a service's PATCH or PUT asks of a twin, read from its body.

use iothub_common::twin_rules::{Section, check_patch};
use serde_json::{Map, Value};

use crate::hub::error::{ErrorCode, HubError};

/// The parts of a body that a service may write. `None`: the body does not name that part.
#[derive(Debug, Default)]
pub(super) struct ServiceUpdate {
    pub(super) tags: Option<Part>,
    pub(super) desired: Option<Part>,
}

/// One section in a body.
#[derive(Debug)]
pub(super) enum Part {
    /// Null: clear the section (twins.md 2.3 rule 4).
    Clear,
    Members(Map<String, Value>),
}

/// Members of a whole twin that clients send back; only an identity update changes them (twins.md 1.1).
const READ_ONLY: &[&str] = &[
    "authenticationType",
    "capabilities",
    "cloudToDeviceMessageCount",
    "configurations",
    "connectionState",
    "connectionStateUpdatedTime",
    "deviceEtag",
    "deviceId",
    "deviceScope",
    "etag",
    "generationId",
    "lastActivityTime",
    "modelId",
    "moduleId",
    "parentScopes",
    "status",
    "statusReason",
    "statusUpdateTime",
    "statusUpdatedTime",
    "version",
    "x509Thumbprint",
];

impl ServiceUpdate {
    /// Reads and checks a body. `reported`, `$version` and `$metadata` of a fetched twin are passed over
    /// (twins.md 2.5), members that no twin has are refused (rest.md 5.3).
    pub(super) fn read(body: &Value) -> Result<Self, HubError> {
        let mut update = Self::default();
        for (name, value) in object(body, "the twin")? {
            match name.as_str() {
                "tags" => update.tags = Some(Part::read(Section::Tags, value)?),
                "properties" => update.read_properties(value)?,
                name if READ_ONLY.contains(&name) => {}
                name => return Err(unknown_member(name)),
            }
        }
        Ok(update)
    }

    fn read_properties(&mut self, properties: &Value) -> Result<(), HubError> {
        if properties.is_null() {
            return Ok(());
        }
        for (name, value) in object(properties, "properties")? {
            match name.as_str() {
                "desired" => self.desired = Some(Part::read(Section::Desired, value)?),
                "reported" => {}
                name => return Err(unknown_member(&format!("properties.{name}"))),
            }
        }
        Ok(())
    }
}

/// Whether a body can be a service's PATCH of a twin.
pub(in crate::hub) fn check_update(body: &Value) -> Result<(), HubError> {
    ServiceUpdate::read(body).map(|_| ())
}

impl Part {
    fn read(section: Section, value: &Value) -> Result<Self, HubError> {
        if value.is_null() {
            return Ok(Self::Clear);
        }
        let name = if section == Section::Tags { "tags" } else { "properties.desired" };
        let mut members = object(value, name)?.clone();
        if section == Section::Desired {
            members.shift_remove("$version");
            members.shift_remove("$metadata");
        }
        checked(section, members).map(Self::Members)
    }
}

/// Reads and checks a report. `$version` in it is refused like every other `$` name (twins.md 2.5).
pub(super) fn read_report(body: &Value) -> Result<Map<String, Value>, HubError> {
    checked(Section::Reported, object(body, "the reported properties")?.clone())
}

fn checked(section: Section, members: Map<String, Value>) -> Result<Map<String, Value>, HubError> {
    let patch = Value::Object(members);
    check_patch(section, &patch)?;
    match patch {
        Value::Object(members) => Ok(members),
        // Made an object above.
        _ => Ok(Map::new()),
    }
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, HubError> {
    value
        .as_object()
        .ok_or_else(|| HubError::new(ErrorCode::ArgumentInvalid, format!("{what} must be a JSON object")))
}

fn unknown_member(name: &str) -> HubError {
    HubError::new(
        ErrorCode::GenericBadRequest,
        format!(
            "BadRequest: a twin has no member '{name}', only 'tags' and 'properties.desired' can be written"
        ),
    )
}
