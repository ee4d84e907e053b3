//! Twins of devices and modules (rest.md 5, twins.md 2).

use bytes::Bytes;
use http::Method;
use iothub_common::{Identity, IfMatch, Result};

use super::Registry;
use crate::http::Call;
use crate::models::{Twin, TwinContent, TwinPatch};

impl Registry {
    /// Reads the twin of a device.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device.
    pub async fn get_device_twin(&self, device_id: &str) -> Result<Twin> {
        self.get_twin(&Identity::device(device_id)?).await
    }

    /// Reads the twin of a module.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such module.
    pub async fn get_module_twin(&self, device_id: &str, module_id: &str) -> Result<Twin> {
        self.get_twin(&Identity::module(device_id, module_id)?).await
    }

    /// Merges a patch into the twin of a device, whatever its etag, and gives the whole twin as it is then. A
    /// connected device is told of a change to its desired properties.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the patch breaks a rule of [`TwinPatch`], before anything
    /// is sent and naming the path, or when the hub finds that tags (8 KiB) or desired properties (32 KiB) would grow
    /// too big; [`NotFound`](crate::ErrorKind::NotFound) when there is no such device.
    pub async fn update_device_twin(&self, device_id: &str, patch: &TwinPatch) -> Result<Twin> {
        self.update_device_twin_if_match(device_id, patch, &IfMatch::Any).await
    }

    /// [`Registry::update_device_twin`] if the etag of the twin is still the one given.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin`], and
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when the etag is another.
    pub async fn update_device_twin_if_match(
        &self,
        device_id: &str,
        patch: &TwinPatch,
        if_match: &IfMatch,
    ) -> Result<Twin> {
        let identity = Identity::device(device_id)?;
        self.write_twin("update device twin", Method::PATCH, &identity, patch.body()?, if_match).await
    }

    /// Merges a patch into the twin of a module, whatever its etag, and gives the whole twin as it is then. A
    /// connected module is told of a change to its desired properties.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin`].
    pub async fn update_module_twin(
        &self,
        device_id: &str,
        module_id: &str,
        patch: &TwinPatch,
    ) -> Result<Twin> {
        self.update_module_twin_if_match(device_id, module_id, patch, &IfMatch::Any).await
    }

    /// [`Registry::update_module_twin`] if the etag of the twin is still the one given.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin_if_match`].
    pub async fn update_module_twin_if_match(
        &self,
        device_id: &str,
        module_id: &str,
        patch: &TwinPatch,
        if_match: &IfMatch,
    ) -> Result<Twin> {
        let identity = Identity::module(device_id, module_id)?;
        self.write_twin("update module twin", Method::PATCH, &identity, patch.body()?, if_match).await
    }

    /// Replaces tags and desired properties of the twin of a device, whatever its etag, and gives the whole twin as
    /// it is then. **What `content` does not have is gone.**
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin`].
    pub async fn replace_device_twin(&self, device_id: &str, content: &TwinContent) -> Result<Twin> {
        self.replace_device_twin_if_match(device_id, content, &IfMatch::Any).await
    }

    /// [`Registry::replace_device_twin`] if the etag of the twin is still the one given.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin_if_match`].
    pub async fn replace_device_twin_if_match(
        &self,
        device_id: &str,
        content: &TwinContent,
        if_match: &IfMatch,
    ) -> Result<Twin> {
        let identity = Identity::device(device_id)?;
        self.write_twin("replace device twin", Method::PUT, &identity, content.body()?, if_match).await
    }

    /// Replaces tags and desired properties of the twin of a module, whatever its etag, and gives the whole twin as
    /// it is then. **What `content` does not have is gone.**
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin`].
    pub async fn replace_module_twin(
        &self,
        device_id: &str,
        module_id: &str,
        content: &TwinContent,
    ) -> Result<Twin> {
        self.replace_module_twin_if_match(device_id, module_id, content, &IfMatch::Any).await
    }

    /// [`Registry::replace_module_twin`] if the etag of the twin is still the one given.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin_if_match`].
    pub async fn replace_module_twin_if_match(
        &self,
        device_id: &str,
        module_id: &str,
        content: &TwinContent,
        if_match: &IfMatch,
    ) -> Result<Twin> {
        let identity = Identity::module(device_id, module_id)?;
        self.write_twin("replace module twin", Method::PUT, &identity, content.body()?, if_match).await
    }

    async fn get_twin(&self, identity: &Identity) -> Result<Twin> {
        self.http.json(Call::get("get twin", "twins", identity)).await
    }

    async fn write_twin(
        &self,
        what: &'static str,
        method: Method,
        identity: &Identity,
        body: Bytes,
        if_match: &IfMatch,
    ) -> Result<Twin> {
        let call = Call::change(what, method, "twins", identity);
        self.http.json(call.if_match(if_match)?.body(body)).await
    }
}
