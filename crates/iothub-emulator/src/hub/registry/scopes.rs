//! Which edge device a device belongs to.

use std::collections::BTreeMap;

use super::device::{Device, DeviceSpec};
use crate::hub::error::{ErrorCode, HubError};

const PREFIX: &str = "ms-azure-iot-edge://";

/// The scope of an edge device (rest.md 3.2).
pub(super) fn own_scope(id: &str, generation: u64) -> String {
    format!("{PREFIX}{id}-{generation}")
}

/// `deviceScope` and `parentScopes` of a device after a PUT.
///
/// An edge device has the scope the hub made, and a parent of its choice. A leaf has its parent's scope in
/// both. `own` is the scope this device has, or would have, as an edge device; `before` what it is now.
pub(super) fn resolve(
    spec: &DeviceSpec,
    iot_edge: bool,
    own: &str,
    before: Option<&Device>,
    devices: &BTreeMap<String, Device>,
) -> Result<(Option<String>, Vec<String>), HubError> {
    let not_own = |scope: &&String| scope.as_str() != own;
    let device_scope = spec.device_scope.as_ref().filter(not_own);
    let parent = match (iot_edge, device_scope, spec.parent_scope.as_ref().filter(not_own)) {
        (true, Some(_), _) => {
            return Err(refused("deviceScope of an edge device is made by the hub and cannot be changed"));
        }
        (true, None, parent) => parent,
        (false, Some(scope), Some(parent)) if scope != parent => {
            return Err(refused(
                "deviceScope and parentScopes of a device that is no edge device must be equal",
            ));
        }
        (false, scope, parent) => scope.or(parent),
    };
    if let Some(parent) = parent {
        // A parent that was made again since keeps its children until they are written with another.
        let kept = before.is_some_and(|before| {
            before.device_scope.as_ref() == Some(parent) || before.parent_scopes.contains(parent)
        });
        if !kept && !names_edge_device(parent, devices) {
            return Err(refused(format!("no edge device has the scope '{parent}'")));
        }
    }
    let device_scope = if iot_edge { Some(own.to_owned()) } else { parent.cloned() };
    Ok((device_scope, parent.cloned().into_iter().collect()))
}

fn names_edge_device(scope: &str, devices: &BTreeMap<String, Device>) -> bool {
    scope
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.rsplit_once('-'))
        .and_then(|(id, generation)| Some((devices.get(id)?, generation)))
        .is_some_and(|(device, generation)| {
            device.iot_edge && device.record.generation().to_string() == generation
        })
}

fn refused(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::InvalidDeviceScope, text)
}
