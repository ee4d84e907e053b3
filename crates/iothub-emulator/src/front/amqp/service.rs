//! Links of services: messages to devices, notices, and the way to the built-in endpoint (amqp.md 5).

use iothub_amqp::message::{Message, fields};
use iothub_amqp::proto::{Connection, Delivery};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::Symbol;
use iothub_amqp::types::definitions::{AmqpError, Error, Fields, LinkError};
use iothub_amqp::types::messaging::{Accepted, DeliveryState};
use iothub_amqp::types::performatives::Attach;
use iothub_common::Identity;

use super::address::{self, Address, Endpoint, ServiceEndpoint};
use super::convert;
use super::feed::Feed;
use super::outbox::{Outbox, Source};
use super::peer::Peer;
use super::reader;
use super::refusal::Refusal;
use crate::hub::{ErrorCode, Inbox, NoSuchPartition};

/// A message to a device of the largest size, and what is not counted.
pub(super) const MAX_ENCODED: u64 = 65_536 + 65_536;

/// Owner level of a reader (amqp.md 5.7).
const EPOCH: &str = "com.microsoft:epoch";

impl Peer {
    /// The tokens' resources of which one is enough for a link, without the host.
    pub(super) fn resources(&self, endpoint: &ServiceEndpoint) -> Vec<String> {
        let host = self.hub.host_name();
        match endpoint {
            ServiceEndpoint::DeviceBound => vec![format!("{host}/messages/devicebound")],
            ServiceEndpoint::Feedback => vec![format!("{host}/messages/servicebound/feedback")],
            ServiceEndpoint::FileNotifications => {
                vec![format!("{host}/messages/servicebound/filenotifications")]
            }
            ServiceEndpoint::Redirected(_) => vec![format!("{host}/messages/events")],
            ServiceEndpoint::Management => {
                let entity = self.entity();
                vec![format!("{host}/{entity}/$management"), format!("{host}/messages/events")]
            }
            ServiceEndpoint::Partition { entity, group, partition } => vec![
                format!("{host}/{entity}/ConsumerGroups/{group}/Partitions/{partition}"),
                format!("{host}/messages/events"),
            ],
        }
    }

    /// The built-in endpoint's name is the hub's.
    pub(super) fn entity(&self) -> &str {
        self.hub.host_name().split('.').next().unwrap_or_default()
    }

    /// What the hub sends on a service's receiving link.
    pub(super) fn service_feed(
        &mut self,
        endpoint: &ServiceEndpoint,
        attach: &Attach,
    ) -> Result<Option<Feed>, Refusal> {
        let queue = |inbox| Feed::Queue(Outbox::new(self.hub.clone(), Source::Service(inbox)));
        let feed = match endpoint {
            ServiceEndpoint::Feedback => queue(Inbox::Feedback),
            ServiceEndpoint::FileNotifications => queue(Inbox::FileNotifications),
            ServiceEndpoint::Partition { entity, group, partition } => {
                self.read_partition(entity, group, partition, attach)?
            }
            ServiceEndpoint::DeviceBound | ServiceEndpoint::Management | ServiceEndpoint::Redirected(_) => {
                return Ok(None);
            }
        };
        self.news.listen(&self.hub);
        Ok(Some(feed))
    }

    fn read_partition(
        &self,
        entity: &str,
        group: &str,
        partition: &str,
        attach: &Attach,
    ) -> Result<Feed, Refusal> {
        if !entity.eq_ignore_ascii_case(self.entity()) {
            return Err(self.no_entity(entity));
        }
        let number = partition.parse().ok().filter(|number: &u32| number.to_string() == partition);
        let Some(number) = number.filter(|number| self.hub.partition(*number) != Err(NoSuchPartition)) else {
            let count = self.hub.partitions();
            let text =
                format!("There is no partition '{partition}': there are 0 to {}.", count.saturating_sub(1));
            return Err(Refusal::new(AmqpError::NotFound, ErrorCode::ArgumentInvalid, text));
        };
        let start = reader::start_of(attach.source.as_deref())?;
        let reader = self.hub.read_events(group, number, start, epoch_of(attach.properties.as_ref()));
        reader.map(Feed::Events).map_err(|refused| Refusal::reader(refused, group, partition))
    }

    pub(super) fn no_entity(&self, entity: &str) -> Refusal {
        let own = self.entity();
        let text = format!("The messaging entity '{entity}' could not be found; this hub's is '{own}'.");
        Refusal::new(AmqpError::NotFound, ErrorCode::ArgumentInvalid, text)
    }

    /// Where to go for events: here, by another name (amqp.md 5.6).
    pub(super) fn redirection(&self, suffix: &str) -> Error {
        let (host, port) = (self.hub.host_name(), self.port);
        let address = format!("amqps://{host}:{port}/{}/{suffix}", self.entity());
        let text = |text: &str| Value::String(text.to_owned());
        let info = fields([
            ("hostname", text(host)),
            ("network-host", text(host)),
            ("port", Value::Ushort(port)),
            ("address", Value::String(address)),
        ]);
        Error::new(LinkError::Redirect, "The events are at another address.".to_owned(), info)
    }

    /// A message from a service to a device.
    pub(super) fn on_device_bound(&mut self, engine: &mut Connection, delivery: &Delivery) {
        let outcome = match self.send_to_device(delivery) {
            Ok(()) => DeliveryState::Accepted(Accepted {}),
            Err(refusal) => refusal.to_outcome(self.hub.now()),
        };
        engine.dispose(delivery.link, delivery.id, outcome, true);
    }

    fn send_to_device(&self, delivery: &Delivery) -> Result<(), Refusal> {
        if delivery.oversized {
            return Err(Refusal::too_large("The message is larger than the 65536 bytes that devices get."));
        }
        let message = Message::decode(&delivery.payload)
            .map_err(|error| Refusal::undecodable(format!("The message cannot be read: {error}")))?;
        let to = message.properties.as_ref().and_then(|properties| properties.to.as_deref());
        let target = receiver_of(to.unwrap_or_default())?;
        Ok(self.hub.send_to_device(&target, convert::read_device_bound(message)?)?)
    }
}

/// Whom the property `to` means (amqp.md 5.2).
fn receiver_of(to: &str) -> Result<Identity, Refusal> {
    match address::parse(to) {
        Some(Address::Identity(identity, Endpoint::DeviceBound)) => Ok(identity),
        Some(Address::Identity(identity, Endpoint::Events)) if identity.module_id().is_some() => Ok(identity),
        _ => {
            let text = format!(
                "The message's `to` is '{to}', it must be like /devices/{{id}}/messages/devicebound or \
                 /devices/{{id}}/modules/{{id}}/messages/devicebound."
            );
            Err(Refusal::new(
                iothub_amqp::types::definitions::ErrorCondition::Custom(Symbol::from(
                    "com.microsoft:argument-error",
                )),
                ErrorCode::ArgumentInvalid,
                text,
            ))
        }
    }
}

fn epoch_of(properties: Option<&Fields>) -> Option<i64> {
    let value = properties?.iter().find(|(name, _)| name.as_str() == EPOCH).map(|(_, value)| value)?;
    match value {
        Value::Long(epoch) => Some(*epoch),
        Value::Ulong(epoch) => i64::try_from(*epoch).ok(),
        Value::Int(epoch) => Some((*epoch).into()),
        Value::Uint(epoch) => Some((*epoch).into()),
        _ => None,
    }
}
