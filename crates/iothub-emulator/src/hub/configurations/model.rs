//! A configuration: what a PUT says about it, and how the hub shows it (rest.md 9).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::content::Content;
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::query::{Condition, Query, Source};
use crate::hub::timestamp::Timestamp;

const MAX_ID: usize = 128;
const FORBIDDEN_IN_ID: &str = "&^[]{}\\|\"<>/ ";
/// Custom metrics of one configuration.
const MAX_METRICS: usize = 5;

/// Desired properties for all twins that meet a condition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Configuration {
    pub(super) spec: Spec,
    pub(super) content: Content,
    /// As it was given.
    content_json: Value,
    schema_version: String,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    etag: u64,
    pub(super) counts: Counts,
}

/// What can change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    labels: Map<String, Value>,
    pub(super) target_condition: String,
    pub(super) priority: u64,
    /// Names and queries.
    pub(super) metrics: Vec<(String, String)>,
}

/// What the last run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) targeted: u64,
    pub(super) applied: u64,
    /// By custom metric.
    pub(super) metrics: Vec<(String, u64)>,
}

impl Configuration {
    pub(super) fn create(body: &Value, etag: u64, now: Timestamp) -> Result<Self, HubError> {
        let members = object(body)?;
        let content_json = given(members, "content").cloned().unwrap_or(Value::Null);
        let content = Content::read(&content_json)?;
        let spec = Spec::read(members, &content)?;
        let schema_version = text(members, "schemaVersion")?.unwrap_or_else(|| "1.0".to_owned());
        let counts = Counts::default();
        Ok(Self {
            spec,
            content,
            content_json: without_nulls(content_json),
            schema_version,
            created: now,
            updated: now,
            etag,
            counts,
        })
    }

    /// All but id and content can change; content may be sent along when it is the same (twins.md 6.1).
    pub(super) fn update(&mut self, body: &Value, etag: u64, now: Timestamp) -> Result<(), HubError> {
        let members = object(body)?;
        if let Some(content) = given(members, "content")
            && without_nulls(content.clone()) != self.content_json
        {
            return Err(HubError::new(
                ErrorCode::CannotModifyImmutableConfigurationContent,
                "the content of a configuration cannot change, make a new one with another id",
            ));
        }
        self.spec = Spec::read(members, &self.content)?;
        self.updated = now;
        self.etag = etag;
        Ok(())
    }

    /// Base64 of a decimal number, as identities have it.
    pub(super) fn etag(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    pub(super) fn to_json(&self, id: &str) -> Value {
        let Counts { targeted, applied, metrics } = &self.counts;
        let queries: Map<_, _> =
            self.spec.metrics.iter().map(|(name, query)| (name.clone(), query.as_str().into())).collect();
        let results: Map<_, _> =
            metrics.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
        json!({
            "id": id,
            "schemaVersion": self.schema_version,
            "labels": self.spec.labels,
            "content": self.content_json,
            "contentType": "assignment",
            "targetCondition": self.spec.target_condition,
            "createdTimeUtc": self.created.for_twin(),
            "lastUpdatedTimeUtc": self.updated.for_twin(),
            "priority": self.spec.priority,
            "systemMetrics": {
                "results": { "targetedCount": targeted, "appliedCount": applied },
                "queries": self.system_queries(id),
            },
            "metrics": { "results": results, "queries": queries },
            "etag": self.etag(),
        })
    }

    fn system_queries(&self, id: &str) -> Value {
        let rows = match self.content {
            Content::Modules(_) => "select deviceId, moduleId from devices.modules",
            Content::Devices(_) | Content::Edge => "select deviceId from devices",
        };
        let mut queries = Map::new();
        let condition = self.spec.target_condition.trim();
        let targeted = match condition {
            "" => None,
            "*" => Some(rows.to_owned()),
            // `FROM devices.modules WHERE …`: the source is in it.
            _ if matches!(self.content, Content::Modules(_)) => {
                Some(format!("select deviceId, moduleId {condition}"))
            }
            _ => Some(format!("{rows} where {condition}")),
        };
        if let Some(targeted) = targeted {
            queries.insert("targetedCount".to_owned(), targeted.into());
        }
        let applied = format!("{rows} where configurations.[[{id}]].status = 'Applied'");
        queries.insert("appliedCount".to_owned(), applied.into());
        queries.into()
    }
}

impl Spec {
    fn read(members: &Map<String, Value>, content: &Content) -> Result<Self, HubError> {
        let target_condition = text(members, "targetCondition")?.unwrap_or_default();
        condition(&target_condition, content)?;
        let priority = match given(members, "priority") {
            None => 0,
            Some(priority) => {
                priority.as_u64().ok_or_else(|| invalid("priority must be a whole number from 0"))?
            }
        };
        Ok(Self { labels: labels(members)?, target_condition, priority, metrics: metrics(members)? })
    }
}

/// The condition as it can be evaluated; `None` targets nothing.
pub(super) fn condition(text: &str, content: &Content) -> Result<Option<Condition>, HubError> {
    let source = match content {
        Content::Devices(_) | Content::Edge => Source::Devices,
        Content::Modules(_) => Source::Modules,
    };
    let condition = match text.trim() {
        "" => return Ok(None),
        "*" => return Ok(Some(Condition::all(source))),
        _ => Condition::parse(text).map_err(|error| invalid_condition(error.text))?,
    };
    if condition.source() == source {
        return Ok(Some(condition));
    }
    Err(invalid_condition(match source {
        Source::Modules => "for moduleContent it must start with FROM devices.modules WHERE",
        Source::Devices | Source::Jobs => "it must be a condition on device twins, like tags.a = 'b'",
    }))
}

/// A query whose rows are counted.
pub(super) fn metric(name: &str, query: &str) -> Result<Query, HubError> {
    Query::parse(query).map_err(|error| {
        let text = format!("metric '{name}': {}", error.text);
        HubError::new(ErrorCode::InvalidConfigurationCustomMetricsQuery, text)
    })
}

/// Lower case, up to 128 characters, without those that are special in URLs and queries (twins.md 6.1).
pub(super) fn check_id(id: &str) -> Result<(), HubError> {
    let is_bad = |c: char| c.is_uppercase() || c.is_control() || FORBIDDEN_IN_ID.contains(c);
    if !id.is_empty() && id.chars().count() <= MAX_ID && !id.contains(is_bad) {
        return Ok(());
    }
    Err(invalid(format!(
        "the id of a configuration has 1 to {MAX_ID} characters, no upper case, no space and none of & ^ [ ] {{ }} \
         \\ | \" < > /"
    )))
}

/// An id in the body must be the one in the path.
pub(super) fn check_same_id(body: &Value, id: &str) -> Result<(), HubError> {
    match text(object(body)?, "id")? {
        Some(given) if given != id => {
            Err(invalid(format!("id in the body must be the one in the path, '{id}'")))
        }
        _ => Ok(()),
    }
}

fn labels(members: &Map<String, Value>) -> Result<Map<String, Value>, HubError> {
    match given(members, "labels") {
        None => Ok(Map::new()),
        Some(Value::Object(labels)) if labels.values().all(Value::is_string) => Ok(labels.clone()),
        Some(_) => Err(invalid("labels must be an object of strings")),
    }
}

/// `results` are the hub's own and passed over.
fn metrics(members: &Map<String, Value>) -> Result<Vec<(String, String)>, HubError> {
    let Some(metrics) = given(members, "metrics") else { return Ok(Vec::new()) };
    let metrics = metrics.as_object().ok_or_else(|| invalid("metrics must be an object"))?;
    let Some(queries) = given(metrics, "queries") else { return Ok(Vec::new()) };
    let queries = queries.as_object().ok_or_else(|| invalid("metrics.queries must be an object"))?;
    if queries.len() > MAX_METRICS {
        return Err(HubError::new(
            ErrorCode::InvalidConfigurationCustomMetricsQuery,
            format!("{} custom metrics, at most {MAX_METRICS} are allowed", queries.len()),
        ));
    }
    let read = |(name, query): (&String, &Value)| {
        let query =
            query.as_str().ok_or_else(|| invalid(format!("metrics.queries.{name} must be a string")))?;
        metric(name, query)?;
        Ok((name.clone(), query.to_owned()))
    };
    queries.iter().map(read).collect()
}

/// A member that is there and not null.
pub(super) fn given<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

pub(super) fn text(members: &Map<String, Value>, name: &str) -> Result<Option<String>, HubError> {
    match given(members, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(invalid(format!("{name} must be a string"))),
    }
}

/// The body of a request as an object.
pub(super) fn object(body: &Value) -> Result<&Map<String, Value>, HubError> {
    match body {
        Value::Object(members) => Ok(members),
        Value::Null => Err(HubError::new(ErrorCode::ArgumentNull, "the request needs a body, a JSON object")),
        _ => Err(invalid("the body must be a JSON object")),
    }
}

/// C# sends the kinds of content that are not used as null.
fn without_nulls(mut content: Value) -> Value {
    if let Value::Object(members) = &mut content {
        members.retain(|_, value| !value.is_null());
    }
    content
}

fn invalid_condition(text: impl AsRef<str>) -> HubError {
    let text = format!("targetCondition: {}", text.as_ref());
    HubError::new(ErrorCode::InvalidConfigurationTargetCondition, text)
}

fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
