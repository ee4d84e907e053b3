//! The whole twin as services see it: the twin proper and what its identity adds (twins.md 1.1).

use iothub_common::Identity;
use serde_json::{Map, Value, json};

use super::Twin;
use crate::hub::registry::{Device, Module, Record};
use crate::hub::timestamp::Timestamp;

/// A twin together with the identity it belongs to.
#[derive(Clone, Copy)]
pub(in crate::hub) struct Subject<'a> {
    pub(in crate::hub) device_id: &'a str,
    pub(in crate::hub) device: &'a Device,
    /// Its id too; `None` for the device's own twin.
    pub(in crate::hub) module: Option<(&'a str, &'a Module)>,
}

/// A member of the document's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Member {
    DeviceId,
    ModuleId,
    Etag,
    DeviceEtag,
    Status,
    StatusReason,
    StatusUpdateTime,
    ConnectionState,
    LastActivityTime,
    CloudToDeviceMessageCount,
    AuthenticationType,
    X509Thumbprint,
    ModelId,
    Version,
    Tags,
    Properties,
    Configurations,
    Capabilities,
    DeviceScope,
    ParentScopes,
}

impl Member {
    /// In the hub's own order. The time of a status change has another name than in identities (rest.md 5.1).
    const ALL: [(Self, &'static str); 20] = [
        (Self::DeviceId, "deviceId"),
        (Self::ModuleId, "moduleId"),
        (Self::Etag, "etag"),
        (Self::DeviceEtag, "deviceEtag"),
        (Self::Status, "status"),
        (Self::StatusReason, "statusReason"),
        (Self::StatusUpdateTime, "statusUpdateTime"),
        (Self::ConnectionState, "connectionState"),
        (Self::LastActivityTime, "lastActivityTime"),
        (Self::CloudToDeviceMessageCount, "cloudToDeviceMessageCount"),
        (Self::AuthenticationType, "authenticationType"),
        (Self::X509Thumbprint, "x509Thumbprint"),
        (Self::ModelId, "modelId"),
        (Self::Version, "version"),
        (Self::Tags, "tags"),
        (Self::Properties, "properties"),
        (Self::Configurations, "configurations"),
        (Self::Capabilities, "capabilities"),
        (Self::DeviceScope, "deviceScope"),
        (Self::ParentScopes, "parentScopes"),
    ];

    /// The member with this name in any case, and the name as the hub spells it.
    pub(in crate::hub) fn named(name: &str) -> Option<(Self, &'static str)> {
        Self::ALL.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(name))
    }
}

/// The document of a device's twin, or of a module's when `module` is given, in the hub's own order.
pub(in crate::hub) fn root_document(identity: &Identity, device: &Device, module: Option<&Module>) -> Value {
    let module = identity.module_id().zip(module);
    Subject { device_id: identity.device_id(), device, module }.document()
}

impl<'a> Subject<'a> {
    /// The whole document.
    pub(in crate::hub) fn document(&self) -> Value {
        let members = Member::ALL
            .into_iter()
            .filter_map(|(member, name)| Some((name.to_owned(), self.member(member)?)))
            .collect::<Map<_, _>>();
        Value::Object(members)
    }

    /// One member; `None` where this twin has it not.
    pub(in crate::hub) fn member(&self, member: Member) -> Option<Value> {
        let (twin, record, device) = (self.twin(), self.record(), self.device);
        let is_module = self.module.is_some();
        let of_device = |value: Value| (!is_module).then_some(value);
        let value = match member {
            Member::DeviceId => self.device_id.into(),
            Member::ModuleId => self.module?.0.into(),
            Member::Etag => twin.etag().into(),
            Member::DeviceEtag => record.etag().into(),
            // Modules have no status of their own, their twins say `enabled` (twins.md 1.1, 4).
            Member::Status if is_module => "enabled".into(),
            Member::Status => device.status.text().into(),
            Member::StatusReason => of_device(device.status.reason.as_deref()?.into())?,
            Member::StatusUpdateTime if is_module => Timestamp::NEVER.for_twin().into(),
            Member::StatusUpdateTime => device.status.updated.for_twin().into(),
            Member::ConnectionState => record.presence.state().into(),
            Member::LastActivityTime => record.presence.last_activity.for_twin().into(),
            Member::CloudToDeviceMessageCount => 0.into(),
            Member::AuthenticationType => record.authentication.kind().into(),
            Member::X509Thumbprint => record.authentication.thumbprints_json(),
            Member::ModelId => of_device(device.model_id.as_str().into())?,
            Member::Version => twin.version().into(),
            // No tags when there are none.
            Member::Tags if twin.tags.is_empty() => return None,
            Member::Tags => twin.tags.values().into(),
            Member::Properties => twin.properties(),
            Member::Configurations => twin.configurations_json()?,
            Member::Capabilities => of_device(json!({ "iotEdge": device.iot_edge }))?,
            Member::DeviceScope => of_device(device.device_scope.as_deref()?.into())?,
            Member::ParentScopes if device.parent_scopes.is_empty() => return None,
            Member::ParentScopes => of_device(device.parent_scopes.clone().into())?,
        };
        Some(value)
    }

    pub(in crate::hub) fn identity(&self) -> Option<Identity> {
        // Registered ids are well-formed, so there is always one.
        match self.module {
            None => Identity::device(self.device_id).ok(),
            Some((module_id, _)) => Identity::module(self.device_id, module_id).ok(),
        }
    }

    pub(in crate::hub) fn twin(&self) -> &'a Twin {
        self.module.map_or(&self.device.twin, |(_, module)| &module.twin)
    }

    fn record(&self) -> &'a Record {
        self.module.map_or(&self.device.record, |(_, module)| &module.record)
    }
}
