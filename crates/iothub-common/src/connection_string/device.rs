//! The connection string of a device or module.

use std::fmt;
use std::str::FromStr;

use super::Credential;
use super::parts::{Part, Parts, check_host, invalid};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::sas::TokenSource;
use crate::secret::{Secret, SymmetricKey};

/// A device's or module's connection string: `HostName=…;DeviceId=…[;ModuleId=…];SharedAccessKey=…`.
///
/// In place of the key there may be a ready-made `SharedAccessSignature` or `x509=true`; `GatewayHostName`
/// names an IoT Edge gateway to go through. Made with [`str::parse`]. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceConnectionString {
    host_name: String,
    gateway_host_name: Option<String>,
    identity: Identity,
    credential: Credential,
}

impl DeviceConnectionString {
    /// A connection string for an identity's key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when the host name has a port or is none.
    pub fn new(host_name: impl Into<String>, identity: Identity, key: SymmetricKey) -> Result<Self> {
        let host_name = host_name.into();
        check_host(Part::HostName, &host_name)?;
        if let Some(id) = [Some(identity.device_id()), identity.module_id()]
            .into_iter()
            .flatten()
            .find(|id| id.contains(';'))
        {
            return Err(invalid(format!("the id `{id}` has a `;`, which a connection string cannot carry")));
        }
        let credential = Credential::SharedAccessKey(key);
        Ok(Self { host_name, gateway_host_name: None, identity, credential })
    }

    /// The hub's host name, without a port.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// The gateway to connect to in place of the hub, when there is one.
    ///
    /// Tokens keep naming the hub (amqp.md 2.3).
    #[must_use]
    pub fn gateway_host_name(&self) -> Option<&str> {
        self.gateway_host_name.as_deref()
    }

    /// The device or module.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key, the ready-made signature, or X.509.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Makes tokens for this identity.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for X.509, which has no tokens, and for a
    /// malformed ready-made signature.
    pub fn token_source(&self) -> Result<TokenSource> {
        TokenSource::new(self.credential.clone(), self.identity.resource_uri(&self.host_name), None)
    }

    /// The device and module ids.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when this is the connection string of a
    /// device, saying how to get a module's.
    pub fn require_module(&self) -> Result<(&str, &str)> {
        let device = self.identity.device_id();
        self.identity.module_id().map(|module| (device, module)).ok_or_else(|| {
            invalid(format!(
                "ModuleId is missing: this is the connection string of device `{device}` itself; a module's \
                 comes from add_module or get_module"
            ))
        })
    }

    /// The whole connection string, key and all.
    #[must_use]
    pub fn reveal(&self) -> Secret {
        let mut text = format!("HostName={};DeviceId={}", self.host_name, self.identity.device_id());
        let mut add = |name: &str, value: &str| {
            text.push(';');
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        };
        if let Some(module) = self.identity.module_id() {
            add("ModuleId", module);
        }
        match &self.credential {
            Credential::SharedAccessKey(key) => add("SharedAccessKey", key.to_base64().reveal()),
            Credential::SharedAccessSignature(token) => add("SharedAccessSignature", token.reveal()),
            Credential::X509 => add("x509", "true"),
        }
        if let Some(gateway) = &self.gateway_host_name {
            add("GatewayHostName", gateway);
        }
        Secret::from(text)
    }
}

impl FromStr for DeviceConnectionString {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const WHOSE: &str = "device";
        let parts = Parts::parse(text)?;
        refuse_service_string(&parts)?;
        let host_name = parts.host(Part::HostName, WHOSE)?;
        let device_id = parts.require(Part::DeviceId, WHOSE)?;
        parts.refuse(Part::SharedAccessKeyName, WHOSE)?;
        let gateway_host_name = match parts.has(Part::GatewayHostName) {
            true => Some(parts.host(Part::GatewayHostName, WHOSE)?),
            false => None,
        };
        let identity = match parts.get(Part::ModuleId) {
            None => Identity::device(device_id),
            Some(module_id) => Identity::module(device_id, module_id),
        }?;
        Ok(Self { host_name, gateway_host_name, identity, credential: credential(&parts)? })
    }
}

fn credential(parts: &Parts<'_>) -> Result<Credential> {
    let x509 = match parts.get(Part::X509).map(str::to_ascii_lowercase).as_deref() {
        Some("true") => true,
        Some("false") | None => false,
        Some(_) => return Err(invalid("x509 must be `true` in the connection string, or left out")),
    };
    if x509 {
        parts.refuse_beside(Part::SharedAccessKey, Part::X509)?;
        parts.refuse_beside(Part::SharedAccessSignature, Part::X509)?;
        return Ok(Credential::X509);
    }
    if let Some(token) = parts.get(Part::SharedAccessSignature) {
        parts.refuse_beside(Part::SharedAccessKey, Part::SharedAccessSignature)?;
        return Ok(Credential::SharedAccessSignature(token.into()));
    }
    let Some(key) = parts.get(Part::SharedAccessKey) else {
        return Err(invalid(
            "SharedAccessKey is missing in the device connection string; in its place there may be \
             SharedAccessSignature or x509=true",
        ));
    };
    Ok(Credential::SharedAccessKey(SymmetricKey::from_base64(key)?))
}

fn refuse_service_string(parts: &Parts<'_>) -> Result<()> {
    if parts.has(Part::DeviceId) || !parts.has(Part::SharedAccessKeyName) {
        return Ok(());
    }
    Err(invalid(
        "this is the connection string of the hub itself (it has SharedAccessKeyName and no DeviceId); here \
         the one of a device or module is wanted, which the registry gives for an identity",
    ))
}

impl fmt::Debug for DeviceConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConnectionString")
            .field("host_name", &self.host_name)
            .field("gateway_host_name", &self.gateway_host_name)
            .field("identity", &self.identity)
            .field("credential", &self.credential)
            .finish()
    }
}
