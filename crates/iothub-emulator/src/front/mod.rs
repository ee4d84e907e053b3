//! The adapters between the wire and the hub: who listens, and which protocol is spoken there.

pub(crate) mod amqp;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod workload;
