//! Messages as they wait in a buffer: encoded, to be read again when they come back.

use std::time::SystemTime;

use bytes::Bytes;
use iothub_amqp::{
    message::{self as amqp, DecodeError},
    types::{messaging::MessageId, primitives::SimpleValue},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Message;

impl Message {
    /// What [`encode`](Self::encode) made, and the output that it was made for.
    pub(crate) fn decode(bytes: &Bytes) -> Result<(Self, Option<String>), DecodeError> {
        let wire = amqp::Message::decode(bytes)?;
        let mut message = Self {
            component: wire.annotation_text("dt-subject").map(Into::into),
            security: wire.annotation_text("iothub-interface-id").is_some(),
            ..Self::default()
        };
        let mut output = None;
        if let Some(properties) = wire.properties {
            let id = |id: Option<MessageId>| id.and_then(text_of);
            message.message_id = id(properties.message_id);
            message.correlation_id = id(properties.correlation_id);
            message.content_type = properties.content_type.map(|symbol| symbol.as_str().to_owned());
            message.content_encoding = properties.content_encoding.map(|symbol| symbol.as_str().to_owned());
        }
        for (name, value) in wire.application_properties.into_iter().flat_map(|properties| properties.0) {
            let SimpleValue::String(value) = value else { continue };
            match name.as_str() {
                "iothub-creation-time-utc" => message.creation_time = time_of(&value),
                "iothub-outputname" => output = Some(value),
                _ => message.properties.push((name, value)),
            }
        }
        message.body = wire.body.into_bytes().unwrap_or_default();
        Ok((message, output))
    }

    /// The id, for logs.
    pub(crate) fn id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }
}

fn text_of(id: MessageId) -> Option<String> {
    match id {
        MessageId::String(id) => Some(id),
        _ => None,
    }
}

fn time_of(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(Into::into)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_encoded_comes_back_whole() {
        let full = Message::new("hello")
            .message_id("id-1")
            .correlation_id("id-0")
            .content_type("text/plain")
            .content_encoding("utf-8")
            .creation_time(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000_123))
            .component("thermostat")
            .security()
            .property("b", "2")
            .property("a", "1");
        for (message, output) in [(full, Some("out")), (Message::new(""), None)] {
            let (again, its_output) = Message::decode(&message.encode(output).unwrap()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
            assert_eq!(its_output.as_deref(), output);
        }
        assert!(Message::decode(&Bytes::from_static(b"other")).is_err());
    }
}
