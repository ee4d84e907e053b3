//! What a twin shall become: a patch or a whole new content (twins.md 2.1, 2.3).

use bytes::Bytes;
use iothub_common::Result;
use iothub_common::twin_rules::{self, Section};
use serde::Serialize;
use serde_json::Value;

use super::{RawJson, Twin, method};

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
        self.0.json(None).map(|json| method::body(&json))
    }

    /// The patch with an etag beside it, as jobs want it.
    pub(crate) fn json_with_etag(&self, etag: &str) -> Result<RawJson> {
        self.0.json(Some(etag))
    }

    /// The two sections, checked.
    pub(crate) fn sections(&self) -> Result<(Option<RawJson>, Option<RawJson>)> {
        self.0.checked()
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
        whole.json(None).map(|json| method::body(&json))
    }

    /// The two sections, checked.
    pub(crate) fn sections(&self) -> Result<(Option<RawJson>, Option<RawJson>)> {
        self.0.checked()
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
    fn checked(&self) -> Result<(Option<RawJson>, Option<RawJson>)> {
        let checked = |part: &Option<Part>, section, name| match part {
            Some(part) => part.checked(section, name).map(Some),
            None => Ok(None),
        };
        let tags = checked(&self.tags, Section::Tags, "tags")?;
        let desired = checked(&self.desired, Section::Desired, "desired properties")?;
        Ok((tags, desired))
    }

    /// Checks both sections, then writes the body.
    fn json(&self, etag: Option<&str>) -> Result<RawJson> {
        let (tags, desired) = self.checked()?;
        RawJson::new(&Body { etag, tags, properties: desired.map(|desired| Properties { desired }) })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties>,
}

#[derive(Serialize)]
struct Properties {
    desired: RawJson,
}

/// One section. That a value cannot be written as JSON is told when it is sent: setters do not fail.
#[derive(Clone, Debug)]
struct Part(Result<RawJson>);

impl Part {
    fn new(value: &impl Serialize) -> Self {
        Self(RawJson::new(value))
    }

    fn checked(&self, section: Section, name: &str) -> Result<RawJson> {
        let json = self.0.clone().map_err(|error| error.context(format!("the {name} cannot be sent")))?;
        let mut value: Value =
            json.to().map_err(|error| error.context(format!("the {name} could not be read as JSON")))?;
        match &mut value {
            // Clears the section (twins.md 2.3).
            Value::Null => return Ok(json),
            Value::Object(members) => members.retain(|key, _| !IGNORED.contains(&key.as_str())),
            _ => {}
        }
        twin_rules::check_patch(section, &value)?;
        Ok(json)
    }
}

#[cfg(test)]
mod tests;
