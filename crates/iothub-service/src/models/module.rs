//! Modules: what the hub answers, and what a new one is made of (rest.md 4).

use iothub_common::{ETag, Secret};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Authentication, ConnectionState, NewAuthentication, Timestamp, UnknownFields, connection_string,
};

/// A module identity as read from the hub.
///
/// Change fields and pass it to [`Registry::update_module`](crate::Registry::update_module): everything that was
/// read is sent back, fields unknown to this crate too.
///
/// `Debug` never shows a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Module {
    /// The device the module belongs to.
    pub device_id: String,
    /// The id, unique on the device, case-sensitive.
    pub module_id: String,
    /// Who looks after the module; IoT Edge writes `iotEdge`.
    #[serde(default)]
    pub managed_by: Option<String>,
    /// Changes when a module is deleted and added again under the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<String>,
    /// Changes with every update of the identity.
    pub etag: ETag,
    /// Whether the module is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<ConnectionState>,
    /// When `connection_state` changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_state_updated_time: Option<Timestamp>,
    /// When the module connected, received or sent a message last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<Timestamp>,
    /// Messages waiting for the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_message_count: Option<u64>,
    /// How the module authenticates.
    pub authentication: Authentication,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Module {
    /// The connection string the module's program needs, made with the primary key; `None` where the module has no
    /// key (it authenticates by certificate or not at all), or an id has a `;`, which the format cannot carry.
    ///
    /// `host_name` is the hub's, see [`Registry::host_name`](crate::Registry::host_name). **The text contains the
    /// key**: whoever has it can act as the module.
    pub fn connection_string(&self, host_name: &str) -> Option<String> {
        connection_string(host_name, &self.device_id, Some(&self.module_id), &self.authentication)
    }
}

/// A module to add to a device: an id, and what shall differ from the defaults.
///
/// Made from an id alone, it gets two keys that the hub generates.
#[derive(Clone, Debug)]
pub struct NewModule {
    pub(crate) module_id: String,
    pub(crate) authentication: NewAuthentication,
    managed_by: Option<String>,
}

impl NewModule {
    /// A module with this id: 1 to 128 characters out of `A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ ; $ '`.
    pub fn new(module_id: impl Into<String>) -> Self {
        Self { module_id: module_id.into(), authentication: NewAuthentication::default(), managed_by: None }
    }

    /// How the module shall authenticate; by default with keys that the hub generates.
    pub fn authentication(mut self, authentication: NewAuthentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// Authentication with keys of your own instead of keys that the hub generates: base64 of 16 to 64 bytes each,
    /// such as [`SymmetricKey::generate`](crate::SymmetricKey::generate) makes.
    pub fn keys(self, primary: impl Into<Secret>, secondary: impl Into<Secret>) -> Self {
        let (primary, secondary) = (primary.into(), secondary.into());
        self.authentication(NewAuthentication::Keys { primary, secondary })
    }

    /// Who looks after the module; nobody by default.
    pub fn managed_by(mut self, managed_by: impl Into<String>) -> Self {
        self.managed_by = Some(managed_by.into());
        self
    }

    pub(crate) fn to_json(&self, device_id: &str) -> Value {
        let mut body = Map::new();
        body.insert("deviceId".into(), device_id.into());
        body.insert("moduleId".into(), self.module_id.as_str().into());
        if let Some(managed_by) = &self.managed_by {
            body.insert("managedBy".into(), managed_by.as_str().into());
        }
        body.insert("authentication".into(), self.authentication.to_json());
        Value::Object(body)
    }
}

impl From<&str> for NewModule {
    fn from(module_id: &str) -> Self {
        Self::new(module_id)
    }
}

impl From<String> for NewModule {
    fn from(module_id: String) -> Self {
        Self::new(module_id)
    }
}

impl From<&String> for NewModule {
    fn from(module_id: &String) -> Self {
        Self::new(module_id)
    }
}
