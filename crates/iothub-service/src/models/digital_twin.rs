//! Digital twins: devices by their model, IoT Plug and Play (rest.md 10).

use iothub_common::{ETag, Result};
use serde::Serialize;

use super::RawJson;

/// A digital twin: the state of a device in the terms of its model.
///
/// The document has `$dtId` and `$metadata` (with `$model`), the properties at its root and the components as objects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DigitalTwin {
    /// The document as the hub sent it.
    pub document: RawJson,
    /// Changes with every change by the service.
    pub etag: Option<ETag>,
}

/// A change of a digital twin: steps of JSON Patch, done in order.
///
/// Paths are `/property` or `/component/property`; the hub allows no deeper ones.
///
/// ```
/// use iothub_service::DigitalTwinPatch;
///
/// let patch = DigitalTwinPatch::new().add("/targetTemperature", &21.5).remove("/thermostat1/old");
/// # let _ = patch;
/// ```
#[derive(Clone, Debug, Default)]
pub struct DigitalTwinPatch(Vec<Step>);

#[derive(Clone, Debug)]
struct Step {
    op: &'static str,
    path: String,
    /// That it cannot be written as JSON is told when it is sent: setters do not fail.
    value: Option<Result<RawJson>>,
}

impl DigitalTwinPatch {
    /// A patch that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a property that has no value yet (one that has gets this one).
    pub fn add(self, path: impl Into<String>, value: &impl Serialize) -> Self {
        self.step("add", path.into(), Some(RawJson::new(value)))
    }

    /// Sets a property that has a value.
    pub fn replace(self, path: impl Into<String>, value: &impl Serialize) -> Self {
        self.step("replace", path.into(), Some(RawJson::new(value)))
    }

    /// Takes the value of a property away.
    pub fn remove(self, path: impl Into<String>) -> Self {
        self.step("remove", path.into(), None)
    }

    fn step(mut self, op: &'static str, path: String, value: Option<Result<RawJson>>) -> Self {
        self.0.push(Step { op, path, value });
        self
    }

    pub(crate) fn json(&self) -> Result<RawJson> {
        #[derive(Serialize)]
        struct Written<'a> {
            op: &'a str,
            path: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: Option<RawJson>,
        }
        let written = |step: &'_ Step| -> Result<_> { step.value.clone().transpose() };
        let steps =
            self.0.iter().map(|step| Ok(Written { op: step.op, path: &step.path, value: written(step)? }));
        RawJson::new(&steps.collect::<Result<Vec<_>>>()?)
    }
}
