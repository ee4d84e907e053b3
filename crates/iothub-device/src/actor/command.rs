//! What handles ask of the connection task.

use std::sync::Arc;

use bytes::Bytes;
use iothub_common::Result;
use tokio::{sync::oneshot, time::Instant};

use crate::desired::Queue;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// Twin requests an application makes (amqp.md 3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TwinOp {
    /// Read both sections. May be repeated.
    Get,
    /// Merge a patch into the reported properties. Must not be repeated without the caller knowing.
    Report,
}

/// Every command is answered at its deadline at the latest, connected or not.
#[derive(Debug)]
pub(crate) enum Command {
    Twin { op: TwinOp, body: Bytes, deadline: Instant, reply: Reply<(Bytes, u64)> },
    SubscribeDesired { deadline: Instant, reply: Reply<Arc<Queue>> },
}
