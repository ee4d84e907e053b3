//! The identity registry and its rules (rest.md 3 and 4). Pure: the caller passes the time.

mod authentication;
mod device;
mod module;
mod record;
mod scan;
mod scopes;
mod state;

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;

use iothub_common::Identity;
use serde_json::Value;

pub(super) use device::Device;
pub(super) use module::Module;
pub(super) use record::Record;
pub(super) use state::State;

use self::authentication::Authentication;
use self::device::{DeviceSpec, Status};
use self::module::ModuleSpec;
use super::error::{ErrorCode, HubError};
use super::precondition::Precondition;
use super::timestamp::Timestamp;

/// User modules of one device; system modules are not counted (twins.md 4).
const MAX_MODULES: usize = 50;

/// Made and removed by the hub together with the device's edge capability (rest.md 4).
const SYSTEM_MODULES: [&str; 2] = ["$edgeAgent", "$edgeHub"];

/// Most devices in one answer, and how many there are when the request does not say (rest.md 3.1).
const MAX_LISTED: usize = 1000;

impl State {
    /// Creates a device, or updates it when `pre` is an `If-Match`.
    pub(super) fn put_device(
        &mut self,
        id: &str,
        body: &Value,
        pre: &Precondition,
        now: Timestamp,
    ) -> Result<(), HubError> {
        let identity = identity(id, None)?;
        let before = self.devices.get(id);
        check_put(pre, before.map(|device| &device.record), &identity)?;
        let spec = DeviceSpec::read(id, body)?;
        if before.is_none() {
            self.check_room(1)?;
        }

        let generation = match before {
            Some(device) => device.record.generation(),
            None => self.next_generation(now),
        };
        let iot_edge = spec.iot_edge.unwrap_or(before.is_some_and(|device| device.iot_edge));
        let own_scope = scopes::own_scope(id, generation);
        let (device_scope, parent_scopes) =
            scopes::resolve(&spec, iot_edge, &own_scope, before, &self.devices)?;

        let mut device = match self.devices.remove(id) {
            Some(mut device) => {
                device.record.update(self.new_etag(), spec.authentication);
                device.status.update(spec.enabled, spec.status_reason, now);
                device
            }
            None => {
                self.count += 1;
                Device::new(
                    Record::new(self.claim_generation(now), self.new_etag(), spec.authentication),
                    Status::new(spec.enabled, spec.status_reason),
                    now,
                )
            }
        };
        device.device_scope = device_scope;
        device.parent_scopes = parent_scopes;
        self.set_iot_edge(&mut device, iot_edge, now);
        self.devices.insert(id.to_owned(), device);
        Ok(())
    }

    pub(super) fn get_device(&self, id: &str) -> Result<Value, HubError> {
        identity(id, None)?;
        Ok(self.device(id)?.to_json(id))
    }

    /// Takes the modules and all twins along.
    pub(super) fn delete_device(&mut self, id: &str, pre: &Precondition) -> Result<(), HubError> {
        identity(id, None)?;
        pre.check(&self.device(id)?.record.etag())?;
        if let Some(device) = self.devices.remove(id) {
            self.count -= 1 + device.modules.len();
        }
        Ok(())
    }

    /// In the order of ids. `top` outside of 1 to 1000 counts as 1000.
    pub(super) fn list_devices(&self, top: usize) -> Vec<Value> {
        let top = if (1..=MAX_LISTED).contains(&top) { top } else { MAX_LISTED };
        self.devices.iter().take(top).map(|(id, device)| device.to_json(id)).collect()
    }

    /// Creates a module, or updates it when `pre` is an `If-Match`.
    pub(super) fn put_module(
        &mut self,
        device_id: &str,
        module_id: &str,
        body: &Value,
        pre: &Precondition,
        now: Timestamp,
    ) -> Result<Value, HubError> {
        let identity = identity(device_id, Some(module_id))?;
        let device = self.device(device_id)?;
        check_not_system(device, module_id)?;
        let before = device.modules.get(module_id);
        check_put(pre, before.map(|module| &module.record), &identity)?;
        let spec = ModuleSpec::read(device_id, module_id, body)?;
        let is_new = before.is_none();
        if is_new {
            check_module_count(device, device_id, 1)?;
            self.check_room(1)?;
        }

        let etag = self.new_etag();
        let generation = self.claim_generation(now);
        let device = self.device_mut(device_id)?;
        let module = match device.modules.entry(module_id.to_owned()) {
            Entry::Occupied(entry) => {
                let module = entry.into_mut();
                module.record.update(etag, spec.authentication);
                module.managed_by = spec.managed_by;
                module
            }
            Entry::Vacant(entry) => {
                let record = Record::new(generation, etag, spec.authentication);
                entry.insert(Module::new(record, spec.managed_by))
            }
        };
        let json = module.to_json(device_id, module_id);
        self.count += usize::from(is_new);
        Ok(json)
    }

    /// Whether so many modules can be added to a device.
    pub(super) fn check_module_room(&self, device_id: &str, more: usize) -> Result<(), HubError> {
        check_module_count(self.device(device_id)?, device_id, more)?;
        self.check_room(more)
    }

    pub(super) fn get_module(&self, device_id: &str, module_id: &str) -> Result<Value, HubError> {
        identity(device_id, Some(module_id))?;
        Ok(self.module(device_id, module_id)?.to_json(device_id, module_id))
    }

    pub(super) fn delete_module(
        &mut self,
        device_id: &str,
        module_id: &str,
        pre: &Precondition,
    ) -> Result<(), HubError> {
        identity(device_id, Some(module_id))?;
        pre.check(&self.module(device_id, module_id)?.record.etag())?;
        let device = self.device_mut(device_id)?;
        check_not_system(device, module_id)?;
        device.modules.remove(module_id);
        self.count -= 1;
        Ok(())
    }

    /// In the order of ids.
    pub(super) fn list_modules(&self, device_id: &str) -> Result<Vec<Value>, HubError> {
        identity(device_id, None)?;
        let modules = &self.device(device_id)?.modules;
        Ok(modules.iter().map(|(id, module)| module.to_json(device_id, id)).collect())
    }

    /// An edge device has its system modules, at first without usable keys (twins.md 4).
    fn set_iot_edge(&mut self, device: &mut Device, iot_edge: bool, now: Timestamp) {
        let was = std::mem::replace(&mut device.iot_edge, iot_edge);
        for id in SYSTEM_MODULES {
            if was && !iot_edge && device.modules.remove(id).is_some() {
                self.count -= 1;
            }
            if iot_edge && !device.modules.contains_key(id) {
                let record = Record::new(self.claim_generation(now), self.new_etag(), Authentication::None);
                device.modules.insert(id.to_owned(), Module::new(record, None));
                self.count += 1;
            }
        }
    }
}

/// Checks ids that came in a path.
fn identity(device_id: &str, module_id: Option<&str>) -> Result<Identity, HubError> {
    match module_id {
        None => Identity::device(device_id),
        Some(module_id) => Identity::module(device_id, module_id),
    }
    .map_err(|error| HubError::new(ErrorCode::ArgumentInvalid, error.to_string()))
}

/// PUT without `If-Match` creates, with it updates (rest.md 1.6).
fn check_put(pre: &Precondition, before: Option<&Record>, identity: &Identity) -> Result<(), HubError> {
    match before {
        None if pre.may_create() => Ok(()),
        None => Err(state::not_found(identity)),
        Some(_) if pre.may_create() => {
            let code = match identity.module_id() {
                None => ErrorCode::DeviceAlreadyExists,
                Some(_) => ErrorCode::ModuleAlreadyExistsOnDevice,
            };
            Err(HubError::new(code, format!("{identity} exists already, send If-Match to update it")))
        }
        Some(record) => pre.check(&record.etag()),
    }
}

fn check_module_count(device: &Device, device_id: &str, more: usize) -> Result<(), HubError> {
    let of_users = device.modules.keys().filter(|id| !(device.iot_edge && is_system_module(id))).count();
    if of_users + more <= MAX_MODULES {
        return Ok(());
    }
    Err(HubError::new(
        ErrorCode::TooManyModulesOnDevice,
        format!("device {device_id} has {MAX_MODULES} modules, no more are allowed"),
    ))
}

/// On devices that are no edge devices the names are free (inferred).
fn check_not_system(device: &Device, module_id: &str) -> Result<(), HubError> {
    if device.iot_edge && is_system_module(module_id) {
        return Err(HubError::new(
            ErrorCode::SystemModuleModifyUnauthorizedAccess,
            format!("{module_id} of an edge device belongs to the hub and cannot be written"),
        ));
    }
    Ok(())
}

fn is_system_module(id: &str) -> bool {
    SYSTEM_MODULES.contains(&id)
}
