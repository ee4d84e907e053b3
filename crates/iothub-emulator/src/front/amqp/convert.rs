//! Messages of AMQP and messages of the hub: what goes where (amqp.md 4.1, 4.3).

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use iothub_amqp::message::{Body, Message, application_properties};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::{Symbol, Timestamp};
use iothub_amqp::types::messaging::{MessageAnnotations, MessageId, Properties};
use iothub_amqp::types::primitives::SimpleValue;

use super::refusal::Refusal;
use crate::hub::{Ack, Message as HubMessage};

/// Annotations of clients that stay with a message.
const KEPT: [&str; 4] = ["dt-subject", "iothub-interface-id", "Diagnostic-Id", "Correlation-Context"];
/// The application property that asks for feedback.
const ACK: &str = "iothub-ack";

/// Reads what a client sent.
pub(super) fn read(message: Message) -> Result<HubMessage, Refusal> {
    let system = KEPT.iter().filter_map(|name| {
        message.annotation_text(name).map(|value| (Cow::Borrowed(*name), value.to_owned()))
    });
    let system = system.collect();
    let properties = message.application_properties.map(|properties| properties.0).unwrap_or_default();
    let properties = properties.into_iter().map(|(name, value)| (name, text(value))).collect();
    let body = message.body.into_bytes().ok_or_else(|| {
        Refusal::undecodable("The body of the message is neither data nor a text or binary value.")
    })?;
    // A slice would keep the whole delivery, of which only this is counted where it is stored.
    let body = Bytes::copy_from_slice(&body);
    let known = message.properties.unwrap_or_default();
    let symbol = |symbol: Option<Symbol>| symbol.map(Symbol::into_inner);
    Ok(HubMessage {
        message_id: known.message_id.map(id_text),
        correlation_id: known.correlation_id.map(id_text),
        user_id: known.user_id.map(|id| Bytes::from(id.into_vec())),
        content_type: symbol(known.content_type),
        content_encoding: symbol(known.content_encoding),
        expires_at: known.absolute_expiry_time.map(time),
        ack: Ack::None,
        system,
        properties,
        body,
    })
}

/// As [`read`], with what services say of feedback taken out of the properties.
pub(super) fn read_device_bound(message: Message) -> Result<HubMessage, Refusal> {
    let mut message = read(message)?;
    message.system.clear();
    if let Some(ack) = message.take_property(ACK) {
        message.ack = ack.parse()?;
    }
    Ok(message)
}

/// A message of the hub without annotations; the body is always one data section.
pub(super) fn write(message: &HubMessage) -> Message {
    let symbol = |text: &Option<String>| text.as_deref().map(Symbol::from);
    let properties = Properties {
        message_id: message.message_id.clone().map(MessageId::String),
        correlation_id: message.correlation_id.clone().map(MessageId::String),
        user_id: message.user_id.as_ref().map(|id| id.to_vec().into()),
        content_type: symbol(&message.content_type),
        content_encoding: symbol(&message.content_encoding),
        absolute_expiry_time: message.expires_at.map(timestamp),
        ..Properties::default()
    };
    let ack = (message.ack != Ack::None).then(|| (ACK, message.ack.text()));
    let user = message.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let user = user.chain(ack).map(|(name, value)| (name, SimpleValue::String(value.to_owned())));
    Message {
        properties: Some(properties),
        annotations: None,
        application_properties: Some(application_properties(user)),
        body: Body::Data(message.body.clone()),
    }
}

/// Annotations, and those of the message itself behind them.
pub(super) fn annotations(
    pairs: impl IntoIterator<Item = (&'static str, Value)>,
    message: &HubMessage,
) -> MessageAnnotations {
    let mut annotations = iothub_amqp::message::annotations(pairs);
    for (name, value) in &message.system {
        annotations.0.insert(name.as_ref().into(), Value::String(value.clone()));
    }
    annotations
}

pub(super) fn timestamp(at: SystemTime) -> Timestamp {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// Times before 1970 are 1970, and those beyond what the system knows are the year 9999.
pub(super) fn time(timestamp: Timestamp) -> SystemTime {
    const YEAR_9999: u64 = 253_402_300_799_999;
    let millis = u64::try_from(timestamp.into_inner()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(millis.min(YEAR_9999))
}

/// Ids are text to the hub, whatever type they came in (amqp.md 4.1).
pub(super) fn id_text(id: MessageId) -> String {
    match id {
        MessageId::String(text) => text,
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(id) => uuid::Uuid::from_bytes(id.into_inner()).to_string(),
        MessageId::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// User properties are text to the hub (amqp.md 4.1).
fn text(value: SimpleValue) -> String {
    match value {
        SimpleValue::Null => String::new(),
        SimpleValue::Bool(value) => value.to_string(),
        SimpleValue::Ubyte(value) => value.to_string(),
        SimpleValue::Ushort(value) => value.to_string(),
        SimpleValue::Uint(value) => value.to_string(),
        SimpleValue::Ulong(value) => value.to_string(),
        SimpleValue::Byte(value) => value.to_string(),
        SimpleValue::Short(value) => value.to_string(),
        SimpleValue::Int(value) => value.to_string(),
        SimpleValue::Long(value) => value.to_string(),
        SimpleValue::Float(value) => value.to_string(),
        SimpleValue::Double(value) => value.to_string(),
        SimpleValue::Char(value) => value.to_string(),
        SimpleValue::Timestamp(value) => crate::hub::Timestamp::from(time(value)).for_twin(),
        SimpleValue::Uuid(id) => uuid::Uuid::from_bytes(id.into_inner()).to_string(),
        SimpleValue::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        SimpleValue::String(text) => text,
        SimpleValue::Symbol(symbol) => symbol.into_inner(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_amqp::message::annotations as amqp_annotations;

    use super::*;

    fn sent(properties: Properties, user: Vec<(&str, SimpleValue)>) -> Message {
        Message {
            properties: Some(properties),
            annotations: Some(amqp_annotations([
                ("dt-subject", Value::String("part".to_owned())),
                ("x-unknown", Value::String("y".to_owned())),
            ])),
            application_properties: Some(application_properties(user)),
            body: Body::Value(Value::String("text".to_owned())),
        }
    }

    #[test]
    fn ids_and_properties_of_every_type_become_text() {
        let id = uuid::Uuid::from_u128(0xA1A2_A3A4_B1B2_C1C2_D1D2_D3D4_D5D6_D7D8);
        let properties = Properties::builder()
            .message_id(MessageId::Uuid(id.into_bytes().into()))
            .correlation_id(7_u64)
            .content_type("application/json")
            .absolute_expiry_time(Timestamp::from(1_502_966_924_500))
            .build();
        let user = vec![
            ("a", SimpleValue::Int(-5)),
            ("b", SimpleValue::Bool(true)),
            ("c", SimpleValue::Timestamp(Timestamp::from(1_502_966_924_500))),
        ];
        let read = read(sent(properties, user)).unwrap();
        assert_eq!(read.message_id.as_deref(), Some("a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8"));
        assert_eq!(read.correlation_id.as_deref(), Some("7"));
        assert_eq!(read.expires_at, Some(UNIX_EPOCH + Duration::from_millis(1_502_966_924_500)));
        assert_eq!(read.system, [("dt-subject".into(), "part".to_owned())]);
        let expected = [("a", "-5"), ("b", "true"), ("c", "2017-08-17T10:48:44.5Z")];
        assert_eq!(read.properties, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(read.body, "text");
    }

    #[test]
    fn what_services_ask_for_is_no_property_and_comes_back_as_one() {
        let user = vec![
            ("IOTHUB-ACK", SimpleValue::String("Full".to_owned())),
            ("k", SimpleValue::String("v".to_owned())),
        ];
        let read = read_device_bound(sent(Properties::default(), user)).unwrap();
        assert_eq!((read.ack, read.properties.len(), read.system.len()), (Ack::Full, 1, 0));
        let written = write(&read);
        assert_eq!(written.application_text("iothub-ack"), Some("full"));
        assert_eq!(written.application_text("k"), Some("v"));
        assert_eq!(written.body, Body::Data("text".into()));
        let wrong = vec![("iothub-ack", SimpleValue::String("yes".to_owned()))];
        let refusal = read_device_bound(sent(Properties::default(), wrong)).unwrap_err();
        assert_eq!(refusal.error.code, 400_004);
    }
}
