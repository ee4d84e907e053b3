//! `$management` of the built-in endpoint: what there is to read (amqp.md 5.7).

use iothub_amqp::message::{Body, Message, application_properties};
use iothub_amqp::proto::{Connection, Delivery, LinkId, Outgoing, SessionId};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::{Array, OrderedMap, Timestamp};
use iothub_amqp::types::messaging::{Accepted, DeliveryState, Properties, TargetArchetype};
use iothub_amqp::types::performatives::Attach;
use iothub_amqp::types::primitives::SimpleValue;

use super::convert;
use super::peer::Peer;
use super::refusal::Refusal;

/// `$management` links of a connection that receive.
const MAX_LINKS: usize = 64;
/// Answers that wait for credit on one of them.
const MAX_WAITING: usize = 1000;

/// Where answers go.
#[derive(Debug, Default)]
pub(super) struct Management {
    receivers: Vec<Receiver>,
}

#[derive(Debug)]
struct Receiver {
    session: SessionId,
    link: LinkId,
    /// What requests name as reply-to.
    address: Option<String>,
}

/// A status, its description and a body.
type Answer = (i32, String, Option<Value>);

impl Management {
    pub(super) fn add(&mut self, link: LinkId, session: SessionId, attach: &Attach) -> Result<(), Refusal> {
        if self.receivers.len() >= MAX_LINKS {
            let text = format!("A connection has at most {MAX_LINKS} $management links.");
            return Err(Refusal::too_many(text));
        }
        let address = attach.target.as_deref().and_then(|target| match target {
            TargetArchetype::Target(target) => target.address.clone(),
        });
        self.receivers.push(Receiver { session, link, address });
        Ok(())
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        self.receivers.retain(|receiver| receiver.link != link);
    }

    /// The link with the reply-to of a request, else the newest of its session, else the newest.
    fn find(&self, reply_to: Option<&str>, session: SessionId) -> Option<LinkId> {
        let named = |receiver: &&Receiver| reply_to.is_some() && receiver.address.as_deref() == reply_to;
        let mut newest = self.receivers.iter().rev();
        let found = newest.clone().find(named).or(newest.clone().find(|one| one.session == session));
        found.or(newest.next()).map(|receiver| receiver.link)
    }
}

impl Peer {
    pub(super) fn on_management(&mut self, engine: &mut Connection, session: SessionId, request: &Delivery) {
        let message = match Message::decode(&request.payload) {
            Ok(message) if !request.oversized => message,
            _ => {
                let refusal = Refusal::undecodable("The management request cannot be read.");
                engine.dispose(request.link, request.id, refusal.to_outcome(self.hub.now()), true);
                return;
            }
        };
        engine.dispose(request.link, request.id, DeliveryState::Accepted(Accepted {}), true);
        let properties = message.properties.clone().unwrap_or_default();
        let Some(link) = self.management.find(properties.reply_to.as_deref(), session) else { return };
        if engine.queued(link) >= MAX_WAITING {
            return self.detach(
                engine,
                link,
                &Refusal::too_many("Too many management answers wait for credit."),
            );
        }
        let (status, description, body) = self.answer(&message);
        let answer = Message {
            properties: Some(Properties { correlation_id: properties.message_id, ..Properties::default() }),
            annotations: None,
            application_properties: Some(application_properties([
                ("status-code", SimpleValue::Int(status)),
                ("status-description", SimpleValue::String(description)),
            ])),
            body: body.map_or(Body::Empty, Body::Value),
        };
        let outgoing =
            Outgoing { payload: answer.encode(), format: 0, tag: None, settled: true, token: u64::MAX };
        engine.send(link, outgoing);
    }

    fn answer(&self, request: &Message) -> Answer {
        let property = |name| request.application_text(name).unwrap_or_default();
        if !property("operation").eq_ignore_ascii_case("READ") {
            return (400, "The operation is not known; READ is.".to_owned(), None);
        }
        let name = property("name");
        if !name.eq_ignore_ascii_case(self.entity()) {
            return (404, self.no_entity(name).error.text, None);
        }
        match property("type") {
            "com.microsoft:eventhub" => (200, "OK".to_owned(), Some(self.describe_hub(name))),
            "com.microsoft:partition" => {
                let partition = property("partition");
                match self.describe_partition(name, partition) {
                    Some(body) => (200, "OK".to_owned(), Some(body)),
                    None => (404, format!("There is no partition '{partition}'."), None),
                }
            }
            other => (400, format!("The type '{other}' is not known."), None),
        }
    }

    fn describe_hub(&self, name: &str) -> Value {
        let count = self.hub.partitions();
        let ids = (0..count).map(|id| Value::String(id.to_string())).collect::<Vec<_>>();
        map([
            ("name", Value::String(name.to_owned())),
            ("type", Value::String("com.microsoft:eventhub".to_owned())),
            ("created_at", Value::Timestamp(Timestamp::from(0))),
            ("partition_count", Value::Int(i32::try_from(count).unwrap_or(i32::MAX))),
            ("partition_ids", Value::Array(Array(ids))),
        ])
    }

    fn describe_partition(&self, name: &str, partition: &str) -> Option<Value> {
        let info = self.hub.partition(partition.parse().ok()?).ok()?;
        // What Event Hubs says of a partition that never had an event (inferred).
        let offset = info.last_offset.map_or("-1".to_owned(), |offset| offset.to_string());
        let time = info.last_enqueued_at.map_or(Timestamp::from(0), convert::timestamp);
        Some(map([
            ("name", Value::String(name.to_owned())),
            ("type", Value::String("com.microsoft:partition".to_owned())),
            ("partition", Value::String(partition.to_owned())),
            ("begin_sequence_number", Value::Long(info.first_sequence)),
            ("last_enqueued_sequence_number", Value::Long(info.last_sequence)),
            ("last_enqueued_offset", Value::String(offset)),
            ("last_enqueued_time_utc", Value::Timestamp(time)),
            ("is_partition_empty", Value::Bool(info.is_empty)),
        ]))
    }
}

fn map(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let pairs = pairs.into_iter().map(|(name, value)| (Value::String(name.to_owned()), value));
    Value::Map(pairs.collect::<OrderedMap<_, _>>())
}
