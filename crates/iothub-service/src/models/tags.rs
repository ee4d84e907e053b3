//! The tags of a twin, raw.

use std::fmt;

use iothub_common::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The tags of a twin: a JSON object, kept exactly as the hub sent it.
///
/// `Display` shows the JSON. A twin without tags has `{}`.
#[derive(Clone, Debug, Default)]
pub struct Tags(Option<Box<RawValue>>);

impl Tags {
    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("{}", |raw| raw.get())
    }

    /// The tags as `T`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when they do not fit `T`; the source names the field.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.as_str()).map_err(|error| {
            let message = format!("the tags do not have the shape of {}", std::any::type_name::<T>());
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(raw) => raw.serialize(to),
            None => serde_json::Map::new().serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The hub leaves empty tags out (twins.md 1.1); `null` is read alike.
        Option::<Box<RawValue>>::deserialize(from).map(Self)
    }
}
