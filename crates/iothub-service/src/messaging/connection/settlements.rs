//! Outcomes on their way from whoever handled a message to the connection task.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iothub_amqp::proto::LinkId;
use iothub_amqp::types::messaging::{Accepted, DeliveryState, Rejected, Released};
use iothub_common::{Error, ErrorKind, Result};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Reply;

/// What becomes of a message that the hub holds for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done with: the hub removes it.
    Complete,
    /// The hub hands it out again.
    Abandon,
    /// The hub removes it as one that cannot be handled.
    Reject,
}

impl Verdict {
    pub(super) fn state(self) -> DeliveryState {
        match self {
            Self::Complete => Accepted {}.into(),
            Self::Abandon => Released {}.into(),
            Self::Reject => Rejected { error: None }.into(),
        }
    }
}

/// A message that came in. Numbers start anew with every connection, so it is part of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DeliveryName {
    pub(super) connection: u64,
    pub(super) link: LinkId,
    pub(super) id: u32,
}

#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) delivery: DeliveryName,
    pub(super) verdict: Verdict,
    /// Who waits until the hub has heard it, and for how long.
    pub(super) waiter: Option<(Reply<()>, Instant)>,
}

/// Outcomes that the connection task has not taken yet; never more than there are locks.
#[derive(Debug)]
pub(super) struct Settlements {
    queue: Mutex<Vec<Settlement>>,
    wake: Arc<Notify>,
}

impl Settlements {
    pub(super) fn new(wake: Arc<Notify>) -> Self {
        Self { queue: Mutex::new(Vec::new()), wake }
    }

    pub(super) fn take(&self) -> Vec<Settlement> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, settlement: Settlement) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(settlement);
        self.wake.notify_one();
    }
}

/// Holds a message until it has its outcome. Dropped without one, it is abandoned.
#[derive(Debug)]
pub(crate) struct Lock {
    delivery: DeliveryName,
    settlements: Arc<Settlements>,
    settled: bool,
}

impl Lock {
    pub(super) fn new(delivery: DeliveryName, settlements: Arc<Settlements>) -> Self {
        Self { delivery, settlements, settled: false }
    }

    /// Gives the outcome and waits until the hub has confirmed it. It stays given when the future is dropped.
    pub(crate) async fn settle(mut self, verdict: Verdict, limit: Duration) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.give(verdict, Some((reply, Instant::now() + limit)));
        drop(self);
        answer.await.unwrap_or_else(|_| {
            let message = "the connection was closed before the hub confirmed the outcome of the message";
            Err(Error::new(ErrorKind::Closed, message).with_may_have_been_applied(true))
        })
    }

    /// Gives the outcome and leaves it at that.
    pub(crate) fn settle_unheard(mut self, verdict: Verdict) {
        self.give(verdict, None);
    }

    fn give(&mut self, verdict: Verdict, waiter: Option<(Reply<()>, Instant)>) {
        self.settled = true;
        self.settlements.push(Settlement { delivery: self.delivery, verdict, waiter });
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.settled {
            self.give(Verdict::Abandon, None);
        }
    }
}
