//! What devices sent, as the built-in endpoint hands it out (amqp.md 5.7).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use iothub_amqp::message::Message;
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::messaging::MessageId;
use iothub_amqp::types::messaging::annotations::OwnedKey;
use iothub_amqp::types::primitives::SimpleValue;
use iothub_common::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

use crate::messaging::time::{annotation_time, from_amqp};
use crate::models::hub_enum::hub_enum;

hub_enum! {
    /// What an event is about.
    pub enum EventSource {
        /// A message of a device or module.
        Telemetry = "Telemetry",
        /// A change to a twin.
        TwinChange = "twinChangeEvents",
        /// A device or module was created or deleted.
        DeviceLifecycle = "deviceLifecycleEvents",
        /// A device or module connected or disconnected.
        DeviceConnectionState = "deviceConnectionStateEvents",
        /// A change to a digital twin.
        DigitalTwinChange = "digitalTwinChangeEvents",
    }
}

/// An event of a hub: mostly a message of a device.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeviceEvent {
    /// The content, as the device sent it.
    pub body: Bytes,
    /// The partition it is in; those of one device are all in the same one, in the order they were sent.
    pub partition_id: Arc<str>,
    /// Its number in the partition. Numbers rise; they may leave gaps.
    pub sequence_number: i64,
    /// Its place in the partition.
    pub offset: String,
    /// When it came into the partition.
    pub enqueued_time: Option<SystemTime>,
    /// What it is about.
    pub source: Option<EventSource>,
    /// The device it comes from.
    pub device_id: Option<String>,
    /// The module it comes from, where it is one.
    pub module_id: Option<String>,
    /// The generation of the device, see [`Device::generation_id`](crate::Device::generation_id).
    pub generation_id: Option<String>,
    /// When the hub got it.
    pub hub_enqueued_time: Option<SystemTime>,
    /// The device's id for it.
    pub message_id: Option<String>,
    /// The id of what it belongs to.
    pub correlation_id: Option<String>,
    /// Who caused it, says the device.
    pub user_id: Option<Bytes>,
    /// What the body is, such as `application/json`.
    pub content_type: Option<String>,
    /// How the body is encoded, such as `utf-8`.
    pub content_encoding: Option<String>,
    /// The device's own properties. What a device sent as a number is here as text.
    pub properties: BTreeMap<String, String>,
    /// What else the hub says about it, by the hub's names: `iothub-connection-auth-method`, `dt-dataschema`,
    /// `dt-subject`, `x-opt-partition-key` and others.
    pub annotations: BTreeMap<String, String>,
}

/// Annotations that have fields of their own.
const NAMED: [&str; 8] = [
    "x-opt-sequence-number",
    "x-opt-offset",
    "x-opt-enqueued-time",
    "iothub-message-source",
    "iothub-connection-device-id",
    "iothub-connection-module-id",
    "iothub-connection-auth-generation-id",
    "iothub-enqueuedtime",
];

impl DeviceEvent {
    /// The body read as JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when it is none, or does not fit `T`; the source says where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let from = self.device_id.as_deref().unwrap_or("the hub");
            let message = format!("the body of event {} from {from} could not be read", self.sequence_number);
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })
    }

    pub(super) fn new(partition_id: Arc<str>, message: Message) -> Result<Self> {
        let number = sequence_number(&message)?;
        let text = |name: &str| message.annotation_text(name).map(str::to_owned);
        let mut event = Self {
            body: Bytes::new(),
            partition_id,
            sequence_number: number,
            offset: message.annotation("x-opt-offset").and_then(value_text).unwrap_or_default(),
            enqueued_time: annotation_time(&message, "x-opt-enqueued-time"),
            source: message.annotation_text("iothub-message-source").map(EventSource::from),
            device_id: text("iothub-connection-device-id"),
            module_id: text("iothub-connection-module-id"),
            generation_id: text("iothub-connection-auth-generation-id"),
            hub_enqueued_time: annotation_time(&message, "iothub-enqueuedtime"),
            message_id: None,
            correlation_id: None,
            user_id: None,
            content_type: None,
            content_encoding: None,
            properties: own_properties(&message),
            annotations: other_annotations(&message),
        };
        if let Some(properties) = message.properties {
            event.message_id = properties.message_id.and_then(id_text);
            event.correlation_id = properties.correlation_id.and_then(id_text);
            event.user_id = properties.user_id.map(|id| Bytes::from(id.into_vec()));
            event.content_type = properties.content_type.map(|text| text.as_str().to_owned());
            event.content_encoding = properties.content_encoding.map(|text| text.as_str().to_owned());
        }
        event.body = message.body.into_bytes().unwrap_or_default();
        Ok(event)
    }
}

/// Without it the reader could not go on after a loss.
pub(crate) fn sequence_number(message: &Message) -> Result<i64> {
    message
        .annotation_number("x-opt-sequence-number")
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "the hub sent an event without a sequence number"))
}

fn own_properties(message: &Message) -> BTreeMap<String, String> {
    let Some(properties) = &message.application_properties else { return BTreeMap::new() };
    let text = |value: &SimpleValue| value_text(&Value::from(value.clone())).unwrap_or_default();
    properties.0.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn other_annotations(message: &Message) -> BTreeMap<String, String> {
    let Some(annotations) = &message.annotations else { return BTreeMap::new() };
    let others = annotations.0.iter().filter_map(|(key, value)| match key {
        OwnedKey::Symbol(name) if !NAMED.contains(&name.as_str()) => {
            Some((name.as_str().to_owned(), value_text(value)?))
        }
        _ => None,
    });
    others.collect()
}

/// Node sends ids that look like one as uuid; they are one text (amqp.md 4.1).
fn id_text(id: MessageId) -> Option<String> {
    match id {
        MessageId::String(text) => Some(text),
        MessageId::Ulong(number) => Some(number.to_string()),
        MessageId::Uuid(uuid) => Some(uuid::Uuid::from_bytes(uuid.into_inner()).to_string()),
        MessageId::Binary(bytes) => String::from_utf8(bytes.into_vec()).ok(),
    }
}

/// A scalar as text; `None` for lists, maps and bytes that are no text.
fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Symbol(symbol) => Some(symbol.as_str().to_owned()),
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Char(value) => Some(value.to_string()),
        Value::Ubyte(n) => Some(n.to_string()),
        Value::Ushort(n) => Some(n.to_string()),
        Value::Uint(n) => Some(n.to_string()),
        Value::Ulong(n) => Some(n.to_string()),
        Value::Byte(n) => Some(n.to_string()),
        Value::Short(n) => Some(n.to_string()),
        Value::Int(n) => Some(n.to_string()),
        Value::Long(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        Value::Double(n) => Some(n.to_string()),
        Value::Uuid(uuid) => Some(uuid::Uuid::from_bytes(uuid.clone().into_inner()).to_string()),
        Value::Timestamp(time) => from_amqp(time).map(rfc3339),
        Value::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

fn rfc3339(time: SystemTime) -> String {
    let time = time::OffsetDateTime::from(time);
    time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

impl fmt::Debug for DeviceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceEvent")
            .field("partition_id", &self.partition_id)
            .field("sequence_number", &self.sequence_number)
            .field("offset", &self.offset)
            .field("device_id", &self.device_id)
            .field("module_id", &self.module_id)
            .field("source", &self.source)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use iothub_amqp::message::{Body, annotations, application_properties};
    use iothub_amqp::serde_amqp::primitives::{Binary, Symbol, Timestamp};
    use iothub_amqp::types::messaging::Properties;

    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    fn time(millis: i64) -> Value {
        Value::Timestamp(Timestamp::from_milliseconds(millis))
    }

    /// The table of amqp.md 5.7.
    fn message() -> Message {
        Message {
            properties: Some(Properties {
                message_id: Some(MessageId::Uuid(
                    [
                        0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE,
                        0xFF, 1,
                    ]
                    .into(),
                )),
                correlation_id: Some(MessageId::Ulong(7)),
                user_id: Some(Binary::from(b"user".to_vec())),
                content_type: Some(Symbol::from("application/json")),
                content_encoding: Some(Symbol::from("utf-8")),
                ..Properties::default()
            }),
            annotations: Some(annotations([
                ("x-opt-sequence-number", Value::Long(41)),
                ("x-opt-offset", text("5000")),
                ("x-opt-enqueued-time", time(1_700_000_000_500)),
                ("iothub-connection-device-id", text("dev@1")),
                ("iothub-connection-module-id", text("mod")),
                ("iothub-connection-auth-generation-id", text("638")),
                ("iothub-connection-auth-method", text(r#"{"scope":"module"}"#)),
                ("iothub-enqueuedtime", time(1_700_000_000_000)),
                ("iothub-message-source", text("Telemetry")),
                ("dt-subject", text("thermostat")),
            ])),
            application_properties: Some(application_properties([
                ("level", SimpleValue::String("high".into())),
                ("count", SimpleValue::Int(3)),
                ("on", SimpleValue::Bool(true)),
            ])),
            body: Body::Data(Bytes::from_static(br#"{"t":21.5}"#)),
        }
    }

    #[test]
    fn an_event_has_everything_in_its_place() {
        let event = DeviceEvent::new("2".into(), message()).unwrap();
        assert_eq!((&*event.partition_id, event.sequence_number, event.offset.as_str()), ("2", 41, "5000"));
        assert_eq!(event.enqueued_time, Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_500)));
        assert_eq!(event.hub_enqueued_time, Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_000)));
        assert_eq!(event.device_id.as_deref(), Some("dev@1"));
        assert_eq!(event.module_id.as_deref(), Some("mod"));
        assert_eq!(event.generation_id.as_deref(), Some("638"));
        assert_eq!(event.source, Some(EventSource::Telemetry));
        assert_eq!(event.message_id.as_deref(), Some("11223344-5566-4788-99aa-bbccddeeff01"));
        assert_eq!(event.correlation_id.as_deref(), Some("7"));
        assert_eq!(event.user_id.as_deref(), Some(&b"user"[..]));
        assert_eq!(event.content_type.as_deref(), Some("application/json"));
        assert_eq!(event.content_encoding.as_deref(), Some("utf-8"));
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(pairs(&event.properties), ["count=3", "level=high", "on=true"]);
        assert_eq!(
            pairs(&event.annotations),
            ["dt-subject=thermostat", r#"iothub-connection-auth-method={"scope":"module"}"#]
        );
        let body: serde_json::Value = event.json().unwrap();
        assert_eq!(body, serde_json::json!({ "t": 21.5 }));
    }

    #[test]
    fn a_bare_event_is_one_and_one_without_a_number_is_not() {
        let bare = Message {
            annotations: Some(annotations([("x-opt-sequence-number", Value::Long(0))])),
            body: Body::Data(Bytes::from_static(b"no json")),
            ..Message::default()
        };
        let event = DeviceEvent::new("0".into(), bare).unwrap();
        assert!(event.device_id.is_none() && event.source.is_none() && event.properties.is_empty());
        assert_eq!(event.json::<serde_json::Value>().unwrap_err().kind(), ErrorKind::InvalidInput);

        let error = DeviceEvent::new("0".into(), Message::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[test]
    fn what_a_newer_hub_tells_of_is_kept() {
        let annotation = ("iothub-message-source", text("somethingNew"));
        let number = ("x-opt-sequence-number", Value::Long(0));
        let message = Message { annotations: Some(annotations([number, annotation])), ..Message::default() };
        let event = DeviceEvent::new("0".into(), message).unwrap();
        assert_eq!(event.source, Some(EventSource::Unknown("somethingNew".into())));
    }
}
