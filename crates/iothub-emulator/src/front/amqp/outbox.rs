//! Links on which the hub sends what waits in a queue: each message has a lock until the client says what became
//! of it (amqp.md 3.5, 5.3).

use std::collections::HashMap;

use bytes::Bytes;
use iothub_amqp::message::{Body, Message};
use iothub_amqp::proto::{Connection, LinkId, Outcome, Outgoing};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::Symbol;
use iothub_amqp::types::messaging::{Accepted, DeliveryState, Properties};
use iothub_common::Identity;
use uuid::Uuid;

use super::convert;
use super::refusal::Refusal;
use crate::hub::{Hub, HubError, Inbox, Lane, Locked, Message as HubMessage, Notice, Verdict};

/// A queue and the link that it empties into. Dropping it gives back what has no outcome.
#[derive(Debug)]
pub(super) struct Outbox {
    hub: Hub,
    source: Source,
    /// What the client has not settled, by the engine's token.
    locks: HashMap<u64, Uuid>,
    last_token: u64,
}

/// Which queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Device(Identity, Lane),
    Service(Inbox),
}

impl Outbox {
    pub(super) fn new(hub: Hub, source: Source) -> Self {
        Self { hub, source, locks: HashMap::new(), last_token: 0 }
    }

    /// Sends what waits, as far as there is credit.
    pub(super) fn pump(&mut self, engine: &mut Connection, link: LinkId) {
        while engine.credit(link) as usize > engine.queued(link) {
            let Some((lock, message)) = self.next() else { return };
            self.last_token += 1;
            let outgoing = Outgoing {
                payload: message.encode(),
                format: 0,
                tag: Some(Bytes::copy_from_slice(&lock.to_bytes_le())),
                settled: false,
                token: self.last_token,
            };
            self.locks.insert(self.last_token, lock);
            if !engine.send(link, outgoing) {
                return;
            }
        }
    }

    fn next(&self) -> Option<(Uuid, Message)> {
        match &self.source {
            // Who may not receive any more is sent away in another way.
            Source::Device(identity, lane) => {
                let locked = self.hub.receive(identity, *lane).ok()??;
                Some((locked.lock, device_message(&locked, identity, *lane)))
            }
            Source::Service(inbox) => {
                let locked = self.hub.receive_notice(*inbox)?;
                let hub_name = self.hub.host_name().split('.').next().unwrap_or_default();
                Some((locked.lock, notice(&locked, *inbox, hub_name)))
            }
        }
    }

    /// The client said what became of a message.
    pub(super) fn on_outcome(&mut self, engine: &mut Connection, link: LinkId, token: u64, outcome: Outcome) {
        let Some(lock) = self.locks.remove(&token) else { return };
        let verdict = match outcome {
            Outcome::Accepted => Verdict::Complete,
            Outcome::Rejected(_) => Verdict::Reject,
            Outcome::Released | Outcome::Modified => Verdict::Abandon,
            Outcome::Settled | Outcome::Lost { .. } => Verdict::Release,
        };
        // Where the client waits for our word (rcv-settle-mode second), C# takes anything but accepted for a
        // failure, whatever its own outcome was (amqp.md 3.5).
        let word = match self.settle(lock, verdict) {
            Ok(()) => DeliveryState::Accepted(Accepted {}),
            Err(error) => Refusal::lock_lost(error).to_outcome(self.hub.now()),
        };
        engine.settle(link, token, word);
    }

    fn settle(&self, lock: Uuid, verdict: Verdict) -> Result<(), HubError> {
        match &self.source {
            Source::Device(identity, lane) => self.hub.settle(identity, *lane, lock, verdict),
            Source::Service(inbox) => self.hub.settle_notice(*inbox, lock, verdict),
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        for lock in self.locks.values() {
            // A lock that is over has given its message back already.
            self.settle(*lock, Verdict::Release).ok();
        }
    }
}

/// The types of the annotations matter to C#: amqp.md 3.5.
fn device_message(locked: &Locked<HubMessage>, identity: &Identity, lane: Lane) -> Message {
    let mut message = convert::write(&locked.item);
    if lane == Lane::Messages
        && let Some(properties) = &mut message.properties
    {
        properties.to = Some(identity.amqp_path("messages/devicebound"));
    }
    let annotations = [
        ("iothub-enqueuedtime", Value::Timestamp(convert::timestamp(locked.enqueued_at))),
        ("iothub-deliverycount", Value::Ubyte(locked.delivery_count)),
        ("x-opt-sequence-number", Value::Ulong(locked.sequence)),
        ("x-opt-lock-token", Value::String(locked.lock.to_string())),
    ];
    message.annotations = Some(convert::annotations(annotations, &locked.item));
    message
}

/// C# needs the user id and the time: amqp.md 5.3.
fn notice(locked: &Locked<Notice>, inbox: Inbox, hub_name: &str) -> Message {
    let content_type = match inbox {
        Inbox::Feedback => "application/vnd.microsoft.iothub.feedback.json",
        Inbox::FileNotifications => "application/vnd.microsoft.iothub.filenotification.json",
    };
    let properties = Properties {
        user_id: Some(hub_name.as_bytes().to_vec().into()),
        content_type: Some(Symbol::from(content_type)),
        ..Properties::default()
    };
    let enqueued_at = Value::Timestamp(convert::timestamp(locked.enqueued_at));
    Message {
        properties: Some(properties),
        annotations: Some(iothub_amqp::message::annotations([("iothub-enqueuedtime", enqueued_at)])),
        application_properties: None,
        body: Body::Data(locked.item.body.clone()),
    }
}
