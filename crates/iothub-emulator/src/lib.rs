//! A local Azure IoT Hub for development and tests: an in-process library and a program.
//!
//! It speaks what the real hub speaks (REST over HTTPS, AMQP 1.0 over TLS), so this SDK and Microsoft's own work
//! against it unchanged. Nothing is mocked: real sockets, real TLS with an authority of its own, real tokens.
//!
//! ```
//! use iothub_emulator::LocalHub;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = LocalHub::start().await?;
//!
//! let connection_string = hub.connection_string(); // policy `iothubowner`
//! let options = hub.client_options(); // the hub's ports and its authority
//! // Registry::from_connection_string_with(&connection_string, options)
//! # drop((connection_string, options));
//!
//! hub.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Each hub is alone: own ports (chosen by the system), own keys, own clock; start as many as there are tests.
//! The program `iothub-emulator` is the same hub on the ports of the real one; see `iothub-emulator --help`.

mod front;
pub mod hub;
mod local_hub;
pub mod provisioning;
mod start_error;
mod state_dir;
pub mod storage;
mod tls;

pub use local_hub::{LocalHub, LocalHubBuilder};
pub use start_error::StartError;
