//! The service half of the Azure IoT Hub SDK: identities, twins and the rest of the registry.
//!
//! # From nothing to a module with a wish
//!
//! A service that knows a hub's connection string (in the portal under *Shared access policies*) creates a device and
//! a module on it, hands the module's connection string to the program that will run as it, and tells that program
//! through the module's twin what it should do:
//!
//! ```no_run
//! use iothub_service::{Ensured, Registry, TwinPatch};
//! use serde_json::json;
//!
//! # async fn run() -> iothub_service::Result<()> {
//! let hub = std::env::var("IOTHUB_CONNECTION_STRING").expect("set IOTHUB_CONNECTION_STRING");
//! let registry = Registry::from_connection_string(&hub)?;
//!
//! // Identities. Both keys of each are made by the hub.
//! let device = registry.get_or_create_device("myFirstDevice").await?;
//! let module = registry.get_or_add_module(&device.device_id, "myFirstModule").await?;
//! if let Some(connection_string) = module.connection_string(registry.host_name()) {
//!     println!("module connection string = \"{connection_string}\"");
//! }
//!
//! // What the module should do. It is told at once if it is connected, else when it next is.
//! let patch = TwinPatch::new().tags(&json!({ "site": "north" })).desired(&json!({ "intervalSeconds": 30 }));
//! let twin = registry.update_module_twin("myFirstDevice", "myFirstModule", &patch).await?;
//!
//! // What the module says about itself.
//! println!("reported: {}", twin.properties.reported);
//! # Ok(())
//! # }
//! ```
//!
//! # What there is
//!
//! | To | Call |
//! |---|---|
//! | create, read, change, delete identities | [`Registry::create_device`], [`Registry::add_module`], … |
//! | change one thing and lose nothing | [`Registry::change_device`], [`Registry::set_device_status`], [`Registry::rotate_device_key`] |
//! | do so with thousands | [`Registry::bulk`], [`Registry::create_devices`], [`Registry::delete_devices`] |
//! | list identities of any number | [`Registry::list_devices`], [`Registry::list_modules`] |
//! | read and write twins | [`Registry::get_device_twin`], [`Registry::update_module_twin`], … |
//! | find twins, count them, select parts | [`Registry::query`] |
//! | ask a device to do something now | [`Registry::invoke_device_method`], [`Registry::invoke_command`] |
//! | do something on many devices later | [`Registry::create_job`], [`Registry::wait_for_job`], [`Registry::device_jobs`] |
//! | set whatever devices fit a condition | [`Registry::create_configuration`] |
//! | move identities to and from blobs | [`Registry::create_transfer_job`] |
//! | work with devices by their models | [`Registry::get_digital_twin`], [`Registry::update_digital_twin`] |
//! | count | [`Registry::device_statistics`], [`Registry::service_statistics`] |
//!
//! Credentials are a connection string with a policy's key or a signature that is ready, or, with the feature
//! `entra-id`, any `TokenCredential` of `azure_core`.
//!
//! # Concepts
//!
//! - **[`Registry`]** is the entry to everything. It is cheap to clone, and clones share their connections.
//! - **Etags** tell which version of a thing was read. [`Registry::update_device`] and [`Registry::update_module`]
//!   fail with [`ErrorKind::PreconditionFailed`] when somebody else changed the identity since it was read; the
//!   methods whose names end in `_if_match` take a condition of your own. Deletes and twin writes have no condition
//!   unless you give one.
//! - **Answers keep what they do not know**: fields and texts of a newer hub are kept (`unknown`, `Unknown(…)`) and
//!   sent back by an update.
//! - **Errors** are one type with a [`kind`](Error::kind). Reads are repeated after failures that pass; a change is
//!   repeated only when it certainly did nothing, else [`Error::may_have_been_applied`] says so.
//! - **JSON stays as it is**: twins, query results and payloads hold the hub's own text, with the order of keys, big
//!   integers and dates; read them raw, or into types with serde.
//! - **Streams** ([`Query`], [`Bulk`], [`DeviceStream`]) send nothing before they are polled; dropping one cancels it.
//! - **Secrets** are shown by no `Debug`; the connection strings that identities give are plain text with the key.
//! - A hub on another port, with a certificate of its own or behind a proxy is reached through [`ClientOptions`].
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! |---|---|---|
//! | `tls-ring` | yes | TLS by ring |
//! | `tls-aws-lc-rs` | no | TLS by AWS-LC |
//! | `platform-roots` | yes | trusts what the operating system trusts |
//! | `entra-id` | no | `Registry::with_token_credential` |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod credentials;
mod http;
mod messaging;
mod models;
mod registry;

pub use iothub_common::{
    ClientOptions, ETag, Error, ErrorKind, IfMatch, Properties, Proxy, Result, RetryPolicy, Secret,
    SymmetricKey, TlsConfig, TwinProperties,
};

pub use crate::messaging::{
    CloudMessage, DeliveryAck, DeviceEvent, EventReader, EventReaderBuilder, EventSource, EventStream,
    FeedbackBatch, FeedbackRecord, FeedbackStatus, FeedbackStream, FileNotification, FileNotificationStream,
    Messaging, PartitionInfo, StartPosition,
};
pub use crate::models::{
    Authentication, AuthenticationType, Configuration, ConfigurationContent, ConfigurationMetrics,
    ConfigurationQueries, ConfigurationQueriesTest, ConnectionState, Device, DeviceCapabilities, DeviceJob,
    DeviceJobError, DeviceJobOutcome, DeviceJobStatistics, DeviceJobStatus, DeviceStatistics, DeviceStatus,
    DigitalTwin, DigitalTwinPatch, DirectMethod, Job, JobStatus, JobType, MethodResponse, Module,
    NewAuthentication, NewConfiguration, NewDevice, NewJob, NewModule, NewTransferJob, PurgedMessages,
    RawJson, ServiceStatistics, StorageAuthentication, SymmetricKeys, Tags, Thumbprints, Timestamp,
    TransferJob, Twin, TwinContent, TwinPatch, UnknownFields,
};
pub use crate::registry::{
    Bulk, BulkItem, BulkReport, BulkResult, DeviceStream, Ensured, ItemType, KeySlot, Page, Pages, Query,
    Registry, RegistryBuilder,
};
