//! JSON of any shape, untouched.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Error, ErrorKind, Result};

/// A JSON value as text, exactly as the other side wrote it: key order, big integers, date-like texts and escapes
/// included.
///
/// `Display` shows the text. Read it into a type of your own, or into `serde_json::Value`, with [`RawJson::to`].
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON of a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it cannot be written as JSON.
    pub fn new(value: &impl Serialize) -> Result<Self> {
        to_raw_value(value).map(Self).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the value could not be written as JSON").with_source(error)
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// The value as a type of your own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the JSON does not fit the type; the source says where.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.as_str()).map_err(|error| {
            let message = format!("the JSON does not have the shape of {}", std::any::type_name::<T>());
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })
    }
}

impl Default for RawJson {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for RawJson {
    /// Whether the texts are the same.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// From `serde_json` only, and not inside `#[serde(flatten)]` or an untagged enum.
impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(from).map(Self)
    }
}
