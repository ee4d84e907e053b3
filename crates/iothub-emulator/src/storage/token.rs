//! The token in a blob's URI, `?sv=…&sr=b&sig=…&se=…&sp=rw`: one blob, until then. With `sr=c`, and no name of a
//! blob in what is signed, it is for all of the container.
//!
//! It looks like the real one's; what is signed is this storage's own business, as clients pass the token on unread.

use std::time::SystemTime;

use iothub_common::SymmetricKey;
use iothub_common::identity::escape_id;

use super::error::{self, StorageError};
use crate::hub::Timestamp;

const VERSION: &str = "2018-03-28";
const READ_WRITE: &str = "rw";

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

/// The token's parts as a request has them, decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sas<'a> {
    pub(crate) expiry: Option<&'a str>,
    pub(crate) permissions: Option<&'a str>,
    pub(crate) signature: Option<&'a str>,
}

pub(super) fn sign(key: &SymmetricKey, container: &str, name: &str, until: SystemTime) -> String {
    let expiry = Timestamp::from(until).for_twin();
    let signature = signature(key, container, name, &expiry, READ_WRITE).to_base64();
    let (signature, expiry) = (escape_id(signature.reveal()), escape_id(&expiry));
    let resource = if name.is_empty() { 'c' } else { 'b' };
    format!("?sv={VERSION}&sr={resource}&sig={signature}&se={expiry}&sp={READ_WRITE}")
}

impl Sas<'_> {
    pub(super) fn check(
        &self,
        key: &SymmetricKey,
        container: &str,
        name: &str,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<(), StorageError> {
        let (Some(expiry), Some(permissions), Some(given)) = (self.expiry, self.permissions, self.signature)
        else {
            return Err(error::unauthorized("the URI has no token, or only a part of one"));
        };
        // The signed text has a part a line: a part with a line break in it could stand for several.
        if [expiry, permissions].iter().any(|part| part.contains(char::is_control)) {
            return Err(error::unauthorized("the token has control characters in it"));
        }
        // Keys are compared in constant time.
        let expected = signature(key, container, name, expiry, permissions);
        if SymmetricKey::from_base64(given).ok() != Some(expected) {
            return Err(error::unauthorized("the token is not for this blob, or was changed"));
        }
        // Both have the form and the length that `sign` gave them, up to the fraction of a second.
        if expiry.trim_end_matches('Z') <= Timestamp::from(now).for_twin().trim_end_matches('Z') {
            return Err(error::unauthorized("the token has expired"));
        }
        let wanted = match purpose {
            Purpose::Read => 'r',
            Purpose::Write => 'w',
        };
        if !permissions.contains(wanted) {
            return Err(error::unauthorized("the token does not allow this"));
        }
        Ok(())
    }
}

fn signature(
    key: &SymmetricKey,
    container: &str,
    name: &str,
    expiry: &str,
    permissions: &str,
) -> SymmetricKey {
    key.derive(&format!("{permissions}\n{expiry}\n/{container}/{name}"))
}
