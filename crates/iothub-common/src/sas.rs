//! SAS tokens: made, read, checked and renewed. The caller passes the time.
//!
//! `SharedAccessSignature sr={resource}&sig={signature}&se={unix seconds}[&skn={policy}]` (amqp.md 2.3).

mod source;
mod token;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::identity::escape_id;
use crate::secret::{Secret, SymmetricKey};

pub use source::{Token, TokenSource};
pub use token::SasToken;

const SCHEME: &str = "SharedAccessSignature";

/// Makes a token for a resource, such as [`Identity::resource_uri`](crate::Identity::resource_uri) or the
/// hub's host name.
///
/// The resource is given in plain and escaped here, once and as a whole. `policy` is the name of the shared
/// access policy whose key this is; devices and modules have none. The expiry is cut to whole seconds.
#[must_use]
pub fn sign(key: &SymmetricKey, resource: &str, policy: Option<&str>, expires_at: SystemTime) -> Secret {
    let unsigned = Unsigned::new(resource, expires_at);
    let signature = mac(key, &unsigned.sr, &unsigned.se).finalize().into_bytes();
    unsigned.with_signature(&STANDARD.encode(signature), policy)
}

/// A token whose key is elsewhere, in a security module for instance: what is to be signed comes out, the signature
/// goes in.
#[derive(Clone, Debug)]
pub struct Unsigned {
    sr: String,
    se: String,
}

impl Unsigned {
    /// A token for a resource, given in plain as for [`sign`].
    #[must_use]
    pub fn new(resource: &str, expires_at: SystemTime) -> Self {
        let seconds = expires_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        Self { sr: escape_id(resource), se: seconds.to_string() }
    }

    /// What HMAC-SHA256 is to be made of, with the decoded key.
    #[must_use]
    pub fn to_sign(&self) -> String {
        format!("{}\n{}", self.sr, self.se)
    }

    /// The token. The signature is in base64.
    #[must_use]
    pub fn with_signature(&self, signature: &str, policy: Option<&str>) -> Secret {
        let (sr, se, sig) = (&self.sr, &self.se, escape_id(signature));
        let skn = policy.map(|policy| format!("&skn={}", escape_id(policy))).unwrap_or_default();
        Secret::from(format!("{SCHEME} sr={sr}&sig={sig}&se={se}{skn}"))
    }
}

/// Over the texts as they stand in the token: whoever checks it does not have to guess how it was escaped.
fn mac(key: &SymmetricKey, sr: &str, se: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length (RFC 2104): this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes any key length");
    mac.update(sr.as_bytes());
    mac.update(b"\n");
    mac.update(se.as_bytes());
    mac
}

#[cfg(test)]
mod tests;
