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
    let sr = escape_id(resource);
    let se = expires_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().to_string();
    let signature = mac(key, &sr, &se).finalize().into_bytes();
    let sig = escape_id(&STANDARD.encode(signature));
    let skn = policy.map(|policy| format!("&skn={}", escape_id(policy))).unwrap_or_default();
    Secret::from(format!("{SCHEME} sr={sr}&sig={sig}&se={se}{skn}"))
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
