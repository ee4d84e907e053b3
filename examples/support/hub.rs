//! Which hub an example talks to: the one of the environment, else a local one inside the program.
#![allow(dead_code)] // Each example uses its part.

use iothub::{ClientOptions, Registry, device::Transport};
use iothub_emulator::LocalHub;

/// A hub's connection string, and how to reach it.
pub(crate) struct Hub {
    pub(crate) connection_string: String,
    pub(crate) options: ClientOptions,
    embedded: Option<LocalHub>,
}

/// `IOTHUB_CONNECTION_STRING`, or a local hub that ends with the program.
pub(crate) async fn from_environment() -> Result<Hub, Box<dyn std::error::Error>> {
    if let Ok(connection_string) = std::env::var("IOTHUB_CONNECTION_STRING") {
        return Ok(Hub { connection_string, options: ClientOptions::from_env()?, embedded: None });
    }
    let hub = LocalHub::start().await?;
    let (connection_string, options) = (hub.connection_string(), hub.client_options());
    Ok(Hub { connection_string, options, embedded: Some(hub) })
}

/// A module to be: `IOTHUB_MODULE_CONNECTION_STRING`, or one made on an embedded hub, which must be kept.
pub(crate) async fn module_from_environment()
-> Result<(String, ClientOptions, Option<Hub>), Box<dyn std::error::Error>> {
    if let Ok(connection_string) = std::env::var("IOTHUB_MODULE_CONNECTION_STRING") {
        return Ok((connection_string, ClientOptions::from_env()?, None));
    }
    let hub = from_environment().await?;
    let registry = hub.registry()?;
    registry.get_or_create_device("myFirstDevice").await?;
    let module = registry.get_or_add_module("myFirstDevice", "myFirstModule").await?;
    let connection_string = module.connection_string(registry.host_name()).ok_or("the module has no key")?;
    Ok((connection_string, hub.options.clone(), Some(hub)))
}

/// A device to be: `IOTHUB_DEVICE_CONNECTION_STRING`, or one made on an embedded hub, which must be kept.
pub(crate) async fn device_from_environment()
-> Result<(String, ClientOptions, Option<Hub>), Box<dyn std::error::Error>> {
    if let Ok(connection_string) = std::env::var("IOTHUB_DEVICE_CONNECTION_STRING") {
        return Ok((connection_string, ClientOptions::from_env()?, None));
    }
    let hub = from_environment().await?;
    let registry = hub.registry()?;
    let device = registry.get_or_create_device("myFirstDevice").await?;
    let connection_string = device.connection_string(registry.host_name()).ok_or("the device has no key")?;
    Ok((connection_string, hub.options.clone(), Some(hub)))
}

/// `--websocket` on the command line, for networks that let only port 443 out.
pub(crate) fn transport() -> Transport {
    if std::env::args().any(|arg| arg == "--websocket") { Transport::AmqpWebSocket } else { Transport::Amqp }
}

/// The value after a flag on the command line.
pub(crate) fn argument(flag: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != flag).nth(1)
}

impl Hub {
    /// The service half for this hub.
    pub(crate) fn registry(&self) -> iothub::Result<Registry> {
        Registry::from_connection_string_with(&self.connection_string, self.options.clone())
    }

    /// Ends the local hub, if it is one.
    pub(crate) async fn shutdown(self) {
        if let Some(hub) = self.embedded {
            hub.shutdown().await;
        }
    }
}
