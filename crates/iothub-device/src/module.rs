//! The client of a module.

use iothub_common::{ClientOptions, Error, Result};

use crate::{
    builder::ModuleClientBuilder,
    client::{Client, Which},
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

    /// The module's twin. No I/O.
    #[must_use]
    pub fn twin(&self) -> Twin {
        Twin::new(self.client.clone())
    }

    /// Sends a message to the hub; returns once the hub has stored it. Messages of one client keep the order in
    /// which their futures were first polled. After a connection loss what was not confirmed is sent again, so it may arrive twice, never
    /// not at all.
    ///
    /// Dropping the future may leave the message sent.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](iothub_common::ErrorKind::InvalidInput) before anything is sent, naming the part: over
    ///   256 KiB, reserved property names, ids that are not ASCII.
    /// - [`QuotaExceeded`](iothub_common::ErrorKind::QuotaExceeded), [`Throttled`](iothub_common::ErrorKind::Throttled):
    ///   the hub refuses for now.
    /// - [`Timeout`](iothub_common::ErrorKind::Timeout), [`Closed`](iothub_common::ErrorKind::Closed): look at
    ///   [`Error::may_have_been_applied`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<()> {
        telemetry::send(&self.client, message.into(), None, self.client.call_timeout()).await
    }

    /// Sends many messages in as few transfers as the limit of 256 KiB allows; returns once the hub has stored
    /// all of them. Cheaper than [`ModuleClient::send`] for each.
    ///
    /// # Errors
    ///
    /// As [`ModuleClient::send`]. After one, some of the messages may be stored.
    pub async fn send_batch(&self, messages: &[Message]) -> Result<()> {
        telemetry::send_batch(&self.client, messages, self.client.call_timeout()).await
    }

    /// Sends a message to an output of this Edge module, for the routes of the gateway.
    ///
    /// # Errors
    ///
    /// As [`ModuleClient::send`].
    pub async fn send_to_output(&self, output: &str, message: impl Into<Message>) -> Result<()> {
        telemetry::send(&self.client, message.into(), Some(output), self.client.call_timeout()).await
    }

    /// Listens for messages from the cloud. Returns once the hub has granted the link. Several streams share the
    /// messages between them.
    ///
    /// # Errors
    ///
    /// As [`Twin::get`].
    pub async fn messages(&self) -> Result<ReceivedMessages> {
        let reader = self.client.receive(Which::Cloud, None).await?;
        Ok(ReceivedMessages::new(reader, Which::Cloud))
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

    /// Listens for direct methods that no [`method`](Self::method) stream takes. Returns once the hub has granted
    /// the links.
    ///
    /// # Errors
    ///
    /// As [`Twin::get`].
    pub async fn methods(&self) -> Result<MethodRequests> {
        Ok(MethodRequests::new(self.client.methods(None).await?))
    }

    /// Listens for one direct method, case-sensitive. Returns once the hub has granted the links.
    ///
    /// # Errors
    ///
    /// As [`Twin::get`].
    pub async fn method(&self, name: impl Into<String>) -> Result<MethodRequests> {
        Ok(MethodRequests::new(self.client.methods(Some(name.into())).await?))
    }

    /// How the connection is doing now.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        self.client.status()
    }

    /// The connection status as it changes, beginning with the present one.
    #[must_use]
    pub fn status_changes(&self) -> StatusChanges {
        self.client.status_changes()
    }

    /// Waits until the client is closed: `None` when the application closed it, else why it gave up.
    pub async fn closed(&self) -> Option<Error> {
        self.client.closed().await
    }

    /// Closes the connection and waits until it is closed. Ends within 5 s and cannot fail; calls that wait
    /// for an answer end with [`ErrorKind::Closed`](iothub_common::ErrorKind::Closed). May be called anywhere,
    /// any number of times, connected or not.
    pub async fn close(&self) {
        self.client.close().await;
    }
}
