//! Connection strings, as the portal and the tools hand them out.
//!
//! Parsing forgives the order of the parts, the case of their names, white space around names and values and
//! `;` at the end. Everything else is an error that names the part. No error and no `Debug` output holds a key.

mod device;
mod parts;
mod service;

use crate::error::Result;
use crate::secret::{Secret, SymmetricKey};

pub use device::DeviceConnectionString;
pub use service::ServiceConnectionString;

/// Checks a host name that is given by itself.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when it has a port or a path, or is none.
pub fn check_host_name(host_name: &str) -> Result<()> {
    parts::check_host(parts::Part::HostName, host_name)
}

/// How an application proves who it is.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A key from which tokens are made.
    SharedAccessKey(SymmetricKey),
    /// A ready-made token, used as it is until it expires.
    SharedAccessSignature(Secret),
    /// A certificate shown in the TLS handshake. Devices and modules only.
    X509,
}

#[cfg(test)]
mod tests;
