//! Direct methods (rest.md 7).

use http::Method;
use iothub_common::{Identity, Result};

use super::Registry;
use crate::http::Call;
use crate::models::{DirectMethod, MethodResponse, method};

impl Registry {
    /// Invokes a method on a device and waits for its answer: `registry.invoke_device_method("myDevice", "reboot")`, or
    /// a [`DirectMethod`] with more than a name.
    ///
    /// An answer of the device is an `Ok`, whatever its status; look at
    /// [`MethodResponse::is_success`](MethodResponse::is_success). The call waits for the hub at least as long as the
    /// method's connect and response timeouts together and 15 s, also beyond the time for a call.
    ///
    /// It is sent once: again only after failures that certainly came before the device heard of it. Dropping the future
    /// does not stop the device.
    ///
    /// # Errors
    ///
    /// What went wrong is told apart by kind and [`hub_code`](crate::Error::hub_code):
    ///
    /// | | Kind | Hub code |
    /// |---|---|---|
    /// | no such device, or it is disabled | [`NotFound`](crate::ErrorKind::NotFound) | `DeviceNotFound` |
    /// | no such module | [`NotFound`](crate::ErrorKind::NotFound) | `ModuleNotFound` |
    /// | not connected within the connect timeout, or it listens to no methods at all | [`Unavailable`](crate::ErrorKind::Unavailable) | `DeviceNotOnline` |
    /// | gone during the call | [`Unavailable`](crate::ErrorKind::Unavailable), may have been applied | `DeviceConnectionClosedRemotely` |
    /// | no answer within the response timeout | [`Timeout`](crate::ErrorKind::Timeout), may have been applied | `GatewayTimeout` |
    /// | name, payload or timeouts not allowed | [`InvalidInput`](crate::ErrorKind::InvalidInput) | `ArgumentInvalid` |
    ///
    /// A connected device without a handler for this name answers itself, as a rule with status 501.
    pub async fn invoke_device_method(
        &self,
        device_id: &str,
        method: impl Into<DirectMethod>,
    ) -> Result<MethodResponse> {
        self.invoke(&Identity::device(device_id)?, &method.into()).await
    }

    /// Invokes a method on a module, see [`Registry::invoke_device_method`].
    ///
    /// # Errors
    ///
    /// Those of [`Registry::invoke_device_method`].
    pub async fn invoke_module_method(
        &self,
        device_id: &str,
        module_id: &str,
        method: impl Into<DirectMethod>,
    ) -> Result<MethodResponse> {
        self.invoke(&Identity::module(device_id, module_id)?, &method.into()).await
    }

    async fn invoke(&self, identity: &Identity, method: &DirectMethod) -> Result<MethodResponse> {
        let path = format!("{}/methods", identity.http_path("twins"));
        let call = Call::read("invoke method", path, identity.into())
            .changing(Method::POST)
            .patience(method.patience())
            .body(method::body(&method.json()?));
        self.http.json(call).await
    }
}
