//! Configurations: settings for all devices or modules that fit a condition (rest.md 9, twins.md 6.1).

use std::collections::BTreeMap;

use iothub_common::{ETag, Result};
use serde::{Deserialize, Serialize};

use super::{RawJson, Timestamp, UnknownFields};

/// A configuration as read from the hub.
///
/// Change fields and pass it to [`Registry::update_configuration`](crate::Registry::update_configuration). The id and the
/// content of a configuration cannot be changed: delete it and create another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Configuration {
    /// The id.
    pub id: String,
    /// The version of the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<String>,
    /// Notes of your own.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// What it sets.
    #[serde(default)]
    pub content: ConfigurationContent,
    /// For whom: what comes after `WHERE` in a query, `*` for all devices; for modules beginning with
    /// `FROM devices.modules WHERE`.
    #[serde(default)]
    pub target_condition: Option<String>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time_utc: Option<Timestamp>,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated_time_utc: Option<Timestamp>,
    /// Where two configurations set the same, the higher number wins, then the newer.
    #[serde(default)]
    pub priority: i32,
    /// What the hub counts: `targetedCount`, `appliedCount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_metrics: Option<ConfigurationMetrics>,
    /// What you let it count, up to 5 queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<ConfigurationMetrics>,
    /// Changes with every update of the configuration.
    pub etag: ETag,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// What a configuration sets: exactly one of the three.
///
/// Each is an object from twin paths to what is merged there: `{"properties.desired.interval": {"seconds": 30}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationContent {
    /// For devices.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub device_content: Option<RawJson>,
    /// For modules that are not Edge modules.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub module_content: Option<RawJson>,
    /// For the modules of edge devices, by module id: `{"$edgeAgent": {"properties.desired": …}, …}`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub modules_content: Option<RawJson>,
}

impl ConfigurationContent {
    /// Settings of devices: `{"properties.desired.interval": …}`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when they cannot be written as JSON.
    pub fn for_devices(settings: &impl Serialize) -> Result<Self> {
        Ok(Self { device_content: Some(RawJson::new(settings)?), ..Self::default() })
    }

    /// Settings of modules: `{"properties.desired.interval": …}`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when they cannot be written as JSON.
    pub fn for_modules(settings: &impl Serialize) -> Result<Self> {
        Ok(Self { module_content: Some(RawJson::new(settings)?), ..Self::default() })
    }

    /// A deployment to edge devices: `{"$edgeAgent": {"properties.desired": …}, "myModule": …}`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it cannot be written as JSON.
    pub fn for_edge(modules: &impl Serialize) -> Result<Self> {
        Ok(Self { modules_content: Some(RawJson::new(modules)?), ..Self::default() })
    }
}

/// `null` means the same as nothing.
fn is_absent(content: &Option<RawJson>) -> bool {
    content.as_ref().is_none_or(RawJson::is_null)
}

/// Queries by name, and how many rows each gave when the hub counted last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigurationMetrics {
    /// Rows by name.
    pub results: BTreeMap<String, i64>,
    /// Queries by name.
    pub queries: BTreeMap<String, String>,
}

/// A configuration to create.
#[derive(Clone, Debug)]
pub struct NewConfiguration {
    pub(crate) id: String,
    content: ConfigurationContent,
    target_condition: String,
    priority: i32,
    labels: BTreeMap<String, String>,
    metrics: BTreeMap<String, String>,
}

impl NewConfiguration {
    /// A configuration with this id (lower case, up to 128 characters), priority 0, for no device yet.
    pub fn new(id: impl Into<String>, content: ConfigurationContent) -> Self {
        Self {
            id: id.into(),
            content,
            target_condition: String::new(),
            priority: 0,
            labels: BTreeMap::new(),
            metrics: BTreeMap::new(),
        }
    }

    /// For whom, see [`Configuration::target_condition`].
    pub fn target(mut self, condition: impl Into<String>) -> Self {
        self.target_condition = condition.into();
        self
    }

    /// What wins over what, see [`Configuration::priority`].
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Adds a note of your own.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds a query whose rows the hub shall count; up to 5.
    pub fn metric(mut self, name: impl Into<String>, query: impl Into<String>) -> Self {
        self.metrics.insert(name.into(), query.into());
        self
    }

    pub(crate) fn json(&self) -> Result<RawJson> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            id: &'a str,
            schema_version: &'a str,
            labels: &'a BTreeMap<String, String>,
            content: &'a ConfigurationContent,
            target_condition: &'a str,
            priority: i32,
            metrics: ConfigurationMetrics,
        }
        RawJson::new(&Body {
            id: &self.id,
            // What Node sends (rest.md 9).
            schema_version: "1.0",
            labels: &self.labels,
            content: &self.content,
            target_condition: &self.target_condition,
            priority: self.priority,
            metrics: ConfigurationMetrics { queries: self.metrics.clone(), ..Default::default() },
        })
    }
}

/// Queries of a configuration to be tested, see
/// [`Registry::test_configuration_queries`](crate::Registry::test_configuration_queries).
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationQueries {
    /// See [`Configuration::target_condition`].
    pub target_condition: String,
    /// Metrics: queries by name.
    pub custom_metric_queries: BTreeMap<String, String>,
}

/// What the hub thinks of the queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ConfigurationQueriesTest {
    /// What is wrong with the target condition; `None` or empty when nothing.
    pub target_condition_error: Option<String>,
    /// What is wrong with metrics, by name.
    pub custom_metric_query_errors: Option<BTreeMap<String, Option<String>>>,
}

impl ConfigurationQueriesTest {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        let fine = |error: &Option<String>| error.as_deref().is_none_or(str::is_empty);
        fine(&self.target_condition_error)
            && self.custom_metric_query_errors.iter().flat_map(BTreeMap::values).all(fine)
    }
}
