//! Events from devices, read at the hub's built-in endpoint: an event hub elsewhere to which the hub redirects
//! (amqp.md 5.5 to 5.7).

mod builder;
mod discover;
mod event;
pub(super) mod management;
mod reader;
mod redirect;
mod start;
mod stream;

pub use self::builder::EventReaderBuilder;
pub use self::event::{DeviceEvent, EventSource};
pub use self::management::PartitionInfo;
pub use self::reader::EventReader;
pub use self::start::StartPosition;
pub use self::stream::EventStream;

pub(crate) use self::event::sequence_number;
