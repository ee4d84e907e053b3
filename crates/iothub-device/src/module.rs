//! The client of a module.

use iothub_common::{ClientOptions, DirectMethod, Error, Identity, MethodResponse, Result};

use crate::{
    builder::ModuleClientBuilder,
    client::{Client, Which},
    faces::shared_methods,
    invoke,
    message::Message,
    methods::MethodRequests,
    received::ReceivedMessages,
    status::{ConnectionStatus, StatusChanges},
    telemetry,
    twin::Twin,
};

/// A module's connection to its hub, over AMQP and TLS.
///
/// Cheap to clone; all clones share one connection, which is kept up in a task of its own: after a loss it
/// reconnects, with growing pauses up to 30 s, until the hub refuses for good or the client is closed. It
/// closes when [`ModuleClient::close`] is called or the last clone, [`Twin`] and stream is dropped.
///
/// Must be used within a Tokio runtime.
#[derive(Debug, Clone)]
pub struct ModuleClient {
    client: Client,
}

impl ModuleClient {
    /// Connects with a module's connection string. Returns once the hub has accepted the module; failures that
    /// may pass are tried again for up to 60 s.
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](iothub_common::ErrorKind::InvalidInput): the string is not that of a module.
    /// - [`Unauthorized`](iothub_common::ErrorKind::Unauthorized): wrong key, or the clock is off.
    /// - [`NotFound`](iothub_common::ErrorKind::NotFound): no such device or module, or it is disabled.
    /// - [`Certificate`](iothub_common::ErrorKind::Certificate): nobody trusts the hub's certificate.
    /// - [`Connect`](iothub_common::ErrorKind::Connect): the hub cannot be reached; the address is named.
    pub async fn connect(connection_string: &str) -> Result<Self> {
        Self::builder(connection_string)?.connect().await
    }

    /// As [`ModuleClient::connect`], to a hub on other ports or with another CA.
    ///
    /// # Errors
    ///
    /// As [`ModuleClient::connect`].
    pub async fn connect_with(connection_string: &str, options: ClientOptions) -> Result<Self> {
        Self::builder(connection_string)?.options(options).connect().await
    }

    /// Options, then [`ModuleClientBuilder::connect`]. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](iothub_common::ErrorKind::InvalidInput): the string is not that of a module.
    pub fn builder(connection_string: &str) -> Result<ModuleClientBuilder> {
        ModuleClientBuilder::for_module(connection_string)
    }

    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The device that the module belongs to.
    #[must_use]
    pub fn device_id(&self) -> &str {
        self.client.identity().device_id()
    }

    /// The module.
    #[must_use]
    pub fn module_id(&self) -> &str {
        // The builder takes no identity without one.
        self.client.identity().module_id().unwrap_or_default()
    }

    pub(crate) fn inner(&self) -> &Client {
        &self.client
    }

    shared_methods!();

    /// Calls a method on a device, through the IoT Edge gateway that this module runs behind, and waits for the answer:
    /// `client.invoke_device_method("camera-1", "reboot")`, or a [`DirectMethod`] with more than a name.
    ///
    /// An answer of the device is an `Ok`, whatever its status; look at [`MethodResponse::is_success`]. The call waits
    /// at least as long as the method's connect and response timeouts together and 15 s, also beyond the time for a
    /// call. It goes over HTTPS, and is sent once: again only after failures that certainly came before the device
    /// heard of it. Dropping the future does not stop the device.
    ///
    /// # Errors
    ///
    /// - [`Unauthorized`](iothub_common::ErrorKind::Unauthorized): no gateway, or one of another device; the hub itself
    ///   lets no module call methods.
    /// - [`NotFound`](iothub_common::ErrorKind::NotFound): no such device, or it is disabled.
    /// - [`Unavailable`](iothub_common::ErrorKind::Unavailable): it is not connected, listens for no methods, or went
    ///   away meanwhile; see [`Error::may_have_been_applied`].
    /// - [`Timeout`](iothub_common::ErrorKind::Timeout): no answer within the response timeout.
    /// - [`InvalidInput`](iothub_common::ErrorKind::InvalidInput): id, name, payload or timeouts are not allowed.
    pub async fn invoke_device_method(
        &self,
        device_id: &str,
        method: impl Into<DirectMethod>,
    ) -> Result<MethodResponse> {
        invoke::invoke(&self.client, Identity::device(device_id)?, &method.into()).await
    }

    /// Calls a method on a module, see [`invoke_device_method`](Self::invoke_device_method).
    ///
    /// # Errors
    ///
    /// Those of [`invoke_device_method`](Self::invoke_device_method).
    pub async fn invoke_module_method(
        &self,
        device_id: &str,
        module_id: &str,
        method: impl Into<DirectMethod>,
    ) -> Result<MethodResponse> {
        invoke::invoke(&self.client, Identity::module(device_id, module_id)?, &method.into()).await
    }

    /// Sends a message to an output of this Edge module, for the routes of the gateway.
    ///
    /// # Errors
    ///
    /// As [`ModuleClient::send`].
    pub async fn send_to_output(&self, output: &str, message: impl Into<Message>) -> Result<()> {
        telemetry::send(&self.client, message.into(), Some(output), self.client.call_timeout()).await
    }

    /// Listens for messages on all inputs of this Edge module that no [`input`](Self::input) stream takes.
    ///
    /// # Errors
    ///
    /// As [`Twin::get`].
    pub async fn inputs(&self) -> Result<ReceivedMessages> {
        let reader = self.client.receive(Which::Inputs, None).await?;
        Ok(ReceivedMessages::new(reader, Which::Inputs))
    }

    /// Listens for messages on one input of this Edge module.
    ///
    /// # Errors
    ///
    /// As [`Twin::get`].
    pub async fn input(&self, name: impl Into<String>) -> Result<ReceivedMessages> {
        let reader = self.client.receive(Which::Inputs, Some(name.into())).await?;
        Ok(ReceivedMessages::new(reader, Which::Inputs))
    }
}
