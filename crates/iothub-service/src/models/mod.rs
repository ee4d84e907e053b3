//! What goes to the hub and comes back, as serde types.

mod authentication;
mod configuration;
mod device;
mod digital_twin;
pub(crate) mod hub_enum;
mod job;
pub(crate) mod method;
mod module;
mod statistics;
mod tags;
mod timestamp;
mod transfer_job;
mod twin;
mod twin_patch;
mod unknown;

#[cfg(test)]
mod tests;

pub use authentication::{Authentication, AuthenticationType, NewAuthentication, SymmetricKeys, Thumbprints};
pub use configuration::{
    Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueries,
    ConfigurationQueriesTest, NewConfiguration,
};
pub use device::{ConnectionState, Device, DeviceCapabilities, DeviceStatus, NewDevice};
pub use digital_twin::{DigitalTwin, DigitalTwinPatch};
pub use iothub_common::{DirectMethod, MethodResponse, RawJson};
pub use job::{
    DeviceJob, DeviceJobError, DeviceJobOutcome, DeviceJobStatistics, DeviceJobStatus, Job, JobStatus,
    JobType, NewJob,
};
pub use module::{Module, NewModule};
pub use statistics::{DeviceStatistics, PurgedMessages, ServiceStatistics};
pub use tags::Tags;
pub use timestamp::Timestamp;
pub use transfer_job::{NewTransferJob, StorageAuthentication, TransferJob};
pub use twin::Twin;
pub use twin_patch::{TwinContent, TwinPatch};
pub use unknown::UnknownFields;

use iothub_common::{DeviceConnectionString, Identity, SymmetricKey};

/// The connection string of an identity with its primary key, where it has one and the ids fit into the format.
fn connection_string(
    host_name: &str,
    device_id: &str,
    module_id: Option<&str>,
    authentication: &Authentication,
) -> Option<String> {
    let key = SymmetricKey::from_base64(authentication.symmetric_key.primary_key.as_ref()?.reveal()).ok()?;
    let identity = match module_id {
        Some(module_id) => Identity::module(device_id, module_id),
        None => Identity::device(device_id),
    };
    let text = DeviceConnectionString::new(host_name, identity.ok()?, key).ok()?.reveal();
    Some(text.reveal().to_owned())
}
