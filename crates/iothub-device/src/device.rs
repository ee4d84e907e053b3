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
    upload::{self, FileUpload, UploadOptions, UploadSource, UploadedFile},
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

    pub(crate) fn inner(&self) -> &Client {
        &self.client
    }

    shared_methods!();

    /// Uploads a file to the hub's storage account: asks the hub for a place, writes there, and tells the hub, which
    /// tells services. When it fails the hub is told that too.
    ///
    /// ```no_run
    /// # async fn run(client: iothub_device::DeviceClient) -> iothub_device::Result<()> {
    /// use iothub_device::UploadSource;
    ///
    /// let file = client.upload_file("logs/today.txt", UploadSource::file("/var/log/today.txt")).await?;
    /// println!("{} bytes at {}", file.size, file.blob_uri);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It goes over HTTPS, whatever the connection of this client does, through the proxy of its options if there is
    /// one. No limit of time for the whole; each request has its own. Dropping the future leaves the upload open, one
    /// of ten, until the hub ends it after an hour.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](iothub_common::ErrorKind::InvalidInput): the source cannot be read, the name is none.
    /// - [`QuotaExceeded`](iothub_common::ErrorKind::QuotaExceeded): ten uploads of this device are open.
    /// - [`Rejected`](iothub_common::ErrorKind::Rejected): the hub has no storage account.
    /// - those of [`FileUpload::send`] and [`FileUpload::complete`].
    pub async fn upload_file(
        &self,
        blob_name: &str,
        source: impl Into<UploadSource>,
    ) -> Result<UploadedFile> {
        self.upload_file_with(blob_name, source, &UploadOptions::default()).await
    }

    /// As [`upload_file`](Self::upload_file), with options: blocks, content type, progress.
    ///
    /// # Errors
    ///
    /// As [`upload_file`](Self::upload_file).
    pub async fn upload_file_with(
        &self,
        blob_name: &str,
        source: impl Into<UploadSource>,
        options: &UploadOptions,
    ) -> Result<UploadedFile> {
        upload::upload(&self.client, blob_name, source.into(), options).await
    }

    /// Opens an upload, for who wants its steps one by one.
    ///
    /// # Errors
    ///
    /// Those of [`upload_file`](Self::upload_file) that come from the hub.
    pub async fn start_upload(&self, blob_name: &str) -> Result<FileUpload> {
        FileUpload::start(&self.client, blob_name).await
    }
}
