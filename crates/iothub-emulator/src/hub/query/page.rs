//! Pages of a result and the tokens that continue it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hub::error::{ErrorCode, HubError};

/// Rows of one page: the default, and the most; larger wishes are lowered (twins.md 5.2).
const MAX_ITEMS: usize = 100;

/// What a client wants of a result.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// How many rows at most; 100 when nothing or something else than 1 to 100 is asked for.
    pub max_items: Option<usize>,
    /// The token of the page before, as it came.
    pub continuation: Option<String>,
}

/// One page of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The rows.
    pub items: Vec<Value>,
    /// `Twin`, `Raw`, `DeviceJob` or `JobResponse`, with a capital (rest.md 6).
    pub item_type: &'static str,
    /// For the next page; only when there is one.
    pub continuation: Option<String>,
}

impl PageRequest {
    pub(in crate::hub) fn size(&self) -> usize {
        self.max_items.filter(|size| (1..=MAX_ITEMS).contains(size)).unwrap_or(MAX_ITEMS)
    }

    /// Where to go on, when this is not the first page. `about` says what is listed: a token is good for
    /// that only.
    pub(in crate::hub) fn position(&self, about: &str) -> Result<Option<Position>, HubError> {
        let Some(token) = &self.continuation else { return Ok(None) };
        let position = URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Position>(&bytes).ok())
            .ok_or_else(|| refused("x-ms-continuation is no token of this hub"))?;
        if position.about != digest(about) {
            return Err(refused(
                "x-ms-continuation is the token of another query, send the same query again",
            ));
        }
        Ok(Some(position))
    }
}

/// What a token says: the key of the last row given, so that rows made or removed meanwhile shift nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::hub) struct Position {
    about: u64,
    /// The key of the last row.
    pub(in crate::hub) after: Vec<String>,
    /// How many rows TOP still allows.
    pub(in crate::hub) left: Option<usize>,
}

impl Position {
    pub(in crate::hub) fn new(about: &str, after: Vec<String>, left: Option<usize>) -> Self {
        Self { about: digest(about), after, left }
    }

    /// Safe in a header.
    pub(in crate::hub) fn token(&self) -> String {
        // Numbers and strings always have a JSON text.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// FNV-1a: the same in every process and release, unlike the standard library's.
pub(super) fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn refused(text: &str) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
