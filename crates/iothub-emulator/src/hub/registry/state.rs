//! All that a hub remembers, as plain data.

use std::collections::BTreeMap;

use iothub_common::Identity;
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::module::Module;
use super::record::Record;
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::timestamp::Timestamp;
use crate::hub::twin::{Twin, root_document};

/// Devices with their modules and twins, and the counters that make etags and generations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::hub) struct State {
    pub(super) devices: BTreeMap<String, Device>,
    /// Devices and modules together.
    pub(super) count: usize,
    last_etag: u64,
    last_generation: u64,
}

/// Devices and modules of one hub (rest.md 14).
pub(super) const MAX_IDENTITIES: usize = 1_000_000;

impl State {
    /// Forgets everything, except what was used up; returns what was there.
    pub(in crate::hub) fn clear(&mut self) -> Self {
        self.restore(Self::default())
    }

    /// Becomes another state; returns what was there. No etag or generation of either is given out again.
    pub(in crate::hub) fn restore(&mut self, other: Self) -> Self {
        let before = std::mem::replace(self, other);
        self.last_etag = self.last_etag.max(before.last_etag);
        self.last_generation = self.last_generation.max(before.last_generation);
        before
    }

    pub(in crate::hub) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    pub(super) fn device(&self, id: &str) -> Result<&Device, HubError> {
        self.devices.get(id).ok_or_else(|| device_not_found(id))
    }

    pub(super) fn device_mut(&mut self, id: &str) -> Result<&mut Device, HubError> {
        self.devices.get_mut(id).ok_or_else(|| device_not_found(id))
    }

    pub(super) fn module(&self, device_id: &str, module_id: &str) -> Result<&Module, HubError> {
        let module = self.device(device_id)?.modules.get(module_id);
        module.ok_or_else(|| module_not_found(device_id, module_id))
    }

    fn module_mut(&mut self, device_id: &str, module_id: &str) -> Result<&mut Module, HubError> {
        let module = self.device_mut(device_id)?.modules.get_mut(module_id);
        module.ok_or_else(|| module_not_found(device_id, module_id))
    }

    /// The identity of a device or module.
    pub(in crate::hub) fn record(&self, identity: &Identity) -> Result<&Record, HubError> {
        match identity.module_id() {
            None => self.device(identity.device_id()).map(|device| &device.record),
            Some(module_id) => self.module(identity.device_id(), module_id).map(|module| &module.record),
        }
    }

    pub(in crate::hub) fn record_mut(&mut self, identity: &Identity) -> Result<&mut Record, HubError> {
        match identity.module_id() {
            None => self.device_mut(identity.device_id()).map(|device| &mut device.record),
            Some(module_id) => {
                self.module_mut(identity.device_id(), module_id).map(|module| &mut module.record)
            }
        }
    }

    pub(in crate::hub) fn twin(&self, identity: &Identity) -> Result<&Twin, HubError> {
        match identity.module_id() {
            None => self.device(identity.device_id()).map(|device| &device.twin),
            Some(module_id) => self.module(identity.device_id(), module_id).map(|module| &module.twin),
        }
    }

    pub(in crate::hub) fn twin_mut(&mut self, identity: &Identity) -> Result<&mut Twin, HubError> {
        match identity.module_id() {
            None => self.device_mut(identity.device_id()).map(|device| &mut device.twin),
            Some(module_id) => {
                self.module_mut(identity.device_id(), module_id).map(|module| &mut module.twin)
            }
        }
    }

    /// The Plug and Play model a device says that it is; empty as long as it has said none.
    pub(in crate::hub) fn model_id(&self, identity: &Identity) -> Result<&str, HubError> {
        self.device(identity.device_id()).map(|device| device.model_id.as_str())
    }

    /// Modules have none (inferred).
    pub(in crate::hub) fn set_model_id(&mut self, identity: &Identity, model_id: &str) {
        if identity.module_id().is_none()
            && let Some(device) = self.devices.get_mut(identity.device_id())
        {
            model_id.clone_into(&mut device.model_id);
        }
    }

    /// The whole twin as services see it.
    pub(in crate::hub) fn twin_document(&self, identity: &Identity) -> Result<serde_json::Value, HubError> {
        let device = self.device(identity.device_id())?;
        let module = identity.module_id().map(|id| self.module(identity.device_id(), id)).transpose()?;
        Ok(root_document(identity, device, module))
    }

    /// Whether it may connect now: it is there, and its device is enabled. `hub` is the hub's name, for the
    /// text (amqp.md 2.4).
    pub(in crate::hub) fn check_usable(&self, identity: &Identity, hub: &str) -> Result<(), HubError> {
        let device_id = identity.device_id();
        let device_text = |what: &str| {
            HubError::new(ErrorCode::DeviceNotFound, format!("Device {device_id} at IotHub {hub} {what}."))
        };
        let device = self.devices.get(device_id).ok_or_else(|| device_text("not registered"))?;
        if !device.status.enabled {
            return Err(device_text("is disabled"));
        }
        match identity.module_id() {
            Some(module_id) if !device.modules.contains_key(module_id) => Err(HubError::new(
                ErrorCode::ModuleNotFound,
                format!("Module {module_id} on device {device_id} at IotHub {hub} not registered."),
            )),
            _ => Ok(()),
        }
    }

    /// An etag no identity of this hub has had.
    pub(super) fn new_etag(&mut self) -> u64 {
        self.last_etag += 1;
        self.last_etag
    }

    /// What [`claim_generation`](Self::claim_generation) will give: later than any before, whatever the clock
    /// does.
    pub(super) fn next_generation(&self, now: Timestamp) -> u64 {
        now.ticks().max(self.last_generation + 1)
    }

    pub(super) fn claim_generation(&mut self, now: Timestamp) -> u64 {
        self.last_generation = self.next_generation(now);
        self.last_generation
    }

    pub(super) fn check_room(&self, more: usize) -> Result<(), HubError> {
        if self.count + more <= MAX_IDENTITIES {
            return Ok(());
        }
        Err(HubError::new(
            ErrorCode::TooManyDevices,
            format!("the hub has {MAX_IDENTITIES} devices and modules, no more are allowed"),
        ))
    }
}

/// The registry's texts are the ids alone (rest.md 2.1, 16).
pub(super) fn not_found(identity: &Identity) -> HubError {
    match identity.module_id() {
        None => device_not_found(identity.device_id()),
        Some(module_id) => module_not_found(identity.device_id(), module_id),
    }
}

fn device_not_found(id: &str) -> HubError {
    HubError::new(ErrorCode::DeviceNotFound, id)
}

fn module_not_found(device_id: &str, module_id: &str) -> HubError {
    HubError::new(ErrorCode::ModuleNotFound, format!("{device_id}/{module_id}"))
}
