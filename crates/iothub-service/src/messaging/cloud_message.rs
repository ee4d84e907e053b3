//! Messages to devices, and how they look on the wire (amqp.md 4, 5.2).

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use iothub_amqp::message::{Body, Message, application_properties};
use iothub_amqp::serde_amqp::primitives::{Binary, Symbol};
use iothub_amqp::types::messaging::{MessageId, Properties};
use iothub_amqp::types::primitives::SimpleValue;
use iothub_common::{Error, ErrorKind, Identity, Result};
use uuid::Uuid;

use super::time::to_amqp;

/// The most that a message to a device may hold (amqp.md 8).
const MOST_BYTES: usize = 64 * 1024;
/// The application property that asks for feedback (amqp.md 4.1).
const ACK: &str = "iothub-ack";

/// Which outcomes of a message the hub shall tell of, see [`Messaging::feedback`](super::Messaging::feedback).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeliveryAck {
    /// None.
    #[default]
    None,
    /// That the device completed it.
    Positive,
    /// That it expired, was rejected, purged, or delivered too often.
    Negative,
    /// Either.
    Full,
}

impl DeliveryAck {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Full => "full",
        }
    }
}

/// A message to a device or module: a body, and what shall go with it.
///
/// ```
/// use std::time::Duration;
/// use iothub_service::{CloudMessage, DeliveryAck};
///
/// let message = CloudMessage::new(r#"{"reboot":true}"#)
///     .content_type("application/json")
///     .content_encoding("utf-8")
///     .ack(DeliveryAck::Full)
///     .expires_in(Duration::from_secs(300))
///     .property("priority", "high");
/// # let _ = message;
/// ```
///
/// Body, properties and ids together may have 64 KiB.
#[derive(Clone, Default)]
pub struct CloudMessage {
    body: Bytes,
    message_id: Option<String>,
    correlation_id: Option<String>,
    user_id: Option<Bytes>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    expires_at: Option<SystemTime>,
    ack: DeliveryAck,
    properties: BTreeMap<String, String>,
}

impl CloudMessage {
    /// A message with this body. `Bytes` are not copied.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The id by which feedback names the message; without one it gets a random one when it is sent. Up to 128
    /// letters, digits and `- : . + % _ # * ? ! ( ) , = @ ; $ '`.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// The id of what the message belongs to, for the device.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// Who caused the message, for the device.
    pub fn user_id(mut self, id: impl Into<Bytes>) -> Self {
        self.user_id = Some(id.into());
        self
    }

    /// What the body is, such as `application/json`.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// How the body is encoded, such as `utf-8`.
    pub fn content_encoding(mut self, encoding: impl Into<String>) -> Self {
        self.content_encoding = Some(encoding.into());
        self
    }

    /// When the hub shall give up on a device that has not fetched the message. By default an hour after it was
    /// sent (a setting of the hub); two days at most. Milliseconds count.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// [`CloudMessage::expires_at`], counted from now.
    pub fn expires_in(self, time: Duration) -> Self {
        self.expires_at(SystemTime::now() + time)
    }

    /// Which outcomes the hub shall tell of; none by default.
    pub fn ack(mut self, ack: DeliveryAck) -> Self {
        self.ack = ack;
        self
    }

    /// A property of your own. A second one of the same name replaces the first.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// The message in its sections, and its id.
    pub(super) fn encode(self, to: &Identity) -> Result<(String, Bytes)> {
        self.check(to)?;
        let id = self.message_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let properties = Properties {
            message_id: Some(MessageId::String(id.clone())),
            user_id: self.user_id.map(|id| Binary::from(id.to_vec())),
            to: Some(to.amqp_path("messages/devicebound")),
            correlation_id: self.correlation_id.map(MessageId::String),
            content_type: self.content_type.map(Symbol::from),
            content_encoding: self.content_encoding.map(Symbol::from),
            absolute_expiry_time: self.expires_at.map(to_amqp),
            ..Properties::default()
        };
        let ack = (self.ack != DeliveryAck::None).then(|| (ACK.to_owned(), self.ack.as_str().to_owned()));
        let own = self.properties.into_iter().chain(ack);
        let own: Vec<_> = own.map(|(name, value)| (name, SimpleValue::String(value))).collect();
        let message = Message {
            properties: Some(properties),
            annotations: None,
            application_properties: (!own.is_empty()).then(|| application_properties(own)),
            body: Body::Data(self.body),
        };
        Ok((id, message.encode()))
    }

    fn check(&self, to: &Identity) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
        if self.properties.contains_key(ACK) {
            return refuse(format!("`{ACK}` cannot be a property of a message; set it with `ack`"));
        }
        if self.properties.keys().any(String::is_empty) {
            return refuse("a property of the message has an empty name".to_owned());
        }
        for (what, text) in [("type", &self.content_type), ("encoding", &self.content_encoding)] {
            // An AMQP symbol (amqp.md 4.1).
            if text.as_ref().is_some_and(|text| !text.is_ascii()) {
                return refuse(format!("the content {what} of the message has characters beyond ASCII"));
            }
        }
        let size = self.size();
        if size > MOST_BYTES {
            return refuse(format!("the message to {to} has {size} bytes, at most {MOST_BYTES} are allowed"));
        }
        Ok(())
    }

    /// As the hub counts (amqp.md 4.2), without what it adds itself: over the limit here is over the limit there.
    fn size(&self) -> usize {
        let texts = [&self.message_id, &self.correlation_id, &self.content_type, &self.content_encoding];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let own: usize = self.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + self.user_id.as_ref().map_or(0, Bytes::len) + texts + own
    }
}

impl fmt::Debug for CloudMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudMessage")
            .field("message_id", &self.message_id)
            .field("correlation_id", &self.correlation_id)
            .field("content_type", &self.content_type)
            .field("ack", &self.ack)
            .field("properties", &self.properties)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device() -> Identity {
        Identity::device("dev@1").unwrap()
    }

    fn read(message: CloudMessage, to: &Identity) -> Message {
        Message::decode(&message.encode(to).unwrap().1).unwrap()
    }

    #[test]
    fn everything_is_where_the_hub_looks_for_it() {
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let message = CloudMessage::new(&b"\x00\xffhi"[..])
            .message_id("m-1")
            .correlation_id("c-1")
            .user_id("user")
            .content_type("application/json")
            .content_encoding("utf-8")
            .expires_at(expiry)
            .ack(DeliveryAck::Negative)
            .property("k", "v")
            .property("k", "w");
        let (id, bytes) = message.encode(&device()).unwrap();
        assert_eq!(id, "m-1");
        let read = Message::decode(&bytes).unwrap();
        let properties = read.properties.as_ref().unwrap();
        assert_eq!(properties.message_id, Some(MessageId::String("m-1".into())));
        assert_eq!(properties.correlation_id, Some(MessageId::String("c-1".into())));
        assert_eq!(properties.user_id.as_ref().unwrap().as_slice(), b"user");
        assert_eq!(properties.to.as_deref(), Some("/devices/dev%401/messages/devicebound"));
        assert_eq!(properties.content_type.as_ref().unwrap().as_str(), "application/json");
        assert_eq!(properties.content_encoding.as_ref().unwrap().as_str(), "utf-8");
        assert_eq!(properties.absolute_expiry_time.as_ref().unwrap().milliseconds(), 1_700_000_000_123);
        assert_eq!(read.application_text("iothub-ack"), Some("negative"));
        assert_eq!(read.application_text("k"), Some("w"));
        assert_eq!(read.body, Body::Data(Bytes::from_static(b"\x00\xffhi")));
    }

    #[test]
    fn a_bare_message_has_an_id_and_nothing_it_was_not_given() {
        let (one, _) = CloudMessage::new("x").encode(&device()).unwrap();
        let (two, _) = CloudMessage::new("x").encode(&device()).unwrap();
        assert_ne!(one, two);
        let module = Identity::module("d", "m").unwrap();
        let read = read(CloudMessage::new("x"), &module);
        let properties = read.properties.as_ref().unwrap();
        assert_eq!(properties.to.as_deref(), Some("/devices/d/modules/m/messages/devicebound"));
        assert!(properties.content_type.is_none() && properties.absolute_expiry_time.is_none());
        assert!(read.application_properties.is_none());
    }

    #[test]
    fn sixty_four_kib_are_the_limit() {
        let with = |body: usize| CloudMessage::new(vec![0; body]).message_id("12345").property("abc", "de");
        assert!(with(MOST_BYTES - 10).encode(&device()).is_ok());
        let error = with(MOST_BYTES - 9).encode(&device()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("65537") && error.to_string().contains("dev@1"), "{error}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (message, word) in [
            (CloudMessage::new("").property("iothub-ack", "full"), "iothub-ack"),
            (CloudMessage::new("").property("", "x"), "empty"),
            (CloudMessage::new("").content_type("text/plän"), "content type"),
            (CloudMessage::new("").content_encoding("ütf"), "content encoding"),
        ] {
            let error = message.encode(&device()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
