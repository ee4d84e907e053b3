//! Device-to-cloud messages (amqp.md 3.4, 4.2, 4.4).

use bytes::Bytes;
use iothub_amqp::message::{BATCH_FORMAT, Body, Message};
use iothub_amqp::proto::{Connection, Delivery};
use iothub_amqp::types::messaging::{Accepted, DeliveryState};
use iothub_common::Identity;

use super::peer::Peer;
use super::refusal::Refusal;
use super::{convert, faults};
use crate::hub::Message as HubMessage;

/// Messages a client may send ahead of our outcomes.
pub(super) const CREDIT: u32 = 1000;
/// What a link takes: a message of the largest size and what is not counted, headers and annotations.
pub(super) const MAX_ENCODED: u64 = 262_144 + 65_536;

/// The Plug and Play model of the sender, on what it sends.
const MODEL: &str = "dt-dataschema";

impl Peer {
    /// Takes the message or the messages of a delivery.
    pub(super) fn on_telemetry(&mut self, engine: &mut Connection, identity: &Identity, delivery: &Delivery) {
        let outcome = match self.take_telemetry(identity, delivery) {
            Ok(()) => DeliveryState::Accepted(Accepted {}),
            Err(refusal) => refusal.to_outcome(self.hub.now()),
        };
        engine.dispose(delivery.link, delivery.id, outcome, true);
    }

    fn take_telemetry(&mut self, identity: &Identity, delivery: &Delivery) -> Result<(), Refusal> {
        if delivery.oversized {
            return Err(Refusal::too_large(format!("The message has more than {MAX_ENCODED} bytes.")));
        }
        let outer = decode(&delivery.payload)?;
        // C writes them on the batch.
        let fault = faults::read(&outer);
        let messages = if delivery.format == BATCH_FORMAT { unpack(outer)? } else { vec![outer] };
        let now = self.hub.now();
        if let Some(fault) = fault.or_else(|| messages.iter().find_map(faults::read)) {
            if let Some(link) = self.links.get(&delivery.link) {
                self.faults.plan(fault, identity, link.session, now);
                self.wind_alarm();
            }
            return Ok(());
        }
        if let Some(refusal) = self.refuses_telemetry(identity) {
            return Err(refusal);
        }
        let model = self.links.get(&delivery.link).and_then(|link| link.model_id.clone());
        let messages = messages.into_iter().map(|message| {
            let mut message: HubMessage = convert::read(message)?;
            message.system.extend(model.clone().map(|model| (MODEL.into(), model)));
            Ok(message)
        });
        let messages = messages.collect::<Result<Vec<_>, Refusal>>()?;
        let count = messages.len() as u64;
        self.hub.publish(identity, self.grants.auth_of(identity), messages)?;
        self.telemetry += count;
        self.hub.tally().telemetry_accepted.add(count);
        Ok(())
    }
}

fn decode(bytes: &Bytes) -> Result<Message, Refusal> {
    Message::decode(bytes)
        .map_err(|error| Refusal::undecodable(format!("The message cannot be read: {error}")))
}

/// Every data section of a batch is a whole message; the C SDK sends single ones like that too.
fn unpack(batch: Message) -> Result<Vec<Message>, Refusal> {
    match batch.body {
        Body::Data(message) => Ok(vec![decode(&message)?]),
        Body::Batch(messages) => messages.iter().map(decode).collect(),
        Body::Empty | Body::Value(_) => Err(Refusal::undecodable("The batch has no messages in it.")),
    }
}
