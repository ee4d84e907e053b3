//! Digital twins (rest.md 10).

use http::Method;
use iothub_common::{ETag, Identity, IfMatch, Result};

use super::Registry;
use crate::http::{Call, Unread};
use crate::models::{DigitalTwin, DigitalTwinPatch, DirectMethod, MethodResponse, RawJson, method};

/// The header with the status that the device gave.
const COMMAND_STATUS: &str = "x-ms-command-statuscode";

impl Registry {
    /// Reads the digital twin of a device.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device.
    pub async fn get_digital_twin(&self, device_id: &str) -> Result<DigitalTwin> {
        let identity = Identity::device(device_id)?;
        let call = Call::get("get digital twin", "digitaltwins", &identity);
        let unread = Unread { what: call.what, changes: false };
        let answer = self.http.send(call).await?;
        Ok(DigitalTwin { document: unread.json(&answer)?, etag: crate::http::etag(&answer) })
    }

    /// Changes the digital twin of a device, whatever its etag, and gives the new etag. What changes are the desired
    /// values of its properties; a connected device is told.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a patch that the hub does not accept.
    pub async fn update_digital_twin(
        &self,
        device_id: &str,
        patch: &DigitalTwinPatch,
    ) -> Result<Option<ETag>> {
        self.update_digital_twin_if_match(device_id, patch, &IfMatch::Any).await
    }

    /// [`Registry::update_digital_twin`] if the etag is still the one given.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_digital_twin`], and
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when the etag is another.
    pub async fn update_digital_twin_if_match(
        &self,
        device_id: &str,
        patch: &DigitalTwinPatch,
        if_match: &IfMatch,
    ) -> Result<Option<ETag>> {
        let identity = Identity::device(device_id)?;
        let call = Call::change("update digital twin", Method::PATCH, "digitaltwins", &identity);
        let call = call.if_match(if_match)?.body(method::body(&patch.json()?));
        Ok(crate::http::etag(&self.http.send(call).await?))
    }

    /// Invokes a command of the device's model (the root component) and waits for the device's answer.
    ///
    /// The command's name, payload and timeouts are those of a [`DirectMethod`]; the rest is as for
    /// [`Registry::invoke_device_method`].
    ///
    /// # Errors
    ///
    /// Those of [`Registry::invoke_device_method`].
    pub async fn invoke_command(
        &self,
        device_id: &str,
        command: impl Into<DirectMethod>,
    ) -> Result<MethodResponse> {
        let identity = Identity::device(device_id)?;
        let path = identity.http_path("digitaltwins");
        self.command(&identity, path, &command.into()).await
    }

    /// Invokes a command of a component, see [`Registry::invoke_command`].
    ///
    /// # Errors
    ///
    /// Those of [`Registry::invoke_device_method`].
    pub async fn invoke_component_command(
        &self,
        device_id: &str,
        component: &str,
        command: impl Into<DirectMethod>,
    ) -> Result<MethodResponse> {
        let identity = Identity::device(device_id)?;
        let path = format!("{}/components", identity.http_path("digitaltwins"));
        let path = super::jobs::path(&path, component, "component")?;
        self.command(&identity, path, &command.into()).await
    }

    async fn command(
        &self,
        identity: &Identity,
        path: String,
        command: &DirectMethod,
    ) -> Result<MethodResponse> {
        let path = super::jobs::path(&format!("{path}/commands"), command.name(), "command")?;
        let (connect, response) = command.timeouts_in_seconds();
        let call = Call::read("invoke command", path, identity.into())
            .changing(Method::POST)
            .patience(command.patience())
            .query("connectTimeoutInSeconds", connect)
            .query("responseTimeoutInSeconds", response)
            .body(method::body(&command.payload_json()?));
        let unread = Unread { what: call.what, changes: true };
        let answer = self.http.send(call).await?;
        let status = answer.header(COMMAND_STATUS).and_then(|status| status.trim().parse().ok());
        // A device that answers with no payload leaves the body empty.
        let payload: RawJson =
            if answer.body.is_empty() { RawJson::default() } else { unread.json(&answer)? };
        Ok(MethodResponse::new(status.unwrap_or_else(|| answer.status.as_u16().into()), payload))
    }
}
