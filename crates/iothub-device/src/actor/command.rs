//! What handles ask of the connection task.

use std::sync::Arc;

use iothub_common::Result;
use tokio::{sync::oneshot, time::Instant};

use super::member::Member;
use crate::{
    desired::Queue,
    features::{TelemetryCall, TwinCall},
};

/// Names an identity within its connection; never used twice.
pub(crate) type Key = u64;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// Every command is answered at its deadline at the latest, connected or not.
pub(crate) enum Command {
    Twin { call: TwinCall, deadline: Instant },
    SubscribeDesired { deadline: Instant, reply: Reply<Arc<Queue>> },
    Send { call: TelemetryCall, deadline: Instant },
}

/// What must get through even while commands wait: one of each per identity, so it needs no bound.
pub(crate) enum Control {
    Add(Key, Box<Member>),
    /// Closed by the application, or its last handle was dropped.
    Remove(Key),
}
