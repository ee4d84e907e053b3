//! Where a device was assigned to, and the way there.

use iothub_common::{
    ClientOptions, DeviceConnectionString, Error, ErrorKind, Identity, RawJson, Result, Secret,
};

use super::Proof;
use crate::{builder::DeviceClientBuilder, credentials::Given};

/// Where a device was assigned to. `Debug` shows no key.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub(super) hub: String,
    pub(super) device_id: String,
    pub(super) substatus: Option<String>,
    pub(super) payload: Option<RawJson>,
    pub(super) proof: Proof,
    pub(super) options: ClientOptions,
}

impl Assignment {
    /// The hub's host name.
    #[must_use]
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// What the device is called on the hub.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// How it came to this hub: `initialAssignment`, or after a move `deviceDataMigrated`, `deviceDataReset`,
    /// `reprovisionedToInitialAssignment`.
    #[must_use]
    pub fn substatus(&self) -> Option<&str> {
        self.substatus.as_deref()
    }

    /// What a custom allocation had to say to the device.
    #[must_use]
    pub fn payload(&self) -> Option<&RawJson> {
        self.payload.as_ref()
    }

    /// The device's connection string, to be kept; `None` when it proves itself with a certificate.
    #[must_use]
    pub fn connection_string(&self) -> Option<Secret> {
        let Proof::Key(key) = &self.proof else { return None };
        let identity = Identity::device(self.device_id.as_str()).ok()?;
        Some(DeviceConnectionString::new(self.hub.as_str(), identity, key.clone()).ok()?.reveal())
    }

    /// A client of the device, ready to connect with what it was registered with. No I/O.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) when the service assigned something that is no hub or no device id.
    pub fn device_client(&self) -> Result<DeviceClientBuilder> {
        let identity = Identity::device(self.device_id.as_str());
        let given =
            identity.and_then(|identity| Given::new(self.hub.as_str(), identity)).map_err(|error| {
                let message = format!(
                    "the provisioning service assigned device `{}` on `{}`",
                    self.device_id, self.hub
                );
                Error::new(ErrorKind::Protocol, message).with_source(error)
            })?;
        let given = match self.proof.clone() {
            Proof::Key(key) => given.with_key(key),
            Proof::Certificate(certificate) => given.with_certificate(certificate),
        };
        Ok(DeviceClientBuilder::of_device(given).options(self.options.clone()))
    }
}
