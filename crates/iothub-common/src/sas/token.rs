//! A token that came from somebody else, taken apart.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac as _;

use super::{SCHEME, mac};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::unescape_id;
use crate::secret::SymmetricKey;

/// A SAS token, taken apart. Nothing is believed before [`verify`](Self::verify).
#[derive(Clone)]
pub struct SasToken {
    /// What it is for, decoded once: `{host}`, or `{host}/devices/{id}[/modules/{id}]`.
    pub resource: String,
    /// The same as it stands in the token, still escaped.
    pub raw_resource: String,
    /// When it ends.
    pub expires_at: SystemTime,
    /// The shared access policy it was made with; `None` for an identity's own key.
    pub policy: Option<String>,
    raw_expiry: String,
    signature: Vec<u8>,
}

impl SasToken {
    /// Takes a token apart, pairs in any order: the SDKs differ (amqp.md 2.3).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] naming the part that is missing, double or malformed. The message does not
    /// repeat the token.
    pub fn parse(text: &str) -> Result<Self> {
        let pairs = after_scheme(text)?;
        let mut found: [Option<&str>; 4] = [None; 4];
        const NAMES: [&str; 4] = ["sr", "sig", "se", "skn"];
        for pair in pairs.split('&') {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(invalid("a pair is not of the form name=value"));
            };
            // Pairs nobody has heard of are the sender's business: they are not signed.
            let Some(index) = NAMES.iter().position(|known| *known == name) else { continue };
            if found[index].replace(value).is_some() {
                return Err(invalid(format!("`{name}` is there twice")));
            }
        }
        let [sr, sig, se, skn] = found;
        let raw_resource = require(sr, "sr")?.to_owned();
        let raw_expiry = require(se, "se")?.to_owned();
        Ok(Self {
            resource: decode(&raw_resource, "sr")?,
            expires_at: parse_expiry(&raw_expiry)?,
            policy: skn.filter(|name| !name.is_empty()).map(|name| decode(name, "skn")).transpose()?,
            signature: parse_signature(require(sig, "sig")?)?,
            raw_resource,
            raw_expiry,
        })
    }

    /// Whether this key made the token. Says nothing about the expiry. Takes constant time.
    #[must_use]
    pub fn verify(&self, key: &SymmetricKey) -> bool {
        mac(key, &self.raw_resource, &self.raw_expiry).verify_slice(&self.signature).is_ok()
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at <= now
    }
}

fn after_scheme(text: &str) -> Result<&str> {
    let text = text.trim();
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) && rest.starts_with(' ') => {
            Ok(rest.trim_start())
        }
        _ => Err(invalid(format!("it does not start with `{SCHEME} `"))),
    }
}

fn require<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| invalid(format!("`{name}` is missing")))
}

fn decode(value: &str, name: &str) -> Result<String> {
    unescape_id(value).map_err(|_| invalid(format!("`{name}` is not UTF-8 once decoded")))
}

fn parse_signature(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(decode(text, "sig")?).map_err(|_| invalid("`sig` is not valid base64 once decoded"))
}

fn parse_expiry(text: &str) -> Result<SystemTime> {
    let seconds: u64 = text.parse().map_err(|_| invalid("`se` is not a whole number of seconds"))?;
    // Beyond what the clock can say is as good as never.
    let never = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    Ok(UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(never))
}

fn invalid(why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the shared access signature is malformed: {why}"))
}

impl fmt::Debug for SasToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken")
            .field("resource", &self.resource)
            .field("expires_at", &self.expires_at)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
