//! What devices and modules have in common.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::authentication::Authentication;
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::timestamp::Timestamp;

/// The identity proper: who it is in time, and how it proves that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::hub) struct Record {
    /// Ticks of its creation, unique in the hub: the same id made again is another identity (rest.md 3.2).
    generation: u64,
    /// A number that is new after every update of the identity.
    etag: u64,
    pub(in crate::hub) authentication: Authentication,
    pub(in crate::hub) presence: Presence,
}

/// Whether it is connected. Not part of any etag or version (twins.md 4).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::hub) struct Presence {
    /// Nobody is connected to a hub that was just loaded.
    #[serde(skip)]
    pub(in crate::hub) connected: bool,
    pub(in crate::hub) updated: Timestamp,
    pub(in crate::hub) last_activity: Timestamp,
}

impl Record {
    pub(super) fn new(generation: u64, etag: u64, authentication: Authentication) -> Self {
        Self { generation, etag, authentication, presence: Presence::default() }
    }

    pub(super) fn update(&mut self, etag: u64, authentication: Authentication) {
        self.etag = etag;
        self.authentication = authentication;
    }

    /// Base64 of a decimal number (rest.md 3.2).
    pub(in crate::hub) fn etag(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    pub(in crate::hub) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Presence {
    pub(in crate::hub) fn state(&self) -> &'static str {
        if self.connected { "Connected" } else { "Disconnected" }
    }

    pub(in crate::hub) fn set_connected(&mut self, connected: bool, now: Timestamp) {
        if self.connected != connected {
            self.connected = connected;
            self.updated = now;
        }
        self.last_activity = now;
    }
}

/// The body of a PUT as an object.
pub(super) fn object(body: &Value) -> Result<&Map<String, Value>, HubError> {
    match body {
        Value::Object(members) => Ok(members),
        Value::Null => Err(HubError::new(
            ErrorCode::ArgumentNull,
            "the request needs a body: the identity as a JSON object",
        )),
        _ => Err(invalid("the body must be a JSON object: the identity")),
    }
}

/// An id in the body must be the one in the path; without one the path is enough (rest.md 3.2).
pub(super) fn check_same_id(body: &Map<String, Value>, name: &str, path: &str) -> Result<(), HubError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(id)) if id == path => Ok(()),
        Some(_) => Err(invalid(format!("{name} in the body must be the one in the path, '{path}'"))),
    }
}

/// An optional text of at most `max` characters. Null is "not given".
pub(super) fn optional_text(
    body: &Map<String, Value>,
    name: &str,
    max: usize,
) -> Result<Option<String>, HubError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= max => Ok(Some(text.clone())),
        Some(_) => Err(invalid(format!("{name} must be a string of at most {max} characters"))),
    }
}

pub(super) fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
