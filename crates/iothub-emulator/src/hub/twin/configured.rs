//! What configurations do to a twin (twins.md 6.1), and twins that are created together with content.

use std::collections::BTreeMap;

use iothub_common::twin_rules::Section;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::tree::{Branch, Stamp, Writer};
use super::update::{Part, ServiceUpdate};
use super::{Notification, Twin, merged, notification, replaced};
use crate::hub::error::HubError;
use crate::hub::timestamp::Timestamp;

/// Where a configuration stands on one twin.
///
/// Spelled with a capital, as the hub's own metric queries compare it (`configurations.[[id]].status =
/// 'Applied'`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::hub) enum ConfigurationStatus {
    /// The target condition holds, others with more priority have all its settings.
    Targeted,
    /// At least one of its settings is in force.
    Applied,
}

impl ConfigurationStatus {
    pub(in crate::hub) fn text(self) -> &'static str {
        match self {
            Self::Targeted => "Targeted",
            Self::Applied => "Applied",
        }
    }
}

impl Twin {
    /// A twin that is created together with tags and desired properties: its versions are those of a fresh
    /// one (twins.md 3).
    pub(in crate::hub) fn seeded(body: &Value, created: Timestamp, now: Timestamp) -> Result<Self, HubError> {
        let mut twin = Self::fresh(created);
        let update = ServiceUpdate::read(body)?;
        let given = |part: &Option<Part>| matches!(part, Some(Part::Members(members)) if !members.is_empty());
        if given(&update.tags) {
            twin.tags = replaced(Section::Tags, &twin.tags, update.tags, &Stamp::new(now, None))?;
        }
        if given(&update.desired) {
            let stamp = Stamp::new(now, Some(1));
            twin.desired = replaced(Section::Desired, &twin.desired, update.desired, &stamp)?;
        }
        Ok(twin)
    }

    /// A configuration's merge into the desired properties, which must keep the rules for those. Leaves say
    /// who wrote them.
    pub(in crate::hub) fn configure(
        &mut self,
        patch: Map<String, Value>,
        by: Option<Writer>,
        now: Timestamp,
    ) -> Result<Option<Notification>, HubError> {
        let version = self.desired_version + 1;
        let stamp = Stamp { by: by.map(Box::new), ..Stamp::new(now, Some(version)) };
        let part = Part::Members(patch);
        let Some(desired) = merged(Section::Desired, &self.desired, Some(&part), &stamp)? else {
            return Ok(None);
        };
        self.desired = desired;
        self.desired_version = version;
        self.writes += 1;
        let Part::Members(told) = part else { return Ok(None) };
        Ok(Some(notification(told, version)))
    }

    pub(in crate::hub) fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// The desired properties as they are.
    pub(in crate::hub) fn desired(&self) -> &Branch {
        &self.desired
    }

    /// The configurations that target it, in the order of ids.
    pub(in crate::hub) fn configurations(&self) -> impl Iterator<Item = (&String, &ConfigurationStatus)> {
        self.configurations.iter()
    }

    /// Whether exactly these target it.
    pub(in crate::hub) fn has_configurations(&self, these: &BTreeMap<String, ConfigurationStatus>) -> bool {
        self.configurations == *these
    }

    /// Replaces the desired properties and leaves the tags.
    pub(in crate::hub) fn replace_desired(
        &mut self,
        desired: &Value,
        now: Timestamp,
    ) -> Result<Notification, HubError> {
        let tags = Value::Object(self.tags.values());
        self.replace(&json!({ "tags": tags, "properties": { "desired": desired } }), now)
    }

    /// What the twin shows under `configurations`; absent when none targets it.
    pub(super) fn configurations_json(&self) -> Option<Value> {
        if self.configurations.is_empty() {
            return None;
        }
        let status = |status: &ConfigurationStatus| json!({ "status": status.text() });
        Some(self.configurations.iter().map(|(id, s)| (id.clone(), status(s))).collect::<Map<_, _>>().into())
    }

    /// Says anew which configurations target it.
    pub(in crate::hub) fn set_configurations(&mut self, statuses: BTreeMap<String, ConfigurationStatus>) {
        self.configurations = statuses;
    }
}
