//! Twins as read from the hub (rest.md 5.1, twins.md 1.1).

use iothub_common::{ETag, Result, TwinProperties};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{
    AuthenticationType, ConnectionState, DeviceCapabilities, DeviceStatus, Tags, Thumbprints, Timestamp,
    UnknownFields,
};

/// The twin of a device or module, as the service sees it.
///
/// Tags and properties hold the JSON exactly as the hub sent it: key order, big integers and date-like texts
/// included. Read them raw ([`Tags::as_str`], `twin.properties.desired.as_str()`) or typed ([`Twin::desired`],
/// [`Twin::reported`], [`Twin::tags`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Twin {
    /// The device.
    pub device_id: String,
    /// The module; `None` in the twin of a device.
    #[serde(default)]
    pub module_id: Option<String>,
    /// The model the device announced (IoT Plug and Play); `None` or empty without one.
    #[serde(default)]
    pub model_id: Option<String>,
    /// Changes with every write of tags or desired properties, **not** when the device reports (twins.md 2.2).
    pub etag: ETag,
    /// The etag of the identity, not of the twin.
    #[serde(default)]
    pub device_etag: Option<ETag>,
    /// Grows with every write by either side.
    pub version: u64,
    /// Whether the device may connect.
    #[serde(default)]
    pub status: Option<DeviceStatus>,
    /// Why, up to 128 characters.
    #[serde(default)]
    pub status_reason: Option<String>,
    /// When `status` changed last.
    #[serde(default)]
    pub status_update_time: Option<Timestamp>,
    /// Whether the device or module is connected.
    #[serde(default)]
    pub connection_state: Option<ConnectionState>,
    /// When it connected, received or sent a message last.
    #[serde(default)]
    pub last_activity_time: Option<Timestamp>,
    /// Messages waiting for it.
    #[serde(default)]
    pub cloud_to_device_message_count: Option<u64>,
    /// How it authenticates.
    #[serde(default)]
    pub authentication_type: Option<AuthenticationType>,
    /// The thumbprints of its certificates.
    #[serde(default)]
    pub x509_thumbprint: Option<Thumbprints>,
    /// What the service wrote about the device; the device does not see it.
    #[serde(default)]
    pub tags: Tags,
    /// What the service wants and what the device reported, each with its `$version` and `$metadata`.
    pub properties: TwinProperties,
    /// What the device can do; `None` in the twin of a module.
    #[serde(default)]
    pub capabilities: Option<DeviceCapabilities>,
    /// The scope, see [`Device::device_scope`](crate::Device::device_scope).
    #[serde(default)]
    pub device_scope: Option<String>,
    /// The scope of the edge device above this one; at most one.
    #[serde(default)]
    pub parent_scopes: Option<Vec<String>>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Twin {
    /// The desired properties as `T`; fields of `T` that are not among them are up to `T`'s serde attributes.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when they do not fit `T`; the source says where.
    pub fn desired<T: DeserializeOwned>(&self) -> Result<T> {
        self.properties.desired.to()
    }

    /// The reported properties as `T`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when they do not fit `T`; the source says where.
    pub fn reported<T: DeserializeOwned>(&self) -> Result<T> {
        self.properties.reported.to()
    }

    /// The tags as `T`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when they do not fit `T`; the source says where.
    pub fn tags<T: DeserializeOwned>(&self) -> Result<T> {
        self.tags.to()
    }
}
