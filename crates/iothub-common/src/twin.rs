//! Twin documents: JSON kept as the hub sent it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

/// One section of a twin, or a change of one: a JSON object with its `$version`.
///
/// The JSON is kept untouched, so that big integers, the order of keys, and dates stay as the other side
/// wrote them. `Display` prints it.
///
/// As a field it deserializes from `serde_json` only, and not inside `#[serde(flatten)]` or an untagged enum.
#[derive(Clone)]
pub struct Properties {
    json: Box<RawValue>,
    version: u64,
}

/// Both sections of a twin that a device or module sees.
///
/// `Display` prints `{"desired":…,"reported":…}`. A section that is missing in JSON counts as empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TwinProperties {
    /// What the service wants. Only the service changes it.
    pub desired: Properties,
    /// What the device or module says about itself. Only that changes it.
    pub reported: Properties,
}

impl Properties {
    /// Reads a section from JSON text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] when it is no JSON object.
    pub fn from_slice(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|e| not_understood("twin properties", e))
    }

    /// The section's `$version`, which grows by one with each change; 0 when the JSON has none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.json.get()
    }

    /// The whole object as a type of your own, or as `serde_json::Value`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the JSON does not fit the type; the source says where.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.as_str()).map_err(|e| does_not_fit::<T>("the twin properties", e))
    }

    /// One member of the object. `None` when it is absent or null; null in a change means that it was removed,
    /// see [`contains`](Self::contains).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the value does not fit the type; the source says where.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.member(name)? {
            None => Ok(None),
            Some(json) if json.get() == "null" => Ok(None),
            Some(json) => serde_json::from_str(json.get())
                .map(Some)
                .map_err(|e| does_not_fit::<T>(&format!("the twin property `{name}`"), e)),
        }
    }

    /// Whether the object has this member, null included.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        matches!(self.member(name), Ok(Some(_)))
    }

    fn member(&self, name: &str) -> Result<Option<Box<RawValue>>> {
        let mut members: BTreeMap<String, Box<RawValue>> = self.to()?;
        Ok(members.remove(name))
    }
}

impl TwinProperties {
    /// Reads `{"desired":…,"reported":…}`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] when it is something else.
    pub fn from_slice(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|e| not_understood("a twin", e))
    }
}

fn not_understood(what: &str, e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Protocol, format!("what was to be {what} could not be read")).with_source(e)
}

fn does_not_fit<T>(what: &str, e: serde_json::Error) -> Error {
    let wanted = std::any::type_name::<T>();
    Error::new(ErrorKind::InvalidInput, format!("{what} could not be read as {wanted}")).with_source(e)
}

impl Default for Properties {
    /// An empty object without a version.
    fn default() -> Self {
        // `{}` is JSON: this cannot fail.
        let json = RawValue::from_string("{}".to_owned()).expect("`{}` is JSON");
        Self { json, version: 0 }
    }
}

impl FromStr for Properties {
    type Err = Error;

    fn from_str(json: &str) -> Result<Self> {
        Self::from_slice(json.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "$version", default)]
            version: Option<serde_json::Value>,
        }

        let json = Box::<RawValue>::deserialize(deserializer)?;
        if !json.get().starts_with('{') {
            return Err(D::Error::custom("twin properties must be a JSON object"));
        }
        let found: Version = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        let version = found.version.and_then(|v| v.as_u64()).unwrap_or(0);
        Ok(Self { json, version })
    }
}

impl<'de> Deserialize<'de> for TwinProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Sections {
            #[serde(default)]
            desired: Properties,
            #[serde(default)]
            reported: Properties,
        }

        // A derived struct would take an array too, an object is meant.
        let object = Properties::deserialize(deserializer)?;
        let Sections { desired, reported } =
            serde_json::from_str(object.as_str()).map_err(D::Error::custom)?;
        Ok(Self { desired, reported })
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl fmt::Display for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TwinProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"desired":{},"reported":{}}}"#, self.desired, self.reported)
    }
}

#[cfg(test)]
mod tests;
