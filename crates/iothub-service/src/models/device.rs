//! Devices: what the hub answers, and what a new one is made of (rest.md 3.2).

use iothub_common::{ETag, Secret};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::hub_enum::hub_enum;
use super::{Authentication, NewAuthentication, Timestamp, UnknownFields, connection_string};

hub_enum! {
    /// Whether a device may connect.
    pub enum DeviceStatus {
        /// It may.
        Enabled = "enabled",
        /// It may not; the hub treats it as if it were not there.
        Disabled = "disabled",
    }
}

hub_enum! {
    /// Whether a device or module is connected over AMQP or MQTT.
    pub enum ConnectionState {
        /// It is.
        Connected = "Connected",
        /// It is not.
        Disconnected = "Disconnected",
    }
}

/// A device identity as read from the hub.
///
/// Change fields and pass it to [`Registry::update_device`](crate::Registry::update_device): everything that was
/// read is sent back, fields unknown to this crate too. The hub ignores changes to what it makes itself
/// (`generation_id`, `connection_state`, the times, the message count).
///
/// `Debug` never shows a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Device {
    /// The id, unique in the hub, case-sensitive.
    pub device_id: String,
    /// Changes when a device is deleted and created again under the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<String>,
    /// Changes with every update of the identity.
    pub etag: ETag,
    /// Whether the device is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<ConnectionState>,
    /// Whether the device may connect.
    pub status: DeviceStatus,
    /// Why, up to 128 characters.
    #[serde(default)]
    pub status_reason: Option<String>,
    /// When `connection_state` changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_state_updated_time: Option<Timestamp>,
    /// When `status` changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_updated_time: Option<Timestamp>,
    /// When the device connected, received or sent a message last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<Timestamp>,
    /// Messages waiting for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_message_count: Option<u64>,
    /// How the device authenticates.
    pub authentication: Authentication,
    /// What the device can do.
    #[serde(default)]
    pub capabilities: DeviceCapabilities,
    /// The scope: an edge device's own, on other devices that of the edge device above them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// The scope of the edge device above this one; at most one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_scopes: Option<Vec<String>>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Device {
    /// The connection string a program on the device needs, made with the primary key; `None` where the device has
    /// no key (it authenticates by certificate or not at all), or its id has a `;`, which the format cannot carry.
    ///
    /// `host_name` is the hub's, see [`Registry::host_name`](crate::Registry::host_name). **The text contains the
    /// key**: whoever has it can act as the device.
    pub fn connection_string(&self, host_name: &str) -> Option<String> {
        connection_string(host_name, &self.device_id, None, &self.authentication)
    }
}

/// What a device can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceCapabilities {
    /// Whether it runs IoT Edge.
    #[serde(default)]
    pub iot_edge: bool,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A device to create: an id, and what shall differ from the defaults.
///
/// Made from an id alone, it is enabled and gets two keys that the hub generates.
///
/// ```
/// use iothub_service::{DeviceStatus, NewDevice};
///
/// let device = NewDevice::new("pump-7").status(DeviceStatus::Disabled).status_reason("not yet mounted");
/// # let _ = device;
/// ```
#[derive(Clone, Debug)]
pub struct NewDevice {
    pub(crate) device_id: String,
    pub(crate) authentication: NewAuthentication,
    status: DeviceStatus,
    status_reason: Option<String>,
    iot_edge: bool,
    device_scope: Option<String>,
    parent_scope: Option<String>,
}

impl NewDevice {
    /// A device with this id: 1 to 128 characters out of `A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ ; $ '`.
    pub fn new(device_id: impl Into<String>) -> Self {
        Self {
            device_id: device_id.into(),
            authentication: NewAuthentication::default(),
            status: DeviceStatus::Enabled,
            status_reason: None,
            iot_edge: false,
            device_scope: None,
            parent_scope: None,
        }
    }

    /// How the device shall authenticate; by default with keys that the hub generates.
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

    /// Whether it may connect; by default it may.
    pub fn status(mut self, status: DeviceStatus) -> Self {
        self.status = status;
        self
    }

    /// Why it has its status, up to 128 characters.
    pub fn status_reason(mut self, reason: impl Into<String>) -> Self {
        self.status_reason = Some(reason.into());
        self
    }

    /// Whether it runs IoT Edge; by default not.
    pub fn iot_edge(mut self, iot_edge: bool) -> Self {
        self.iot_edge = iot_edge;
        self
    }

    /// The edge device above this device: the `device_scope` of that one.
    pub fn device_scope(mut self, scope: impl Into<String>) -> Self {
        self.device_scope = Some(scope.into());
        self
    }

    /// The edge device above this edge device: the `device_scope` of that one.
    pub fn parent_scope(mut self, scope: impl Into<String>) -> Self {
        self.parent_scope = Some(scope.into());
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut body = Map::new();
        body.insert("deviceId".into(), self.device_id.as_str().into());
        body.insert("status".into(), self.status.as_str().into());
        if let Some(reason) = &self.status_reason {
            body.insert("statusReason".into(), reason.as_str().into());
        }
        body.insert("authentication".into(), self.authentication.to_json());
        body.insert("capabilities".into(), serde_json::json!({ "iotEdge": self.iot_edge }));
        if let Some(scope) = &self.device_scope {
            body.insert("deviceScope".into(), scope.as_str().into());
        }
        if let Some(scope) = &self.parent_scope {
            body.insert("parentScopes".into(), vec![scope.as_str()].into());
        }
        Value::Object(body)
    }
}

impl From<&str> for NewDevice {
    fn from(device_id: &str) -> Self {
        Self::new(device_id)
    }
}

impl From<String> for NewDevice {
    fn from(device_id: String) -> Self {
        Self::new(device_id)
    }
}

impl From<&String> for NewDevice {
    fn from(device_id: &String) -> Self {
        Self::new(device_id)
    }
}
