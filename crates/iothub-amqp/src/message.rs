//! Messages: sections in any order, the body without a copy.

use bytes::{BufMut, Bytes, BytesMut};
use fe2o3_amqp_types::{
    definitions::Fields,
    messaging::{
        AmqpValue, ApplicationProperties, MessageAnnotations, MessageId, Properties,
        annotations::{Annotations, OwnedKey},
    },
    primitives::SimpleValue,
};
use serde_amqp::{Value, ser::Serializer};

use crate::guard;

/// Message format of a batch: every data section is a message of its own (amqp.md 4.4).
pub const BATCH_FORMAT: u32 = 0x8001_3700;

/// Descriptor codes of the sections (AMQP 1.0 part 3, 3.2).
mod code {
    pub(super) const HEADER: u64 = 0x70;
    pub(super) const DELIVERY_ANNOTATIONS: u64 = 0x71;
    pub(super) const MESSAGE_ANNOTATIONS: u64 = 0x72;
    pub(super) const PROPERTIES: u64 = 0x73;
    pub(super) const APPLICATION_PROPERTIES: u64 = 0x74;
    pub(super) const DATA: u64 = 0x75;
    pub(super) const SEQUENCE: u64 = 0x76;
    pub(super) const VALUE: u64 = 0x77;
    pub(super) const FOOTER: u64 = 0x78;
}

/// The body sections of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Body {
    /// No body section, as C# sends with a twin GET (amqp.md 3.8).
    #[default]
    Empty,
    /// One data section.
    Data(Bytes),
    /// Several data sections.
    Batch(Vec<Bytes>),
    /// An amqp-value section.
    Value(Value),
}

impl Body {
    /// The bytes of a data section, or of a text or binary value (amqp.md 4.3); null is how some clients write no
    /// body. `None` for other values.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Data(bytes) => Some(bytes),
            Self::Batch(parts) => {
                let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
                parts.iter().for_each(|part| all.extend_from_slice(part));
                Some(all.freeze())
            }
            Self::Value(Value::String(text)) => Some(text.into()),
            Self::Value(Value::Binary(bytes)) => Some(bytes.into_vec().into()),
            Self::Value(Value::Null) => Some(Bytes::new()),
            Self::Value(_) => None,
        }
    }
}

/// A message in its sections. Header, delivery annotations and footer carry nothing that IoT Hub uses.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The bare message's properties.
    pub properties: Option<Properties>,
    /// Annotations, with symbol keys.
    pub annotations: Option<MessageAnnotations>,
    /// Application properties, with string keys.
    pub application_properties: Option<ApplicationProperties>,
    /// The body.
    pub body: Body,
}

/// The bytes are no message.
#[derive(Debug, thiserror::Error)]
#[error("not an AMQP message: {0}")]
pub struct DecodeError(String);

impl Message {
    /// Reads an encoded message; sections come in any order (amqp.md 4.4). Data sections are slices of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            let malformed = |e: guard::Malformed| DecodeError(e.to_string());
            let (code, value) = guard::descriptor(bytes, at).map_err(malformed)?;
            let end = guard::end_of_value(bytes, value).map_err(malformed)?;
            let section = &bytes[at..end];
            match code {
                code::PROPERTIES => message.properties = Some(section_from(section)?),
                code::MESSAGE_ANNOTATIONS => message.annotations = Some(section_from(section)?),
                code::APPLICATION_PROPERTIES => {
                    message.application_properties = Some(section_from(section)?);
                }
                code::DATA => message.push_data(data(bytes, value, end)?),
                code::VALUE => {
                    let AmqpValue(value) = section_from::<AmqpValue<Value>>(section)?;
                    message.body = Body::Value(value);
                }
                code::HEADER | code::DELIVERY_ANNOTATIONS | code::FOOTER => {}
                code::SEQUENCE => return Err(DecodeError("an amqp-sequence body".into())),
                other => return Err(DecodeError(format!("a section with descriptor {other:#x}"))),
            }
            at = end;
        }
        Ok(message)
    }

    /// The encoded message.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256 + self.body_len());
        if let Some(annotations) = &self.annotations {
            append(&mut out, annotations);
        }
        if let Some(properties) = &self.properties {
            append(&mut out, properties);
        }
        if let Some(properties) = &self.application_properties {
            append(&mut out, properties);
        }
        match &self.body {
            Body::Empty => {}
            Body::Data(bytes) => append_data(&mut out, bytes),
            Body::Batch(parts) => parts.iter().for_each(|part| append_data(&mut out, part)),
            Body::Value(value) => append(&mut out, &AmqpValue(value)),
        }
        out.freeze()
    }

    /// The correlation id.
    pub fn correlation_id(&self) -> Option<&MessageId> {
        self.properties.as_ref()?.correlation_id.as_ref()
    }

    /// An annotation by its symbol.
    pub fn annotation(&self, name: &str) -> Option<&Value> {
        let annotations = &self.annotations.as_ref()?.0;
        annotations.iter().find_map(|(key, value)| match key {
            OwnedKey::Symbol(symbol) if symbol.as_str() == name => Some(value),
            _ => None,
        })
    }

    /// An annotation that is text.
    pub fn annotation_text(&self, name: &str) -> Option<&str> {
        match self.annotation(name)? {
            Value::String(text) => Some(text),
            Value::Symbol(symbol) => Some(symbol.as_str()),
            _ => None,
        }
    }

    /// An annotation that is a whole number of any width.
    pub fn annotation_number(&self, name: &str) -> Option<i64> {
        match self.annotation(name)? {
            Value::Ubyte(n) => Some(i64::from(*n)),
            Value::Ushort(n) => Some(i64::from(*n)),
            Value::Uint(n) => Some(i64::from(*n)),
            Value::Ulong(n) => i64::try_from(*n).ok(),
            Value::Byte(n) => Some(i64::from(*n)),
            Value::Short(n) => Some(i64::from(*n)),
            Value::Int(n) => Some(i64::from(*n)),
            Value::Long(n) => Some(*n),
            _ => None,
        }
    }

    /// An application property by its name.
    pub fn application_property(&self, name: &str) -> Option<&SimpleValue> {
        self.application_properties.as_ref()?.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// An application property that is text.
    pub fn application_text(&self, name: &str) -> Option<&str> {
        match self.application_property(name)? {
            SimpleValue::String(text) => Some(text),
            _ => None,
        }
    }

    fn push_data(&mut self, bytes: Bytes) {
        self.body = match std::mem::take(&mut self.body) {
            Body::Data(first) => Body::Batch(vec![first, bytes]),
            Body::Batch(mut parts) => {
                parts.push(bytes);
                Body::Batch(parts)
            }
            Body::Empty | Body::Value(_) => Body::Data(bytes),
        };
    }

    fn body_len(&self) -> usize {
        match &self.body {
            Body::Empty => 0,
            Body::Data(bytes) => bytes.len() + 8,
            Body::Batch(parts) => parts.iter().map(|p| p.len() + 8).sum(),
            Body::Value(_) => 64,
        }
    }
}

/// Annotations or link properties from pairs.
pub fn annotations(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> MessageAnnotations {
    let pairs = pairs.into_iter().map(|(key, value)| (OwnedKey::from(key), value));
    MessageAnnotations(pairs.collect::<Annotations>())
}

/// Application properties from pairs.
pub fn application_properties<K: Into<String>>(
    pairs: impl IntoIterator<Item = (K, SimpleValue)>,
) -> ApplicationProperties {
    ApplicationProperties(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// Link properties from pairs.
pub fn fields(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Fields {
    pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

fn section_from<T: serde::de::DeserializeOwned>(section: &[u8]) -> Result<T, DecodeError> {
    serde_amqp::from_slice(section).map_err(|e| DecodeError(e.to_string()))
}

/// The content of a binary value, without copying it.
fn data(bytes: &Bytes, value: usize, end: usize) -> Result<Bytes, DecodeError> {
    match bytes.get(value) {
        Some(0xa0) => Ok(bytes.slice(value + 2..end)),
        Some(0xb0) => Ok(bytes.slice(value + 5..end)),
        _ => Err(DecodeError("a data section that is not binary".into())),
    }
}

fn append<T: serde::Serialize>(out: &mut BytesMut, section: &T) {
    let mut serializer = Serializer::new(out.writer());
    // Writing to memory cannot fail, and every section type has an encoding.
    if let Err(error) = section.serialize(&mut serializer) {
        tracing::error!(%error, "a section could not be encoded");
    }
}

/// A data section around bytes that need not be copied twice: descriptor 0x75, then binary.
fn append_data(out: &mut BytesMut, bytes: &[u8]) {
    out.put_slice(&[0x00, 0x53, 0x75]);
    match u8::try_from(bytes.len()) {
        Ok(len) => out.put_slice(&[0xa0, len]),
        Err(_) => {
            out.put_u8(0xb0);
            out.put_u32(bytes.len() as u32);
        }
    }
    out.put_slice(bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use fe2o3_amqp_types::messaging::{
        Body as PeerBody, Data, Message as PeerMessage,
        message::__private::{Deserializable, Serializable},
    };

    fn sample(body: Body) -> Message {
        Message {
            properties: Some(
                Properties::builder().message_id("id-1".to_owned()).to("$cbs".to_owned()).build(),
            ),
            annotations: Some(annotations([("status", Value::Int(200)), ("version", Value::Long(7))])),
            application_properties: Some(application_properties([("a", SimpleValue::String("b".into()))])),
            body,
        }
    }

    #[test]
    fn the_stock_crate_reads_what_we_write() {
        for len in [0, 3, 300, 70_000] {
            let encoded = sample(Body::Data(Bytes::from(vec![7; len]))).encode();
            let read: Deserializable<PeerMessage<PeerBody<Value>>> =
                serde_amqp::from_slice(&encoded).unwrap();
            assert_eq!(read.0.properties.unwrap().message_id, Some("id-1".to_owned().into()));
            let body: Vec<_> = read.0.body.try_into_data().unwrap().collect();
            assert_eq!(body, vec![vec![7; len]]);
        }
    }

    #[test]
    fn we_read_what_the_stock_crate_writes() {
        let message = PeerMessage::builder()
            .properties(Properties::builder().correlation_id(9u64).build())
            .body(PeerBody::<Value>::from(Data(b"hello".to_vec().into())))
            .build();
        let bytes = Bytes::from(serde_amqp::to_vec(&Serializable(message)).unwrap());
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(read.correlation_id(), Some(&MessageId::Ulong(9)));
        assert_eq!(read.body, Body::Data(Bytes::from_static(b"hello")));
    }

    #[test]
    fn sections_in_any_order_and_several_data_sections() {
        // The C SDK writes annotations after application properties (amqp.md 9, 18).
        let whole = sample(Body::Batch(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")]));
        let only = |m: Message| m.encode();
        let mut bytes = Vec::new();
        bytes.extend(only(Message { properties: whole.properties.clone(), ..Message::default() }));
        let application_properties = whole.application_properties.clone();
        bytes.extend(only(Message { application_properties, ..Message::default() }));
        bytes.extend(only(Message { annotations: whole.annotations.clone(), ..Message::default() }));
        bytes.extend(only(Message { body: whole.body.clone(), ..Message::default() }));
        let read = Message::decode(&bytes.into()).unwrap();
        assert_eq!(read.annotation_number("status"), Some(200));
        assert_eq!(read.application_text("a"), Some("b"));
        assert_eq!(read.body, whole.body);
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [&b"\x00"[..], b"abc", b"\x00\x53\x75\xb0\xff\xff\xff\xff", b"\x00\x53\x79\x40"] {
            assert!(Message::decode(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }
}
