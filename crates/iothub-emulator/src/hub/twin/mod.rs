//! A twin and the rules of writing it (twins.md 1 to 3). Pure: the caller passes the time.

mod configured;
mod document;
mod lookup;
mod size;
mod tree;
mod update;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use iothub_common::twin_rules::Section;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(super) use configured::ConfigurationStatus;
pub(super) use document::{Member, Subject, root_document};
pub(super) use lookup::{Found, Place};
pub(super) use tree::{Branch, Writer};
pub(super) use update::check_update;

use self::tree::Stamp;
use self::update::{Part, ServiceUpdate};
use super::error::{HubError, json_bytes};
use super::timestamp::Timestamp;

/// The writable part of a twin. What its identity adds to the document is in [`root_document`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Twin {
    /// Counts service writes; the root `version` is this plus `reported_version` (twins.md 2.2).
    writes: u64,
    tags: Branch,
    desired: Branch,
    desired_version: u64,
    reported: Branch,
    reported_version: u64,
    /// The configurations that target it, by id.
    #[serde(default)]
    configurations: BTreeMap<String, ConfigurationStatus>,
}

/// What a connected device is told about a write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notification {
    pub(super) version: u64,
    pub(super) body: Bytes,
}

impl Twin {
    /// A twin nobody wrote to yet. `created` is what its metadata show until then: the time of creation on
    /// devices, [`Timestamp::NEVER`] on modules (twins.md 3).
    pub(super) fn fresh(created: Timestamp) -> Self {
        let section = Branch::empty(&Stamp::new(created, None));
        Self {
            writes: 1,
            tags: section.clone(),
            desired: section.clone(),
            desired_version: 1,
            reported: section,
            reported_version: 1,
            configurations: BTreeMap::new(),
        }
    }

    /// Base64 of the number of service writes, as 8 bytes, big-endian.
    pub(super) fn etag(&self) -> String {
        STANDARD.encode(self.writes.to_be_bytes())
    }

    fn version(&self) -> u64 {
        self.writes + self.reported_version
    }

    /// A service's PATCH. Nothing changes when it is refused, or when nothing in it is effective.
    pub(super) fn patch(&mut self, body: &Value, now: Timestamp) -> Result<Option<Notification>, HubError> {
        let update = ServiceUpdate::read(body)?;
        let desired_version = self.desired_version + 1;
        let tags_stamp = Stamp::new(now, None);
        let desired_stamp = Stamp::new(now, Some(desired_version));

        let tags = merged(Section::Tags, &self.tags, update.tags.as_ref(), &tags_stamp)?;
        let desired = merged(Section::Desired, &self.desired, update.desired.as_ref(), &desired_stamp)?;
        if tags.is_some() || desired.is_some() {
            self.writes += 1;
        }
        if let Some(tags) = tags {
            self.tags = tags;
        }
        let Some(desired) = desired else { return Ok(None) };
        let before = std::mem::replace(&mut self.desired, desired);
        self.desired_version = desired_version;
        // The patch as it was sent, with its nulls and unchanged values (twins.md 2.4).
        let told = match update.desired {
            Some(Part::Members(patch)) => patch,
            // Clearing has no form of its own there: null for all that was (inferred).
            _ => before.names().map(|name| (name.clone(), Value::Null)).collect(),
        };
        Ok(Some(notification(told, desired_version)))
    }

    /// A service's PUT: tags and desired become what the body says, a part it does not name becomes empty.
    pub(super) fn replace(&mut self, body: &Value, now: Timestamp) -> Result<Notification, HubError> {
        let update = ServiceUpdate::read(body)?;
        let version = self.desired_version + 1;
        let tags = replaced(Section::Tags, &self.tags, update.tags, &Stamp::new(now, None))?;
        let stamp = Stamp::new(now, Some(version));
        let desired = replaced(Section::Desired, &self.desired, update.desired, &stamp)?;

        let told = desired.existence_diff(&self.desired);
        self.tags = tags;
        self.desired = desired;
        self.desired_version = version;
        self.writes += 1;
        Ok(notification(told, version))
    }

    /// A device's PATCH. Counts even when it changes nothing, and leaves the etag (twins.md 2.1, 2.2).
    pub(super) fn report(&mut self, body: &Value, now: Timestamp) -> Result<u64, HubError> {
        let patch = update::read_report(body)?;
        let stamp = Stamp::new(now, None);
        let mut reported = self.reported.clone();
        reported.merge(&patch, &stamp);
        reported.touch(&stamp);
        size::check(Section::Reported, &self.reported, &reported)?;
        self.reported = reported;
        self.reported_version += 1;
        Ok(self.reported_version)
    }

    /// What the device itself sees: no tags, no metadata (twins.md 1.1).
    pub(super) fn device_document(&self) -> Value {
        let section = |branch: &Branch, version: u64| Value::Object(with_version(branch.values(), version));
        let mut document = Map::new();
        document.insert("desired".to_owned(), section(&self.desired, self.desired_version));
        document.insert("reported".to_owned(), section(&self.reported, self.reported_version));
        Value::Object(document)
    }

    /// `properties` as the service sees them.
    fn properties(&self) -> Value {
        let mut properties = Map::new();
        properties.insert("desired".to_owned(), with_metadata(&self.desired, self.desired_version));
        properties.insert("reported".to_owned(), with_metadata(&self.reported, self.reported_version));
        Value::Object(properties)
    }
}

/// The section after a PATCH, `None` when the patch has no effect on it.
fn merged(
    section: Section,
    before: &Branch,
    part: Option<&Part>,
    stamp: &Stamp,
) -> Result<Option<Branch>, HubError> {
    let after = match part {
        None => return Ok(None),
        Some(Part::Clear) if before.is_empty() => return Ok(None),
        Some(Part::Clear) => Branch::empty(stamp),
        Some(Part::Members(patch)) => {
            let mut after = before.clone();
            if !after.merge(patch, stamp) {
                return Ok(None);
            }
            after
        }
    };
    size::check(section, before, &after)?;
    Ok(Some(after))
}

/// The section after a PUT.
fn replaced(
    section: Section,
    before: &Branch,
    part: Option<Part>,
    stamp: &Stamp,
) -> Result<Branch, HubError> {
    let after = match part {
        Some(Part::Members(members)) => Branch::new(&members, stamp),
        Some(Part::Clear) | None => Branch::empty(stamp),
    };
    size::check(section, before, &after)?;
    Ok(after)
}

fn notification(told: Map<String, Value>, version: u64) -> Notification {
    Notification { version, body: json_bytes(&Value::Object(with_version(told, version))) }
}

/// A section of properties as the service sees it.
fn with_metadata(branch: &Branch, version: u64) -> Value {
    let mut members = branch.values();
    members.insert("$metadata".to_owned(), Value::Object(branch.metadata()));
    Value::Object(with_version(members, version))
}

fn with_version(mut members: Map<String, Value>, version: u64) -> Map<String, Value> {
    members.insert("$version".to_owned(), version.into());
    members
}
