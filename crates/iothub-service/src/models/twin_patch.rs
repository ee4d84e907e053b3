//! What a twin shall become: a patch or a whole new content (twins.md 2.1, 2.3).

use bytes::Bytes;
use iothub_common::twin_rules::{self, Section};
use iothub_common::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::Twin;

/// Keys at the top of a section that the hub writes when it is read and ignores when it is sent back (twins.md 2.5).
const IGNORED: [&str; 2] = ["$version", "$metadata"];

/// A change to a twin: objects merge, other values replace, `null` removes.
///
/// Sections that are not set stay as they are. What the device reported cannot be changed from the service.
///
/// ```
/// use iothub_service::TwinPatch;
/// use serde_json::json;
///
/// let patch = TwinPatch::new()
///     .tags(&json!({ "site": "north", "old": null }))
///     .desired(&json!({ "interval": { "seconds": 30 } }));
/// # let _ = patch;
/// ```
///
/// Keys and values are checked before anything is sent: keys up to 1024 bytes without control characters, `.`, `$`,
/// `#` or spaces; texts up to 4096 bytes; integers within ±2⁵²; at most 10 levels; no `null` inside arrays.
/// `$version` and `$metadata`, as read from a twin, may stay in `desired`: the hub ignores them.
#[derive(Clone, Debug, Default)]
pub struct TwinPatch(Sections);

impl TwinPatch {
    /// A patch that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Merges this into the tags. A second call replaces the first.
    pub fn tags(mut self, tags: &impl Serialize) -> Self {
        self.0.tags = Some(Part::new(tags));
        self
    }

    /// Merges this into the desired properties. A second call replaces the first.
    pub fn desired(mut self, desired: &impl Serialize) -> Self {
        self.0.desired = Some(Part::new(desired));
        self
    }

    pub(crate) fn body(&self) -> Result<Bytes> {
        self.0.body()
    }
}

/// The whole new content of a twin: its tags and its desired properties.
///
/// **A section that is not set is emptied.** To keep one, start from a twin that was read:
/// `TwinContent::from(&twin)`, and use the etag of that twin so that no other change gets lost.
/// The checks are those of [`TwinPatch`].
#[derive(Clone, Debug, Default)]
pub struct TwinContent(Sections);

impl TwinContent {
    /// An empty content.
    pub fn new() -> Self {
        Self::default()
    }

    /// The new tags.
    pub fn tags(mut self, tags: &impl Serialize) -> Self {
        self.0.tags = Some(Part::new(tags));
        self
    }

    /// The new desired properties.
    pub fn desired(mut self, desired: &impl Serialize) -> Self {
        self.0.desired = Some(Part::new(desired));
        self
    }

    pub(crate) fn body(&self) -> Result<Bytes> {
        // Both sections are written, also an empty one, so that nothing hangs on how the hub reads a missing one.
        let empty = Part::new(&serde_json::Map::new());
        let whole = Sections {
            tags: Some(self.0.tags.clone().unwrap_or_else(|| empty.clone())),
            desired: Some(self.0.desired.clone().unwrap_or(empty)),
        };
        whole.body()
    }
}

impl From<&Twin> for TwinContent {
    fn from(twin: &Twin) -> Self {
        Self::new().tags(&twin.tags).desired(&twin.properties.desired)
    }
}

#[derive(Clone, Debug, Default)]
struct Sections {
    tags: Option<Part>,
    desired: Option<Part>,
}

impl Sections {
    /// Checks both sections, then writes the body.
    fn body(&self) -> Result<Bytes> {
        let tags = self.tags.as_ref().map(|part| part.checked(Section::Tags, "tags")).transpose()?;
        let desired = self
            .desired
            .as_ref()
            .map(|part| part.checked(Section::Desired, "desired properties"))
            .transpose()?;
        let body = Body { tags, properties: desired.map(|desired| Properties { desired }) };
        serde_json::to_vec(&body).map(Bytes::from).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the twin could not be written as JSON").with_source(error)
        })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
}

#[derive(Serialize)]
struct Properties<'a> {
    desired: &'a RawValue,
}

/// One section. That a value cannot be written as JSON is told when it is sent: setters do not fail.
#[derive(Clone, Debug)]
struct Part(std::result::Result<Box<RawValue>, String>);

impl Part {
    fn new(value: &impl Serialize) -> Self {
        Self(to_raw_value(value).map_err(|error| error.to_string()))
    }

    fn checked(&self, section: Section, name: &str) -> Result<&RawValue> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidInput, format!("the {name} {why}"));
        let raw = self
            .0
            .as_ref()
            .map_err(|why| invalid("could not be written as JSON").with_source(why.as_str()))?;
        let mut value: Value = serde_json::from_str(raw.get())
            .map_err(|e| invalid("could not be read as JSON").with_source(e))?;
        match &mut value {
            // Clears the section (twins.md 2.3).
            Value::Null => return Ok(raw),
            Value::Object(members) => members.retain(|key, _| !IGNORED.contains(&key.as_str())),
            _ => {}
        }
        twin_rules::check_patch(section, &value)?;
        Ok(raw)
    }
}

#[cfg(test)]
mod tests;
