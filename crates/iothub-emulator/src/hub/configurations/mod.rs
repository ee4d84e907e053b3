//! Automatic configurations: desired properties for all twins that meet a condition (twins.md 6.1, rest.md 9).

mod content;
mod edge;
mod model;
mod plan;
mod run;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use self::content::Content;
use self::model::Configuration;
use super::Hub;
use super::error::{ErrorCode, HubError};
use super::precondition::Precondition;

/// Configurations of one hub.
const MAX_CONFIGURATIONS: usize = 100;
/// Between two runs.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// All configurations of a hub.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    all: BTreeMap<String, Configuration>,
    last_etag: u64,
    next_run: Option<SystemTime>,
}

impl Configurations {
    /// Forgets all; their settings are to be gone already.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

impl Hub {
    /// Creates a configuration, or updates it when `pre` is an `If-Match`, and applies it to all twins it targets.
    ///
    /// # Errors
    ///
    /// 400004 for a bad id or member, 400401 for the condition, 400402 for the content, 400404 for a metric, 409401
    /// when it exists, 413101 for the 101st, and on updates 404301, 412001, 400403 for another content.
    pub fn put_configuration(&self, id: &str, body: &Value, pre: Precondition) -> Result<Value, HubError> {
        let now = self.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.configurations.put(id, body, &pre, now)?;
        self.run_now(inner, now);
        inner.configurations.get(id)
    }

    /// Reads a configuration; its metrics are those of the last run.
    ///
    /// # Errors
    ///
    /// 404301.
    pub fn get_configuration(&self, id: &str) -> Result<Value, HubError> {
        self.lock().configurations.get(id)
    }

    /// Configurations in the order of ids; a `top` outside of 1 to 100 counts as 100.
    pub fn list_configurations(&self, top: usize) -> Vec<Value> {
        let top = if (1..=MAX_CONFIGURATIONS).contains(&top) { top } else { MAX_CONFIGURATIONS };
        let inner = self.lock();
        let all = inner.configurations.all.iter().take(top);
        all.map(|(id, configuration)| configuration.to_json(id)).collect()
    }

    /// Deletes a configuration and removes its settings from all twins.
    ///
    /// # Errors
    ///
    /// 404301, 412001.
    pub fn delete_configuration(&self, id: &str, pre: Precondition) -> Result<(), HubError> {
        let now = self.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        let configuration = inner.configurations.all.get(id).ok_or_else(|| not_found(id))?;
        pre.check(&configuration.etag())?;
        inner.configurations.all.remove(id);
        self.run_now(inner, now);
        Ok(())
    }

    /// Says what is wrong with the condition and the metric queries of a configuration to be:
    /// `{"targetConditionError":…,"customMetricQueryErrors":{…}}`.
    ///
    /// # Errors
    ///
    /// 400004 when members have the wrong type.
    pub fn test_configuration_queries(&self, body: &Value) -> Result<Value, HubError> {
        let members = model::object(body)?;
        let condition = model::text(members, "targetCondition")?.unwrap_or_default();
        // Which kind of content it is for is not said: either may be right.
        let error = [Content::Devices(Vec::new()), Content::Modules(Vec::new())]
            .iter()
            .map(|content| model::condition(&condition, content).err())
            .reduce(|first, second| if second.is_some() { first } else { None })
            .flatten();
        let mut metric_errors = Map::new();
        if let Some(Value::Object(queries)) = model::given(members, "customMetricQueries") {
            for (name, query) in queries {
                if let Err(error) = model::metric(name, query.as_str().unwrap_or_default()) {
                    metric_errors.insert(name.clone(), error.text.into());
                }
            }
        }
        Ok(json!({
            "targetConditionError": error.map(|error| error.text),
            "customMetricQueryErrors": metric_errors,
        }))
    }

    /// Runs the configurations when it is time: every five minutes, as long as there are any.
    pub(super) fn run_due_configurations(&self) {
        let now = self.now();
        let mut inner = self.lock();
        if inner.configurations.next_run.is_some_and(|next| next <= now) {
            self.run_now(&mut inner, now);
        }
    }

    /// When the next run is due.
    pub(super) fn next_configuration_run(&self) -> Option<SystemTime> {
        self.lock().configurations.next_run
    }

    fn run_now(&self, inner: &mut super::Inner, now: SystemTime) {
        inner.run_configurations(now.into());
        let next = now.checked_add(INTERVAL);
        inner.configurations.next_run = next.filter(|_| !inner.configurations.all.is_empty());
        self.shared.schedule.notify_one();
    }
}

impl Configurations {
    fn put(&mut self, id: &str, body: &Value, pre: &Precondition, now: SystemTime) -> Result<(), HubError> {
        model::check_id(id)?;
        model::check_same_id(body, id)?;
        let etag = self.last_etag + 1;
        match self.all.get_mut(id) {
            None if !pre.may_create() => return Err(not_found(id)),
            None => {
                if self.all.len() >= MAX_CONFIGURATIONS {
                    return Err(too_many());
                }
                self.all.insert(id.to_owned(), Configuration::create(body, etag, now.into())?);
            }
            Some(_) if pre.may_create() => {
                let text = format!("{id} exists already, send If-Match to update it");
                return Err(HubError::new(ErrorCode::ConfigurationAlreadyExists, text));
            }
            Some(configuration) => {
                pre.check(&configuration.etag())?;
                configuration.update(body, etag, now.into())?;
            }
        }
        self.last_etag = etag;
        Ok(())
    }

    fn get(&self, id: &str) -> Result<Value, HubError> {
        self.all.get(id).map(|configuration| configuration.to_json(id)).ok_or_else(|| not_found(id))
    }
}

fn not_found(id: &str) -> HubError {
    HubError::new(ErrorCode::ConfigurationNotFound, id)
}

/// The real hub's words.
fn too_many() -> HubError {
    HubError::new(
        ErrorCode::ConfigurationCountLimitExceeded,
        format!("Number of deployments exceed the maximum quota {MAX_CONFIGURATIONS} for this IotHub."),
    )
}
