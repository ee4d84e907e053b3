//! Messages to the hub.

mod stored;

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use iothub_amqp::{
    message::{self as amqp, Body},
    serde_amqp::Value,
    types::{
        messaging::{MessageId, Properties},
        primitives::SimpleValue,
    },
};
use iothub_common::{Error, ErrorKind, Result};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Largest message the hub takes, properties included (amqp.md 8).
pub(crate) const MAX_MESSAGE_SIZE: usize = 262_144;
/// Longest message id and correlation id, ASCII characters (amqp.md 8).
const MAX_ID: usize = 128;
/// The only interface that messages of a security agent have (amqp.md 4.1).
const SECURITY_INTERFACE: &str = "urn:azureiot:Security:SecurityAgent:1";

/// Names that carry system properties and cannot be properties of the application (amqp.md 4.1).
const RESERVED: [&str; 25] = [
    "connectiondeviceid",
    "connectionmoduleid",
    "iothub-absolute-expiry-time",
    "iothub-ack",
    "iothub-connection-auth-generation-id",
    "iothub-connection-auth-method",
    "iothub-content-encoding",
    "iothub-content-type",
    "iothub-contentencoding",
    "iothub-contenttype",
    "iothub-correlationid",
    "iothub-creation-time-utc",
    "iothub-enqueuedtime",
    "iothub-inputname",
    "iothub-interface-id",
    "iothub-message-schema",
    "iothub-messageid",
    "iothub-messagelocktoken",
    "iothub-methodname",
    "iothub-operation",
    "iothub-outputname",
    "iothub-partition-key",
    "iothub-sequencenumber",
    "iothub-to",
    "iothub-userid",
];

/// A message to the hub: a body of bytes, system properties, and properties of the application.
///
/// Limits: 256 KiB in all as the hub counts it, body and properties together; ids of up to 128 ASCII
/// characters. They are checked when it is sent.
#[derive(Debug, Clone, Default)]
#[must_use = "a message does nothing until it is sent"]
pub struct Message {
    body: Bytes,
    message_id: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    creation_time: Option<SystemTime>,
    component: Option<String>,
    security: bool,
    properties: Vec<(String, String)>,
}

impl Message {
    /// A message with these bytes. The hub does not look inside.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// A message with `value` as JSON, marked so that the hub can route by its content.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when `value` cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let not_json = |e| Error::new(ErrorKind::InvalidInput, "the message is no JSON").with_source(e);
        let body = serde_json::to_vec(value).map_err(not_json)?;
        Ok(Self::new(body).content_type("application/json").content_encoding("utf-8"))
    }

    /// An id of the application's choice.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// The id of the message that this one is about.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
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

    /// When what the message tells happened.
    pub fn creation_time(mut self, time: SystemTime) -> Self {
        self.creation_time = Some(time);
        self
    }

    /// The component of the model that the message comes from (Plug and Play).
    pub fn component(mut self, name: impl Into<String>) -> Self {
        self.component = Some(name.into());
        self
    }

    /// Marks a message of a security agent: it goes to Defender for IoT, not to the routes of the hub.
    pub fn security(mut self) -> Self {
        self.security = true;
        self
    }

    /// Adds a property of the application. Set twice, the later one counts.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.properties.retain(|(known, _)| *known != name);
        self.properties.push((name, value.into()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The message as it goes over the wire, checked. `output` names the output of an Edge module.
    pub(crate) fn encode(&self, output: Option<&str>) -> Result<Bytes> {
        self.check(output)?;
        let text = |s: &str| SimpleValue::String(s.to_owned());
        let id = |id: &Option<String>| id.clone().map(MessageId::String);
        let symbol = |s: &Option<String>| s.as_deref().map(Into::into);
        let properties = Properties {
            message_id: id(&self.message_id),
            correlation_id: id(&self.correlation_id),
            content_type: symbol(&self.content_type),
            content_encoding: symbol(&self.content_encoding),
            ..Properties::default()
        };
        let created = self.creation_time.map(format_time).transpose()?;
        let system = [("iothub-creation-time-utc", created.as_deref()), ("iothub-outputname", output)];
        let system = system.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let own = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let application: Vec<_> = own.chain(system).map(|(name, value)| (name, text(value))).collect();
        let component = self.component.clone().map(|name| ("dt-subject", Value::String(name)));
        let interface =
            self.security.then(|| ("iothub-interface-id", Value::String(SECURITY_INTERFACE.to_owned())));
        let annotations: Vec<_> = component.into_iter().chain(interface).collect();
        let message = amqp::Message {
            properties: (properties != Properties::default()).then_some(properties),
            annotations: (!annotations.is_empty()).then(|| amqp::annotations(annotations)),
            application_properties: (!application.is_empty())
                .then(|| amqp::application_properties(application)),
            body: Body::Data(self.body.clone()),
        };
        Ok(message.encode())
    }

    fn check(&self, output: Option<&str>) -> Result<()> {
        check_id("message id", self.message_id.as_deref())?;
        check_id("correlation id", self.correlation_id.as_deref())?;
        for (name, value) in
            [("content type", &self.content_type), ("content encoding", &self.content_encoding)]
        {
            // They travel as AMQP symbols.
            if value.as_deref().is_some_and(|v| !v.is_ascii()) {
                return Err(invalid(format!("the {name} must be ASCII")));
            }
        }
        for (name, _) in &self.properties {
            if name.is_empty() {
                return Err(invalid("a property has no name".into()));
            }
            if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(invalid(format!("the property name `{name}` is reserved for the hub")));
            }
        }
        if output.is_some_and(str::is_empty) {
            return Err(invalid("the output has no name".into()));
        }
        let size = self.size();
        if size > MAX_MESSAGE_SIZE {
            return Err(invalid(format!(
                "the message has {size} bytes, properties included; the hub takes {MAX_MESSAGE_SIZE}"
            )));
        }
        Ok(())
    }

    /// Size as the hub counts it: the body, the values of system properties, names and values of others
    /// (amqp.md 4.2).
    fn size(&self) -> usize {
        let len = |s: &Option<String>| s.as_ref().map_or(0, String::len);
        let system = len(&self.message_id)
            + len(&self.correlation_id)
            + len(&self.content_type)
            + len(&self.content_encoding)
            + len(&self.component);
        let own: usize = self.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + system + own
    }
}

impl From<&str> for Message {
    fn from(body: &str) -> Self {
        Self::new(body.to_owned())
    }
}

impl From<String> for Message {
    fn from(body: String) -> Self {
        Self::new(body)
    }
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

/// Batches that each stay below the limit, in order: one transfer, of which each data section is a message
/// (amqp.md 4.4).
pub(crate) fn batches(messages: &[Message]) -> Result<Vec<Bytes>> {
    let mut batches = Vec::new();
    let mut batch = BytesMut::new();
    for (index, message) in messages.iter().enumerate() {
        let encoded = message.encode(None).map_err(|e| {
            let text = format!("message {index} of the batch cannot be sent: {e}");
            e.context(text)
        })?;
        let section = amqp::Message { body: Body::Data(encoded), ..amqp::Message::default() }.encode();
        if !batch.is_empty() && batch.len() + section.len() > MAX_MESSAGE_SIZE {
            batches.push(batch.split().freeze());
        }
        batch.extend_from_slice(&section);
    }
    if !batch.is_empty() {
        batches.push(batch.freeze());
    }
    Ok(batches)
}

fn check_id(what: &str, id: Option<&str>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    if id.len() > MAX_ID {
        return Err(invalid(format!("the {what} has {} characters; {MAX_ID} are allowed", id.len())));
    }
    match id.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => {
            Err(invalid(format!("the {what} contains {c:?}; only visible ASCII characters are allowed")))
        }
        None => Ok(()),
    }
}

fn format_time(time: SystemTime) -> Result<String> {
    let invalid = |e| Error::new(ErrorKind::InvalidInput, "the creation time is out of range").with_source(e);
    OffsetDateTime::from(time).format(&Rfc3339).map_err(invalid)
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn decoded(message: &Message, output: Option<&str>) -> amqp::Message {
        amqp::Message::decode(&message.encode(output).unwrap()).unwrap()
    }

    #[test]
    fn every_property_has_its_place_on_the_wire() {
        let message = Message::new("hello")
            .message_id("id-1")
            .correlation_id("id-0")
            .content_type("text/plain")
            .content_encoding("utf-8")
            .creation_time(SystemTime::UNIX_EPOCH)
            .component("thermostat")
            .security()
            .property("a", "1")
            .property("a", "2");
        let wire = decoded(&message, Some("out"));
        let properties = wire.properties.as_ref().unwrap();
        assert_eq!(properties.message_id, Some(MessageId::String("id-1".into())));
        assert_eq!(properties.correlation_id, Some(MessageId::String("id-0".into())));
        assert_eq!(properties.content_type.as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(properties.content_encoding.as_ref().unwrap().as_str(), "utf-8");
        assert_eq!(wire.application_text("iothub-creation-time-utc"), Some("1970-01-01T00:00:00Z"));
        assert_eq!(wire.application_text("iothub-outputname"), Some("out"));
        assert_eq!(wire.application_text("a"), Some("2"));
        assert_eq!(wire.annotation_text("dt-subject"), Some("thermostat"));
        assert_eq!(wire.annotation_text("iothub-interface-id"), Some(SECURITY_INTERFACE));
        assert_eq!(wire.body, Body::Data("hello".into()));
    }

    #[test]
    fn what_the_hub_would_refuse_is_refused_naming_the_part() {
        let cases = [
            (Message::from("x").property("IoThub-methodname", "y"), "IoThub-methodname"),
            (Message::from("x").property("", "y"), "no name"),
            (Message::from("x").message_id("é"), "message id"),
            (Message::from("x").message_id("a b"), "message id"),
            (Message::from("x").correlation_id("x".repeat(129)), "129"),
            (Message::from("x").content_type("ü"), "content type"),
            (Message::new(vec![0; MAX_MESSAGE_SIZE + 1]), "262145"),
            (Message::new(vec![0; MAX_MESSAGE_SIZE - 3]).property("ab", "cd"), "262145"),
        ];
        for (message, part) in cases {
            let error = message.encode(None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(Message::new(vec![0; MAX_MESSAGE_SIZE]).encode(None).is_ok());
    }

    #[test]
    fn batches_stay_below_the_limit_and_keep_order() {
        let messages: Vec<_> = (0..100u8).map(|n| Message::new(vec![n; 10_000])).collect();
        let batches = batches(&messages).unwrap();
        assert!(batches.iter().all(|batch| batch.len() <= MAX_MESSAGE_SIZE));
        let mut seen = Vec::new();
        for batch in &batches {
            let Body::Batch(parts) = amqp::Message::decode(batch).unwrap().body else { panic!() };
            for part in parts {
                let inner = amqp::Message::decode(&part).unwrap();
                seen.push(inner.body.into_bytes().unwrap()[0]);
            }
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
