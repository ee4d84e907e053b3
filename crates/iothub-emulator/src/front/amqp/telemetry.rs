//! Device-to-cloud messages: which are acceptable (amqp.md 3.4, 4.2, 4.4).

use std::time::SystemTime;

use bytes::Bytes;
use iothub_amqp::message::{BATCH_FORMAT, Body, Message};
use iothub_amqp::proto::Delivery;
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::messaging::{Accepted, DeliveryState, MessageId};
use iothub_amqp::types::primitives::SimpleValue;

use super::refusal::Refusal;

/// Messages a client may send ahead of our outcomes.
pub(super) const CREDIT: u32 = 1000;
/// The size of a message, or of a batch, as the hub counts it (amqp.md 4.2, 8).
const MAX_SIZE: usize = 262_144;
/// What a link takes: a message of the largest size and what is not counted, headers and annotations.
pub(super) const MAX_ENCODED: u64 = 262_144 + 65_536;

/// The messages of a delivery, or why it is refused.
pub(super) fn read(delivery: &Delivery) -> Result<Vec<Message>, Refusal> {
    if delivery.oversized {
        return Err(too_large(delivery.payload.len().max(MAX_SIZE + 1)));
    }
    let message = decode(&delivery.payload)?;
    let messages = if delivery.format == BATCH_FORMAT { unpack(message)? } else { vec![message] };
    let size = messages.iter().map(counted_size).sum();
    if size > MAX_SIZE {
        return Err(too_large(size));
    }
    Ok(messages)
}

/// The outcome for a delivery and how many messages it brought.
pub(super) fn judge(delivery: &Delivery, now: SystemTime) -> (DeliveryState, usize) {
    match read(delivery) {
        Ok(messages) => (DeliveryState::Accepted(Accepted {}), messages.len()),
        Err(refusal) => (refusal.to_outcome(now), 0),
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

fn too_large(size: usize) -> Refusal {
    Refusal::too_large(format!("The message has {size} bytes or more, at most {MAX_SIZE} are allowed."))
}

/// Body, values of system properties, names and values of user properties (amqp.md 4.2).
fn counted_size(message: &Message) -> usize {
    let body = match &message.body {
        Body::Empty => 0,
        Body::Data(bytes) => bytes.len(),
        Body::Batch(parts) => parts.iter().map(Bytes::len).sum(),
        Body::Value(Value::String(text)) => text.len(),
        Body::Value(Value::Binary(bytes)) => bytes.len(),
        Body::Value(_) => 0,
    };
    let system = message.properties.as_ref().map_or(0, |p| {
        p.message_id.as_ref().map_or(0, id_size)
            + p.correlation_id.as_ref().map_or(0, id_size)
            + p.user_id.as_ref().map_or(0, |id| id.len())
            + p.to.as_ref().map_or(0, String::len)
            + p.content_type.as_ref().map_or(0, |text| text.as_str().len())
            + p.content_encoding.as_ref().map_or(0, |text| text.as_str().len())
            + p.absolute_expiry_time.as_ref().map_or(0, |_| 24)
    });
    let user = message.application_properties.as_ref().map_or(0, |properties| {
        properties.0.iter().map(|(name, value)| name.len() + value_size(value)).sum()
    });
    body + system + user
}

/// Ids count as text.
fn id_size(id: &MessageId) -> usize {
    match id {
        MessageId::String(text) => text.len(),
        MessageId::Binary(bytes) => bytes.len(),
        MessageId::Ulong(number) => number.to_string().len(),
        MessageId::Uuid(_) => 36,
    }
}

/// SDKs send text only.
fn value_size(value: &SimpleValue) -> usize {
    match value {
        SimpleValue::String(text) => text.len(),
        SimpleValue::Symbol(text) => text.as_str().len(),
        SimpleValue::Binary(bytes) => bytes.len(),
        _ => 8,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_amqp::message::application_properties;
    use iothub_amqp::types::messaging::Properties;

    use super::*;

    #[test]
    fn sizes_are_counted_without_what_is_around_the_values() {
        let message = Message {
            properties: Some(
                Properties::builder()
                    .message_id("12345".to_owned())
                    .correlation_id(7_u64)
                    .content_type("application/json")
                    .build(),
            ),
            application_properties: Some(application_properties([(
                "key",
                SimpleValue::String("value".to_owned()),
            )])),
            body: Body::Data(Bytes::from_static(b"{}")),
            ..Message::default()
        };
        assert_eq!(counted_size(&message), 5 + 1 + 16 + 3 + 5 + 2);
    }
}
