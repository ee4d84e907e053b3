//! A small Device Provisioning Service: enrollments in, registrations of devices out, on this hub alone (dps.md).
//!
//! No sockets here: `front/http/registrations.rs` speaks for it.

mod attest;
mod document;
mod enrollment;
mod registration;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub use enrollment::{Attestation, Enrollment};

pub(crate) use self::attest::Proof;
use self::attest::{Attested, Shown};
use self::registration::{Outcome, Registration};
use crate::hub::{Hub, HubError, Precondition};

/// Characters of a registration id (dps.md 1).
const MAX_ID: usize = 128;
/// No hub took the device (dps.md 3).
const HUB_REFUSED: u32 = 400_209;

/// What a provisioning service is made with.
#[derive(Clone, Debug)]
pub struct ProvisioningConfig {
    /// Names the service to devices.
    pub id_scope: String,
    /// How long devices are told to wait before they ask again, in whole seconds.
    pub retry_after: Duration,
    /// How often a device that asks is told that it is still being assigned, after it registered.
    pub assigning_polls: u32,
}

impl Default for ProvisioningConfig {
    /// What the service in the cloud does (dps.md 7); the scope is an invented one.
    fn default() -> Self {
        Self { id_scope: "0ne00000001".to_owned(), retry_after: Duration::from_secs(3), assigning_polls: 0 }
    }
}

/// A provisioning service. Clones are the same service. Every method returns at once.
#[derive(Clone)]
pub struct Provisioning {
    shared: Arc<Shared>,
}

struct Shared {
    config: ProvisioningConfig,
    hub: Hub,
    state: Mutex<State>,
}

/// Ids are case-insensitive, so everything is found by their lower case.
#[derive(Default)]
struct State {
    individuals: BTreeMap<String, Enrollment>,
    groups: BTreeMap<String, Enrollment>,
    registrations: HashMap<String, Registration>,
}

/// An answer to a device.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) body: Value,
    /// When to ask again; none when it is decided.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) operation: String,
}

impl Provisioning {
    /// A service without enrollments that puts devices on this hub.
    pub fn new(config: ProvisioningConfig, hub: Hub) -> Self {
        Self { shared: Arc::new(Shared { config, hub, state: Mutex::default() }) }
    }

    /// What devices call this service.
    pub fn id_scope(&self) -> &str {
        &self.shared.config.id_scope
    }

    /// Adds an enrollment, or replaces the one of the same kind and id. What was registered before stays on the hub.
    pub fn enroll(&self, enrollment: Enrollment) {
        let id = enrollment.id.to_ascii_lowercase();
        let mut state = self.lock();
        let enrollments = if enrollment.is_group { &mut state.groups } else { &mut state.individuals };
        enrollments.insert(id, enrollment);
    }

    /// Removes an enrollment; true when there was one. Devices stay on the hub.
    pub fn remove(&self, id: &str, is_group: bool) -> bool {
        let id = id.to_ascii_lowercase();
        let mut state = self.lock();
        let enrollments = if is_group { &mut state.groups } else { &mut state.individuals };
        enrollments.remove(&id).is_some()
    }

    /// An enrollment by its id.
    pub fn enrollment(&self, id: &str, is_group: bool) -> Option<Enrollment> {
        let state = self.lock();
        let enrollments = if is_group { &state.groups } else { &state.individuals };
        enrollments.get(&id.to_ascii_lowercase()).cloned()
    }

    /// Takes a device's registration. It is decided at once and told later, as in the cloud.
    pub(crate) fn register(&self, scope: &str, id: &str, proof: &Proof<'_>) -> Result<Progress, HubError> {
        self.check_scope(scope)?;
        check_id(id)?;
        let now = self.shared.hub.now();
        let mut state = self.lock();
        let shown = Shown { scope, id, proof, now };
        let attested = attest::attest(&shown, &state.individuals, &state.groups)?;
        let known = state.registrations.get(&id.to_ascii_lowercase());
        let outcome = match attested.enrollment.is_enabled {
            false => Outcome::Disabled,
            true => self.assign(id, known, &attested),
        };
        let group = attested.enrollment.key_group().map(str::to_owned);
        let polls = match outcome {
            Outcome::Disabled => None,
            _ => Some(self.shared.config.assigning_polls),
        };
        let registration = Registration::new(id, known, outcome, group, polls, now.into());
        let progress = self.progress(&registration);
        state.registrations.insert(id.to_ascii_lowercase(), registration);
        Ok(progress)
    }

    /// How far a registration is.
    pub(crate) fn poll(
        &self,
        scope: &str,
        id: &str,
        operation: &str,
        proof: &Proof<'_>,
    ) -> Result<Progress, HubError> {
        self.check_scope(scope)?;
        check_id(id)?;
        let mut state = self.lock();
        let shown = Shown { scope, id, proof, now: self.shared.hub.now() };
        attest::attest(&shown, &state.individuals, &state.groups)?;
        let registration = state.registrations.get_mut(&id.to_ascii_lowercase());
        let registration = registration
            .filter(|registration| registration.operation == operation)
            .ok_or_else(|| refused(404_203, "Operation not found."))?;
        registration.polled();
        Ok(self.progress(registration))
    }

    fn progress(&self, registration: &Registration) -> Progress {
        let retry_after = registration.is_assigning().then_some(self.shared.config.retry_after);
        Progress {
            body: registration.to_json(self.shared.hub.host_name()),
            retry_after,
            operation: registration.operation.clone(),
        }
    }

    /// Sees to it that the hub has the device with these credentials.
    fn assign(&self, id: &str, known: Option<&Registration>, attested: &Attested<'_>) -> Outcome {
        let enrollment = attested.enrollment;
        let device_id = enrollment
            .device_id
            .clone()
            .or_else(|| known.and_then(|known| known.device_id().map(str::to_owned)))
            .unwrap_or_else(|| id.to_owned());
        match self.put_device(&device_id, attested) {
            Ok(()) => Outcome::Assigned { device_id },
            Err(error) => Outcome::Failed { code: HUB_REFUSED, text: error.to_string() },
        }
    }

    /// A device that is there keeps its twin and all else (dps.md 9).
    fn put_device(&self, device_id: &str, attested: &Attested<'_>) -> Result<(), HubError> {
        let (hub, enrollment) = (&self.shared.hub, attested.enrollment);
        match hub.get_device(device_id) {
            Ok(mut device) => {
                if device["authentication"] == attested.authentication {
                    return Ok(());
                }
                device["authentication"] = attested.authentication.clone();
                hub.put_device(device_id, &device, Precondition::IfMatch(None)).map(drop)
            }
            Err(error) if error.status == 404 => {
                let body = json!({
                    "deviceId": device_id,
                    "authentication": attested.authentication,
                    "capabilities": { "iotEdge": enrollment.iot_edge },
                });
                hub.put_device(device_id, &body, Precondition::None)?;
                if let Some(twin) = &enrollment.initial_twin {
                    let identity = iothub_common::Identity::device(device_id)
                        .map_err(|error| HubError::unauthorized(error.to_string()))?;
                    hub.patch_twin(&identity, twin, Precondition::None)?;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn check_scope(&self, scope: &str) -> Result<(), HubError> {
        if scope.eq_ignore_ascii_case(self.id_scope()) {
            return Ok(());
        }
        // The position taken: unknown scopes and ids are not told from bad credentials by their code (dps.md 13).
        Err(unauthorized(&format!("there is no ID scope '{scope}' here")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is changed under the lock is one insertion or removal, so it is whole even after a panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Provisioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioning").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// Dps.md 1.
fn check_id(id: &str) -> Result<(), HubError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let ends_well = id.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    if id.len() <= MAX_ID && id.chars().all(fits) && ends_well {
        return Ok(());
    }
    Err(refused(
        400_000,
        "a registration id has 1 to 128 letters, digits and - . _ : and ends with a letter, digit or -",
    ))
}

/// The service's codes are its own; the status is the first three digits (dps.md 8).
pub(crate) fn refused(code: u32, text: impl Into<String>) -> HubError {
    let name = match code {
        401_002 => "Unauthorized",
        404_201 => "EnrollmentNotFound",
        404_203 => "OperationNotFound",
        _ => "BadRequest",
    };
    // Six digits, so the first three fit.
    HubError { status: (code / 1000) as u16, code, name, text: text.into() }
}

fn unauthorized(why: &str) -> HubError {
    refused(401_002, format!("Unauthorized: {why}"))
}
