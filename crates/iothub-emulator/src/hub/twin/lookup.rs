//! Reading single values of a twin, without building its document.

use serde_json::Value;

use super::{Branch, Twin, with_metadata};

pub(in crate::hub) use super::tree::Found;

/// Where in a twin a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Place {
    Tags,
    Desired,
    Reported,
}

impl Twin {
    /// A property or tag. `$version` and `$metadata` are not found here, see [`hub_value`](Self::hub_value).
    /// The sections themselves are there even when they are empty.
    pub(in crate::hub) fn find(&self, place: Place, path: &[String]) -> Option<Found<'_>> {
        self.section(place).0.find(path)
    }

    /// What the hub adds to a section of properties: `$version`, and anything below `$metadata`.
    pub(in crate::hub) fn hub_value(&self, place: Place, path: &[String]) -> Option<Value> {
        let (branch, version) = self.section(place);
        let version = version?;
        match path.split_first()? {
            (first, []) if first == "$version" => Some(version.into()),
            (first, rest) if first == "$metadata" => branch.find_metadata(rest),
            _ => None,
        }
    }

    /// A whole section as services see it.
    pub(in crate::hub) fn section_json(&self, place: Place) -> Value {
        match self.section(place) {
            (branch, Some(version)) => with_metadata(branch, version),
            (branch, None) => branch.values().into(),
        }
    }

    fn section(&self, place: Place) -> (&Branch, Option<u64>) {
        match place {
            Place::Tags => (&self.tags, None),
            Place::Desired => (&self.desired, Some(self.desired_version)),
            Place::Reported => (&self.reported, Some(self.reported_version)),
        }
    }
}
