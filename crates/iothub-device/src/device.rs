//! The client of a device.

use iothub_common::{ClientOptions, Error, Result};

use crate::{
    builder::DeviceClientBuilder,
    client::{Client, Which},
    faces::shared_methods,
    message::Message,
    methods::MethodRequests,
    received::ReceivedMessages,
    status::{ConnectionStatus, StatusChanges},
    telemetry,
    twin::Twin,
};

/// A device's connection to its hub, over AMQP and TLS.
///
/// Cheap to clone; all clones share one connection, which is kept up in a task of its own: after a loss it
/// reconnects, with growing pauses up to 30 s, until the hub refuses for good or the client is closed. It
/// closes when [`DeviceClient::close`] is called or the last clone, [`Twin`] and stream is dropped.
///
/// Must be used within a Tokio runtime.
#[derive(Debug, Clone)]
pub struct DeviceClient {
    client: Client,
}

impl DeviceClient {
    /// Connects with a device's connection string. Returns once the hub has accepted the device; failures that
    /// may pass are tried again for up to 60 s.
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](iothub_common::ErrorKind::InvalidInput): the string is not that of a device.
    /// - [`Unauthorized`](iothub_common::ErrorKind::Unauthorized): wrong key, or the clock is off.
    /// - [`NotFound`](iothub_common::ErrorKind::NotFound): no such device, or it is disabled.
    /// - [`Certificate`](iothub_common::ErrorKind::Certificate): nobody trusts the hub's certificate.
    /// - [`Connect`](iothub_common::ErrorKind::Connect): the hub cannot be reached; the address is named.
    pub async fn connect(connection_string: &str) -> Result<Self> {
        Self::builder(connection_string)?.connect().await
    }

    /// As [`DeviceClient::connect`], to a hub on other ports or with another CA.
    ///
    /// # Errors
    ///
    /// As [`DeviceClient::connect`].
    pub async fn connect_with(connection_string: &str, options: ClientOptions) -> Result<Self> {
        Self::builder(connection_string)?.options(options).connect().await
    }

    /// Options, then [`DeviceClientBuilder::connect`]. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](iothub_common::ErrorKind::InvalidInput): the string is not that of a device.
    pub fn builder(connection_string: &str) -> Result<DeviceClientBuilder> {
        DeviceClientBuilder::for_device(connection_string)
    }

    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The device.
    #[must_use]
    pub fn device_id(&self) -> &str {
        self.client.identity().device_id()
    }

    shared_methods!();
}
