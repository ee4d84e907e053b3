//! Modules of devices (rest.md 4).

use http::Method;
use iothub_common::{Identity, IfMatch, Result};

use super::Registry;
use super::devices::{check_keys, if_unchanged};
use crate::http::Call;
use crate::models::{Module, NewModule};

impl Registry {
    /// Adds a module to a device: `registry.add_module("myDevice", "myModule")`, or a [`NewModule`] with more than
    /// an id. A device holds up to 50.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the device has one with this id, see
    /// [`Registry::get_or_add_module`]; [`NotFound`](crate::ErrorKind::NotFound) when there is no such device;
    /// [`QuotaExceeded`](crate::ErrorKind::QuotaExceeded) when the device is full.
    pub async fn add_module(&self, device_id: &str, module: impl Into<NewModule>) -> Result<Module> {
        let module = module.into();
        let identity = Identity::module(device_id, &module.module_id)?;
        let call = Call::change("add module", Method::PUT, "devices", &identity);
        // No If-Match: create, never replace (rest.md 1.6).
        self.http.json(call.json(&module.to_json(device_id))?).await
    }

    /// Reads a module.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the device has none with this id, or there is no such device.
    pub async fn get_module(&self, device_id: &str, module_id: &str) -> Result<Module> {
        let identity = Identity::module(device_id, module_id)?;
        self.http.json(Call::get("get module", "devices", &identity)).await
    }

    /// Writes back a module that was read and changed, provided that nobody else changed it since: the etag in
    /// `module` must still be the hub's. Gives the module as it is now, with its new etag.
    ///
    /// Everything in `module` is sent, keys included.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when the module changed since it was read: read
    /// it again. [`NotFound`](crate::ErrorKind::NotFound) when it is gone.
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it authenticates by keys but has none: the hub would
    /// replace its keys with new ones.
    pub async fn update_module(&self, module: &Module) -> Result<Module> {
        self.update_module_if_match(module, &if_unchanged(&module.etag)).await
    }

    /// [`Registry::update_module`] with a condition of your own; [`IfMatch::Any`] overwrites changes of others.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_module`].
    pub async fn update_module_if_match(&self, module: &Module, if_match: &IfMatch) -> Result<Module> {
        let identity = Identity::module(&module.device_id, &module.module_id)?;
        check_keys(&module.authentication, &identity)?;
        let call = Call::change("update module", Method::PUT, "devices", &identity);
        self.http.json(call.if_match(if_match)?.json(module)?).await
    }

    /// Deletes a module and its twin, whatever state it is in.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the device has none with this id, or there is no such device.
    pub async fn delete_module(&self, device_id: &str, module_id: &str) -> Result<()> {
        self.delete_module_if_match(device_id, module_id, &IfMatch::Any).await
    }

    /// Deletes a module if its etag is still the one given.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when it is not;
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such module.
    pub async fn delete_module_if_match(
        &self,
        device_id: &str,
        module_id: &str,
        if_match: &IfMatch,
    ) -> Result<()> {
        let identity = Identity::module(device_id, module_id)?;
        let call = Call::change("delete module", Method::DELETE, "devices", &identity);
        self.http.send(call.if_match(if_match)?).await?;
        Ok(())
    }

    /// All modules of a device, at most 50.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device.
    pub async fn list_modules(&self, device_id: &str) -> Result<Vec<Module>> {
        let identity = Identity::device(device_id)?;
        let path = format!("{}/modules", identity.http_path("devices"));
        self.http.json(Call::read("list modules", path, (&identity).into())).await
    }
}
