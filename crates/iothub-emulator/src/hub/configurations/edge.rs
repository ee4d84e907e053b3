//! Content for one edge device, at once (rest.md 9).

use iothub_common::Identity;
use serde_json::{Map, Value, json};

use super::content::{self, Settings, at_path};
use super::model;
use crate::hub::Hub;
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::precondition::Precondition;
use crate::hub::timestamp::Timestamp;
use crate::hub::twin::{Notification, Twin};

/// What the edge runtime writes itself (rest.md 4).
const MANAGED_BY: &str = "iotEdge";

impl Hub {
    /// Makes the modules that `modulesContent` names, and those that the agent is to run, as far as they are
    /// missing, and writes the desired properties of all of them: `properties.desired` replaces them, a path below
    /// it is merged. All or nothing.
    ///
    /// # Errors
    ///
    /// 404001, 400003 when it is no edge device, 400402 for the content, 413003 when there would be more than 50
    /// modules, 403100 when desired properties would be too large.
    pub fn apply_configuration_content(&self, device_id: &str, body: &Value) -> Result<(), HubError> {
        let now = self.timestamp();
        let content = Content::read(device_id, body)?;
        let mut inner = self.lock();
        let device = Identity::device(device_id).map_err(|error| content::refused(error.to_string()))?;
        let identity = inner.state.get_device(device_id)?;
        if identity["capabilities"]["iotEdge"] != true {
            let text = format!("{device_id} is no edge device, so no content can be applied to it");
            return Err(HubError::new(ErrorCode::InvalidOperation, text));
        }

        // Everything that can be refused comes first.
        let missing: Vec<_> =
            content.module_ids().filter(|module| inner.state.record(module).is_err()).cloned().collect();
        inner.state.check_module_room(device_id, missing.len())?;
        let twins = content.twins.iter().map(|(identity, settings)| {
            let mut twin = match inner.state.twin(identity) {
                Ok(twin) => twin.clone(),
                Err(_) => Twin::fresh(Timestamp::NEVER),
            };
            let notifications = write(&mut twin, settings, now)?;
            Ok((identity.clone(), twin, notifications))
        });
        let twins = twins.collect::<Result<Vec<_>, HubError>>()?;

        for module in missing {
            let module_id = module.module_id().unwrap_or_default();
            let body = json!({ "managedBy": MANAGED_BY });
            inner.state.put_module(device.device_id(), module_id, &body, &Precondition::None, now)?;
        }
        for (identity, twin, notifications) in twins {
            *inner.state.twin_mut(&identity)? = twin;
            for notification in &notifications {
                inner.live.notify(&identity, notification);
            }
        }
        Ok(())
    }
}

/// What a body asks for.
struct Content {
    /// Twins to be written, the device's own among them or not.
    twins: Vec<(Identity, Settings)>,
    /// Modules that the agent is to run.
    run: Vec<Identity>,
}

impl Content {
    fn read(device_id: &str, body: &Value) -> Result<Self, HubError> {
        let members = model::object(body)?;
        let module =
            |id: &str| Identity::module(device_id, id).map_err(|error| content::refused(error.to_string()));
        let Some(modules) = model::given(members, "modulesContent") else {
            return Err(content::refused("modulesContent is missing"));
        };
        let mut twins = Vec::new();
        for (id, settings) in content::read_modules(modules)? {
            twins.push((module(&id)?, settings));
        }
        if let Some(own) = model::given(members, "deviceContent") {
            let device = Identity::device(device_id).map_err(|error| content::refused(error.to_string()))?;
            twins.push((device, content::read_settings("deviceContent", own)?));
        }
        let to_run = modules["$edgeAgent"]["properties.desired"]["modules"].as_object();
        let run = to_run.into_iter().flatten().map(|(id, _)| module(id)).collect::<Result<_, _>>()?;
        Ok(Self { twins, run })
    }

    fn module_ids(&self) -> impl Iterator<Item = &Identity> {
        let written = self.twins.iter().map(|(identity, _)| identity).filter(|id| id.module_id().is_some());
        let known: std::collections::BTreeSet<_> = written.chain(&self.run).collect();
        known.into_iter()
    }
}

/// `properties.desired` first, whatever the order: it would take the others away again.
fn write(twin: &mut Twin, settings: &Settings, now: Timestamp) -> Result<Vec<Notification>, HubError> {
    let mut notifications = Vec::new();
    let mut paths = Map::new();
    for (path, value) in settings {
        if path.is_empty() {
            notifications.push(twin.replace_desired(value, now)?);
        } else {
            super::plan::merge(&mut paths, at_path(path, value.clone()));
        }
    }
    notifications.extend(twin.configure(paths, None, now)?);
    Ok(notifications)
}
