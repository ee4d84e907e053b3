//! Devices (rest.md 3).

use http::Method;
use iothub_common::{ETag, Error, ErrorKind, Identity, IfMatch, Result};

use super::Registry;
use crate::http::Call;
use crate::models::{Authentication, Device, NewDevice};

impl Registry {
    /// Creates a device: `registry.create_device("myDevice")`, or a [`NewDevice`] with more than an id.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) when there is one with this id; see
    /// [`Registry::get_or_create_device`].
    pub async fn create_device(&self, device: impl Into<NewDevice>) -> Result<Device> {
        let device = device.into();
        let identity = Identity::device(&device.device_id)?;
        // No If-Match: create, never replace (rest.md 1.6).
        let call = Call::change("create device", Method::PUT, "devices", &identity);
        self.http.json(call.json(&device.to_json())?).await
    }

    /// Reads a device.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is none with this id.
    pub async fn get_device(&self, device_id: &str) -> Result<Device> {
        let identity = Identity::device(device_id)?;
        self.http.json(Call::get("get device", "devices", &identity)).await
    }

    /// Writes back a device that was read and changed, provided that nobody else changed it since: the etag in
    /// `device` must still be the hub's. Gives the device as it is now, with its new etag.
    ///
    /// Everything in `device` is sent, keys included.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](ErrorKind::PreconditionFailed) when the device changed since it was read: read it
    /// again. [`NotFound`](ErrorKind::NotFound) when it is gone. [`InvalidInput`](ErrorKind::InvalidInput) when it
    /// authenticates by keys but has none: the hub would replace its keys with new ones.
    pub async fn update_device(&self, device: &Device) -> Result<Device> {
        self.update_device_if_match(device, &if_unchanged(&device.etag)).await
    }

    /// [`Registry::update_device`] with a condition of your own; [`IfMatch::Any`] overwrites changes of others.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device`].
    pub async fn update_device_if_match(&self, device: &Device, if_match: &IfMatch) -> Result<Device> {
        let identity = Identity::device(&device.device_id)?;
        check_keys(&device.authentication, &identity)?;
        let call = Call::change("update device", Method::PUT, "devices", &identity);
        self.http.json(call.if_match(if_match)?.json(device)?).await
    }

    /// Deletes a device, its modules and its twins, whatever state it is in.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is none with this id.
    pub async fn delete_device(&self, device_id: &str) -> Result<()> {
        self.delete_device_if_match(device_id, &IfMatch::Any).await
    }

    /// Deletes a device if its etag is still the one given.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](ErrorKind::PreconditionFailed) when it is not; [`NotFound`](ErrorKind::NotFound) when
    /// there is no such device.
    pub async fn delete_device_if_match(&self, device_id: &str, if_match: &IfMatch) -> Result<()> {
        let identity = Identity::device(device_id)?;
        let call = Call::change("delete device", Method::DELETE, "devices", &identity);
        self.http.send(call.if_match(if_match)?).await?;
        Ok(())
    }
}

/// The condition that nobody else changed what was read.
pub(super) fn if_unchanged(etag: &ETag) -> IfMatch {
    IfMatch::ETag(etag.clone())
}

/// Refuses an update that would make the hub replace the keys (rest.md 3.3).
pub(super) fn check_keys(authentication: &Authentication, identity: &Identity) -> Result<()> {
    if !authentication.makes_the_hub_generate_keys() {
        return Ok(());
    }
    let message = format!(
        "`{identity}` authenticates by keys but has none here, so the hub would replace its keys; \
         set both keys in `authentication.symmetric_key`"
    );
    Err(Error::new(ErrorKind::InvalidInput, message))
}
