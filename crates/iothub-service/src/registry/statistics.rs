//! Numbers about the hub, and the queue of a device (rest.md 3.1).

use http::Method;
use iothub_common::{Identity, Result, Subject};

use super::Registry;
use crate::http::Call;
use crate::models::{DeviceStatistics, PurgedMessages, ServiceStatistics};

impl Registry {
    /// How many devices the hub knows.
    ///
    /// # Errors
    ///
    /// Those of every call, see [`Registry`].
    pub async fn device_statistics(&self) -> Result<DeviceStatistics> {
        let hub = Subject::Hub(self.host_name());
        self.http.json(Call::read("device statistics", "/statistics/devices".to_owned(), hub)).await
    }

    /// How many devices are connected.
    ///
    /// # Errors
    ///
    /// Those of every call, see [`Registry`].
    pub async fn service_statistics(&self) -> Result<ServiceStatistics> {
        let hub = Subject::Hub(self.host_name());
        self.http.json(Call::read("service statistics", "/statistics/service".to_owned(), hub)).await
    }

    /// Throws away all messages that wait for a device.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device.
    pub async fn purge_message_queue(&self, device_id: &str) -> Result<PurgedMessages> {
        let identity = Identity::device(device_id)?;
        let path = format!("{}/commands", identity.http_path("devices"));
        let call = Call::read("purge message queue", path, (&identity).into());
        self.http.json(call.changing(Method::DELETE)).await
    }
}
