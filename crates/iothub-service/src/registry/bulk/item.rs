//! What is to be done with one identity, in the shape of a bulk call (rest.md 3.5).

use iothub_common::{ETag, Error, Identity, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::models::{Device, Module, NewDevice, NewModule, RawJson, TwinContent, TwinPatch};
use crate::registry::devices::check_keys;

/// One thing to do for [`Registry::bulk`](crate::Registry::bulk): create, update or delete a device or a module, or
/// change a twin.
///
/// Making one does not fail: a bad id, or a twin that breaks a rule, shows as the result of this item.
#[derive(Clone, Debug)]
pub struct BulkItem {
    pub(super) device_id: String,
    pub(super) module_id: Option<String>,
    body: Result<Body>,
}

/// `Debug` does not show the fields: they have keys.
#[derive(Clone, Serialize)]
pub(super) struct Body {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties>,
}

#[derive(Clone, Serialize)]
struct Properties {
    desired: RawJson,
}

impl BulkItem {
    /// Creates a device. With keys made by the hub, read them with [`Registry::get_device`](crate::Registry::get_device)
    /// afterwards: bulk answers have no keys.
    pub fn create_device(device: impl Into<NewDevice>) -> Self {
        let device = device.into();
        let fields = fields_of(&device.to_json());
        Self::of_device(device.device_id, "create", Ok(fields))
    }

    /// Adds a module to a device that exists, or that an item before this one creates.
    pub fn add_module(device_id: impl Into<String>, module: impl Into<NewModule>) -> Self {
        let (device_id, module) = (device_id.into(), module.into());
        let fields = fields_of(&module.to_json(&device_id));
        Self::of_module(device_id, module.module_id, "create", Ok(fields))
    }

    /// Writes back a device that was read and changed, if nobody else changed it since.
    pub fn update_device(device: &Device) -> Self {
        Self::of_device(device.device_id.clone(), "updateIfMatchETag", device_fields(device))
            .field("eTag", device.etag.as_str())
    }

    /// Writes a device, whatever others changed since it was read.
    pub fn overwrite_device(device: &Device) -> Self {
        Self::of_device(device.device_id.clone(), "update", device_fields(device))
    }

    /// Writes back a module that was read and changed, if nobody else changed it since.
    pub fn update_module(module: &Module) -> Self {
        let (device_id, module_id) = (module.device_id.clone(), module.module_id.clone());
        Self::of_module(device_id, module_id, "updateIfMatchETag", module_fields(module))
            .field("eTag", module.etag.as_str())
    }

    /// Writes a module, whatever others changed since it was read.
    pub fn overwrite_module(module: &Module) -> Self {
        let (device_id, module_id) = (module.device_id.clone(), module.module_id.clone());
        Self::of_module(device_id, module_id, "update", module_fields(module))
    }

    /// Merges a patch into the twin of a device.
    pub fn update_device_twin(device_id: impl Into<String>, patch: &TwinPatch) -> Self {
        Self::of_device(device_id.into(), "updateTwin", Ok(Map::new())).sections(patch.sections())
    }

    /// Merges a patch into the twin of a module.
    pub fn update_module_twin(
        device_id: impl Into<String>,
        module_id: impl Into<String>,
        patch: &TwinPatch,
    ) -> Self {
        Self::of_module(device_id.into(), module_id.into(), "updateTwin", Ok(Map::new()))
            .sections(patch.sections())
    }

    /// Deletes a device with its modules, whatever state it is in.
    pub fn delete_device(device_id: impl Into<String>) -> Self {
        Self::of_device(device_id.into(), "delete", Ok(Map::new()))
    }

    /// Deletes a device if its etag is still this one.
    pub fn delete_device_if_match(device_id: impl Into<String>, etag: &ETag) -> Self {
        Self::of_device(device_id.into(), "deleteIfMatchETag", Ok(Map::new())).field("eTag", etag.as_str())
    }

    /// Deletes a module, whatever state it is in.
    pub fn delete_module(device_id: impl Into<String>, module_id: impl Into<String>) -> Self {
        Self::of_module(device_id.into(), module_id.into(), "delete", Ok(Map::new()))
    }

    /// Deletes a module if its etag is still this one.
    pub fn delete_module_if_match(
        device_id: impl Into<String>,
        module_id: impl Into<String>,
        etag: &ETag,
    ) -> Self {
        Self::of_module(device_id.into(), module_id.into(), "deleteIfMatchETag", Ok(Map::new()))
            .field("eTag", etag.as_str())
    }

    /// Gives a device or module that is created its first tags and desired properties.
    pub fn with_twin(self, content: &TwinContent) -> Self {
        self.sections(content.sections())
    }

    /// What to send, or why it cannot be sent.
    pub(super) fn body(&self) -> Result<&Body, Error> {
        self.body.as_ref().map_err(Error::clone)
    }

    fn of_device(device_id: String, mode: &str, fields: Result<Map<String, Value>>) -> Self {
        let checked = Identity::device(device_id.as_str()).map_err(as_the_hub_calls_it);
        let body = checked.and(fields).map(|fields| Body::new(&device_id, None, mode, fields));
        Self { device_id, module_id: None, body }
    }

    fn of_module(
        device_id: String,
        module_id: String,
        mode: &str,
        fields: Result<Map<String, Value>>,
    ) -> Self {
        let checked = Identity::module(device_id.as_str(), module_id.as_str()).map_err(as_the_hub_calls_it);
        let body = checked.and(fields).map(|fields| Body::new(&device_id, Some(&module_id), mode, fields));
        Self { device_id, module_id: Some(module_id), body }
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        if let Ok(body) = &mut self.body {
            body.fields.insert(name.to_owned(), value.into());
        }
        self
    }

    fn sections(mut self, sections: Result<(Option<RawJson>, Option<RawJson>)>) -> Self {
        self.body = self.body.and_then(|body| {
            let (tags, desired) = sections.map_err(as_the_hub_calls_it)?;
            Ok(Body { tags, properties: desired.map(|desired| Properties { desired }), ..body })
        });
        self
    }
}

impl From<NewDevice> for BulkItem {
    fn from(device: NewDevice) -> Self {
        Self::create_device(device)
    }
}

impl Body {
    fn new(device_id: &str, module_id: Option<&str>, mode: &str, mut fields: Map<String, Value>) -> Self {
        fields.insert("id".to_owned(), device_id.into());
        if let Some(module_id) = module_id {
            fields.insert("moduleId".to_owned(), module_id.into());
        }
        fields.insert("importMode".to_owned(), mode.into());
        Self { fields, tags: None, properties: None }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("importMode", &self.fields.get("importMode")).finish_non_exhaustive()
    }
}

/// The members of a single call that bulk calls have too.
fn fields_of(single: &Value) -> Map<String, Value> {
    const SHARED: [&str; 7] = [
        "status",
        "statusReason",
        "authentication",
        "capabilities",
        "deviceScope",
        "parentScopes",
        "managedBy",
    ];
    let member = |name: &str| single.get(name).map(|value| (name.to_owned(), value.clone()));
    SHARED.into_iter().filter_map(member).collect()
}

fn device_fields(device: &Device) -> Result<Map<String, Value>> {
    check_keys(&device.authentication, &Identity::device(device.device_id.as_str())?)?;
    Ok(fields_of(&json!(device)))
}

fn module_fields(module: &Module) -> Result<Map<String, Value>> {
    let identity = Identity::module(module.device_id.as_str(), module.module_id.as_str())?;
    check_keys(&module.authentication, &identity)?;
    Ok(fields_of(&json!(module)))
}

/// The code that the hub itself would give for input that was not sent: every result of a bulk has a code.
fn as_the_hub_calls_it(error: Error) -> Error {
    error.with_hub_code("ArgumentInvalid")
}
