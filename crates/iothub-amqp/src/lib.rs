//! AMQP 1.0 for the `iothub` crates: sessions and links without I/O, over the frame codec and the types of
//! fe2o3-amqp. **Internal: no stability is promised.**
//!
//! From the bottom: [`dial`] makes a byte stream, `websocket` wraps one, [`sasl`] exchanges the protocol headers, [`Driver`] runs a
//! [`proto::Connection`] on it, [`message`] and [`cbs`] say what is inside the transfers. Both ends of a
//! connection use the same code.

pub mod cbs;
pub mod client;
mod condition;
pub mod dial;
mod driver;
pub mod guard;
pub mod message;
pub mod proto;
pub mod sasl;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wire;

pub use condition::{amqp_error, condition};
pub use driver::Driver;
pub use fe2o3_amqp_types as types;
pub use serde_amqp;
