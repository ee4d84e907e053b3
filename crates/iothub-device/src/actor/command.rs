//! What handles ask of the connection task.

use std::sync::Arc;

use iothub_common::Result;
use tokio::{sync::oneshot, time::Instant};

use super::member::Member;
use crate::{
    client::Which,
    desired::Queue,
    features::{AnswerCall, AnswerTo, RawMessage, RawRequest, SettleCall, TelemetryCall, Ticket, TwinCall},
    mailbox::Mailbox,
};

/// Names an identity within its connection; never used twice.
pub(crate) type Key = u64;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// Every command is answered at its deadline at the latest, connected or not.
pub(crate) enum Command {
    Twin { call: TwinCall, deadline: Instant },
    SubscribeDesired { deadline: Instant, reply: Reply<Arc<Queue>> },
    Send { call: TelemetryCall, deadline: Instant },
    SubscribeMethods { name: Option<String>, deadline: Instant, reply: Reply<Arc<Mailbox<RawRequest>>> },
    AnswerMethod { call: AnswerCall, deadline: Instant },
    Receive { which: Which, input: Option<String>, deadline: Instant, reply: Reply<Arc<Mailbox<RawMessage>>> },
    Settle { which: Which, call: SettleCall, deadline: Instant },
}

/// What must get through even while commands wait, and from where nobody can wait. It needs no bound: there is
/// at most one for each identity, stream, request and message that is alive.
pub(crate) enum Control {
    Add(Key, Box<Member>),
    /// Closed by the application, or its last handle was dropped.
    Remove(Key),
    /// A reader took something or is gone: look again.
    Touch(Key),
    /// The application dropped a method request.
    MethodDropped(Key, AnswerTo),
    /// The application dropped a message.
    Release(Key, Which, Ticket),
}
