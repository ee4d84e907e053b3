//! The connection string of a hub's shared access policy.

use std::fmt;
use std::str::FromStr;

use super::Credential;
use super::parts::{Part, Parts, invalid};
use crate::error::{Error, Result};
use crate::sas::TokenSource;
use crate::secret::{Secret, SymmetricKey};

/// A service's connection string: `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`, or with a ready-made
/// `SharedAccessSignature` in place of the other two.
///
/// Made with [`str::parse`]. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceConnectionString {
    host_name: String,
    policy_name: Option<String>,
    credential: Credential,
}

impl ServiceConnectionString {
    /// A connection string for a policy's key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when the host name has a port or is none.
    pub fn new(
        host_name: impl Into<String>,
        policy_name: impl Into<String>,
        key: SymmetricKey,
    ) -> Result<Self> {
        let (host_name, policy_name) = (host_name.into(), policy_name.into());
        super::parts::check_host(Part::HostName, &host_name)?;
        super::parts::check_free_text(Part::SharedAccessKeyName, &policy_name)?;
        Ok(Self { host_name, policy_name: Some(policy_name), credential: Credential::SharedAccessKey(key) })
    }

    /// The hub's host name, without a port.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// The policy whose key this is; `None` with a ready-made signature.
    #[must_use]
    pub fn policy_name(&self) -> Option<&str> {
        self.policy_name.as_deref()
    }

    /// The key or the ready-made signature.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Makes tokens for the whole hub.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when a ready-made signature is malformed.
    pub fn token_source(&self) -> Result<TokenSource> {
        TokenSource::new(self.credential.clone(), self.host_name.clone(), self.policy_name())
    }

    /// The whole connection string, key and all.
    #[must_use]
    pub fn reveal(&self) -> Secret {
        let host = &self.host_name;
        let policy = self.policy_name.as_deref().unwrap_or_default();
        Secret::from(match &self.credential {
            Credential::SharedAccessKey(key) => {
                let key = key.to_base64();
                format!("HostName={host};SharedAccessKeyName={policy};SharedAccessKey={}", key.reveal())
            }
            Credential::SharedAccessSignature(token) => {
                format!("HostName={host};SharedAccessSignature={}", token.reveal())
            }
            Credential::X509 => format!("HostName={host}"),
        })
    }
}

impl FromStr for ServiceConnectionString {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const WHOSE: &str = "service";
        let parts = Parts::parse(text)?;
        refuse_device_string(&parts)?;
        let host_name = parts.host(Part::HostName, WHOSE)?;
        parts.refuse(Part::GatewayHostName, WHOSE)?;
        parts.refuse(Part::X509, WHOSE)?;
        if let Some(token) = parts.get(Part::SharedAccessSignature) {
            parts.refuse_beside(Part::SharedAccessKey, Part::SharedAccessSignature)?;
            parts.refuse_beside(Part::SharedAccessKeyName, Part::SharedAccessSignature)?;
            let credential = Credential::SharedAccessSignature(token.into());
            return Ok(Self { host_name, policy_name: None, credential });
        }
        let policy_name = parts.require(Part::SharedAccessKeyName, WHOSE)?.to_owned();
        let key = SymmetricKey::from_base64(parts.require(Part::SharedAccessKey, WHOSE)?)?;
        Ok(Self { host_name, policy_name: Some(policy_name), credential: Credential::SharedAccessKey(key) })
    }
}

fn refuse_device_string(parts: &Parts<'_>) -> Result<()> {
    let (whose, part) = match (parts.has(Part::ModuleId), parts.has(Part::DeviceId)) {
        (true, _) => ("module", "ModuleId"),
        (false, true) => ("device", "DeviceId"),
        (false, false) => return Ok(()),
    };
    Err(invalid(format!(
        "this is the connection string of a {whose} (it has {part}); here the hub's is wanted, with \
         SharedAccessKeyName: copy it from the hub's shared access policies"
    )))
}

impl fmt::Debug for ServiceConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceConnectionString")
            .field("host_name", &self.host_name)
            .field("policy_name", &self.policy_name)
            .field("credential", &self.credential)
            .finish()
    }
}
