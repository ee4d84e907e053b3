//! The device half of the Azure IoT Hub SDK: modules over AMQP, with their twins.
//!
//! ```no_run
//! # async fn run(connection_string: &str) -> iothub_device::Result<()> {
//! use iothub_device::ModuleClient;
//! use serde_json::json;
//!
//! let client = ModuleClient::connect(connection_string).await?;
//! let twin = client.twin();
//! println!("{}", twin.get().await?);
//!
//! let mut desired = twin.desired().await?;
//! twin.report(&json!({ "firmwareVersion": "1.2.1" })).await?;
//! while let Some(update) = desired.next().await {
//!     println!("{}", update.properties());
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! - A [`ModuleClient`] is a handle on one connection, which is kept up in the background.
//! - Its [`Twin`] reads, reports, and gives the desired properties as a stream, [`DesiredUpdates`].
//! - A [`TelemetryBuffer`] keeps messages while there is no connection, in memory or, with the feature `file-buffer`,
//!   in a file.
//! - What happens inside is told through `tracing`, and in numbers with the feature `metrics`; docs/metrics.md has the
//!   names.
//! - [`DeviceClient::upload_file`] brings a file to the hub's storage account, over HTTPS, in blocks and with progress.
//! - A [`ProvisioningClient`] asks the Device Provisioning Service for the hub, where a device does not know it.
//! - Every call ends within its time limit. An [`Error`] says by its [`kind`](Error::kind) what to do, and by
//!   [`may_have_been_applied`](Error::may_have_been_applied) whether the hub may have acted all the same.

mod actor;
mod buffer;
mod builder;
mod calls;
mod client;
mod credentials;
mod desired;
mod device;
mod edge;
mod faces;
mod features;
mod http;
mod invoke;
mod mailbox;
mod measure;
mod message;
mod methods;
mod module;
mod multiplexer;
mod provisioning;
mod received;
mod reported_state;
mod status;
mod telemetry;
mod twin;
mod upload;

#[cfg(feature = "file-buffer")]
pub use buffer::FileStore;
pub use buffer::{
    BufferOutlet, BufferStats, MemoryStore, MessageStore, RefusedMessage, TelemetryBuffer,
    TelemetryBufferBuilder, WhenFull,
};
pub use builder::{ClientBuilder, DeviceClientBuilder, ModuleClientBuilder};
pub use credentials::SasRequest;
pub use desired::{DesiredUpdate, DesiredUpdates};
pub use device::DeviceClient;
pub use iothub_common::{
    ClientCertificate, ClientOptions, DirectMethod, Error, ErrorKind, MethodResponse, Properties, Proxy,
    RawJson, ReconnectPolicy, Result, RetryPolicy, Secret, SymmetricKey, TlsConfig, Transport,
    TwinProperties,
};
pub use message::Message;
pub use methods::{MethodRequest, MethodRequests};
pub use module::ModuleClient;
pub use multiplexer::Multiplexer;
pub use provisioning::{Assignment, ProvisioningClient};
pub use received::{ReceivedMessage, ReceivedMessages};
pub use reported_state::ReportedState;
pub use status::{ConnectionStatus, StatusChanges};
pub use twin::Twin;
pub use upload::{FileUpload, UploadOptions, UploadProgress, UploadSource, UploadedFile};

/// What the hub sees in its logs.
pub(crate) const USER_AGENT: &str = concat!("iothub-device-rust/", env!("CARGO_PKG_VERSION"));
