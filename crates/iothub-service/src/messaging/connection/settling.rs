//! Outcomes that the hub has been told of and has not confirmed.

use std::collections::HashMap;

use iothub_amqp::proto::LinkId;
use iothub_amqp::types::definitions::Error as AmqpError;
use iothub_amqp::types::messaging::{DeliveryState, Rejected};
use iothub_common::{Error, ErrorKind};
use tokio::time::Instant;

use super::{Reply, timed_out};

/// Who waits, by link and delivery, and until when.
#[derive(Debug, Default)]
pub(super) struct Settling(HashMap<(LinkId, u32), (Reply<()>, Instant)>);

impl Settling {
    pub(super) fn insert(&mut self, link: LinkId, delivery: u32, reply: Reply<()>, deadline: Instant) {
        self.0.insert((link, delivery), (reply, deadline));
    }

    /// The hub says whether an outcome came in time.
    pub(super) fn done(&mut self, link: LinkId, delivery: u32, state: Option<&DeliveryState>) {
        let Some((reply, _)) = self.0.remove(&(link, delivery)) else { return };
        let result = match state {
            Some(DeliveryState::Rejected(Rejected { error: Some(error) })) => Err(refused(error)),
            _ => Ok(()),
        };
        // Nobody listens when the caller dropped its future.
        reply.send(result).ok();
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().map(|(_, deadline)| *deadline).min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for (_, (reply, _)) in self.0.extract_if(|_, (_, deadline)| *deadline <= now) {
            reply.send(Err(timed_out(true, None).with_may_have_been_applied(true))).ok();
        }
    }

    /// Messages of a link, or of all links, are not ours any more.
    pub(super) fn lost(&mut self, link: Option<LinkId>) {
        let gone = |of: &(LinkId, u32)| link.is_none_or(|link| link == of.0);
        for (_, (reply, _)) in self.0.extract_if(|of, _| gone(of)) {
            let message = "the connection was lost before the hub confirmed the outcome of the message";
            let error = Error::new(ErrorKind::Unavailable, message).with_may_have_been_applied(true);
            reply.send(Err(error)).ok();
        }
    }
}

/// The lock had ended: C# expects `amqp:not-found` or `com.microsoft:message-lock-lost` (amqp.md 3.5).
fn refused(error: &AmqpError) -> Error {
    match iothub_amqp::condition(error).as_str() {
        "amqp:not-found" | "com.microsoft:message-lock-lost" => Error::new(
            ErrorKind::PreconditionFailed,
            "the message was held for too long: the hub hands it out again",
        )
        .with_hub_code("DeviceMessageLockLost"),
        condition => Error::new(
            ErrorKind::Rejected,
            format!("the hub refused the outcome of the message: {condition}"),
        ),
    }
}
