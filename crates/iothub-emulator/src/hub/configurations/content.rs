//! What a configuration sets: twin paths and their values.

use iothub_common::twin_rules::{Section, check_patch, section_size};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hub::error::{ErrorCode, HubError};

/// Where desired properties are in the names of settings.
const DESIRED: &str = "properties.desired";

/// What a configuration is for; exactly one kind (twins.md 6.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Content {
    Devices(Settings),
    Modules(Settings),
    /// A deployment of modules to edge devices: kept and shown, and not carried out, as nobody runs modules
    /// here.
    Edge,
}

/// Values by their path inside the desired properties, in the order of the content. An empty path is all of
/// them.
pub(super) type Settings = Vec<(Vec<String>, Value)>;

impl Content {
    pub(super) fn read(content: &Value) -> Result<Self, HubError> {
        let members = content.as_object().ok_or_else(|| refused("content must be an object"))?;
        let given: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
        let [(kind, value)] = given.as_slice() else {
            return Err(refused("content needs exactly one of deviceContent, moduleContent, modulesContent"));
        };
        match kind.as_str() {
            "deviceContent" => read_own(kind, value).map(Self::Devices),
            "moduleContent" => read_own(kind, value).map(Self::Modules),
            "modulesContent" => read_modules(value).map(|_| Self::Edge),
            other => Err(refused(format!("content has no member '{other}'"))),
        }
    }
}

/// Settings that would not fit into any twin are refused.
fn read_own(kind: &str, value: &Value) -> Result<Settings, HubError> {
    let settings = read_settings(kind, value)?;
    let mut together = Map::new();
    for (path, value) in &settings {
        super::plan::merge(&mut together, at_path(path, value.clone()));
    }
    let (size, most) = (section_size(&Value::Object(together)), Section::Desired.max_size());
    if size > most {
        return Err(refused(format!("{kind} has {size} bytes, desired properties take at most {most}")));
    }
    Ok(settings)
}

/// The settings by module id of `modulesContent`.
pub(super) fn read_modules(value: &Value) -> Result<Vec<(String, Settings)>, HubError> {
    let modules = value.as_object().ok_or_else(|| refused("modulesContent must be an object"))?;
    modules
        .iter()
        .map(|(id, value)| Ok((id.clone(), read_settings(&format!("modulesContent.{id}"), value)?)))
        .collect()
}

/// Reads an object whose names are twin paths.
pub(super) fn read_settings(name: &str, value: &Value) -> Result<Settings, HubError> {
    let members = value.as_object().ok_or_else(|| refused(format!("{name} must be an object")))?;
    members.iter().map(|(key, value)| read_setting(name, key, value)).collect()
}

fn read_setting(content: &str, key: &str, value: &Value) -> Result<(Vec<String>, Value), HubError> {
    let path = match key.strip_prefix(DESIRED) {
        Some("") => Vec::new(),
        Some(rest) if rest.starts_with('.') => rest[1..].split('.').map(str::to_owned).collect(),
        _ => {
            return Err(refused(format!(
                "'{key}' in {content} must be {DESIRED} or a path below it, like {DESIRED}.a.b"
            )));
        }
    };
    if path.is_empty() && !value.is_object() {
        return Err(refused(format!("'{key}' in {content} must be an object")));
    }
    let patch = Value::Object(at_path(&path, value.clone()));
    check_patch(Section::Desired, &patch)
        .map_err(|violation| refused(format!("'{key}' in {content}: {}", violation.hub_text())))?;
    Ok((path, value.clone()))
}

/// The merge patch that puts a value at a path.
pub(super) fn at_path(path: &[String], value: Value) -> Map<String, Value> {
    let wrap = |inner: Value, name: &String| Value::Object(Map::from_iter([(name.clone(), inner)]));
    match path.iter().rev().fold(value, wrap) {
        Value::Object(members) => members,
        // Only an empty path with a scalar, which is refused when it is read.
        _ => Map::new(),
    }
}

pub(super) fn refused(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::InvalidConfigurationContent, text)
}
