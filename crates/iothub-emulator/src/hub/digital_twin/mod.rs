//! Digital twins: a twin in the terms of the device's model (rest.md 10).
//!
//! Components are objects with `"__t":"c"` in the twin; a device acknowledges a writable property by reporting
//! `{"value":…,"ac":…,"av":…,"ad":…}` for it.

mod document;
mod patch;

#[cfg(test)]
mod tests;

use iothub_common::Identity;
use serde_json::{Value, json};

use super::Hub;
use super::error::HubError;
use super::precondition::Precondition;
use super::twin::Place;

/// A digital twin and its etag.
#[derive(Clone, Debug, PartialEq)]
pub struct DigitalTwin {
    /// The document.
    pub document: Value,
    /// The twin's own.
    pub etag: String,
}

impl Hub {
    /// The digital twin of a device.
    ///
    /// # Errors
    ///
    /// 404001.
    pub fn get_digital_twin(&self, device: &Identity) -> Result<DigitalTwin, HubError> {
        let inner = self.lock();
        let twin = inner.state.twin(device)?;
        let (desired, reported) = (twin.section_json(Place::Desired), twin.section_json(Place::Reported));
        let model_id = inner.state.model_id(device)?;
        let document = document::build(device.device_id(), model_id, &desired, &reported);
        Ok(DigitalTwin { document, etag: twin.etag() })
    }

    /// Changes desired values by a JSON patch with `add`, `replace` and `remove` of `/property`, `/component` and
    /// `/component/property`; a connected device is told. Gives the new etag.
    ///
    /// # Errors
    ///
    /// 404001, 412001, 400004 for a patch that cannot be, 403100 when desired properties would be too large.
    pub fn patch_digital_twin(
        &self,
        device: &Identity,
        body: &Value,
        pre: Precondition,
    ) -> Result<String, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        let twin = inner.state.twin_mut(device)?;
        pre.check(&twin.etag())?;
        let desired = patch::to_merge_patch(body, twin.desired().values())?;
        let notification = twin.patch(&json!({ "properties": { "desired": desired } }), now)?;
        let etag = twin.etag();
        if let Some(notification) = notification {
            inner.live.notify(device, &notification);
        }
        Ok(etag)
    }
}
