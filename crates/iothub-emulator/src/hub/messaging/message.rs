//! A message as the hub keeps it, whatever brought it: properties by name, the body as bytes (amqp.md 4.1).

use std::borrow::Cow;
use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;

use crate::hub::error::{ErrorCode, HubError};

/// A message to or from a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// As text; ids of other types are written out.
    pub message_id: Option<String>,
    /// As text.
    pub correlation_id: Option<String>,
    /// Whatever bytes the sender put there, usually text.
    pub user_id: Option<Bytes>,
    /// Like `application/json`.
    pub content_type: Option<String>,
    /// Like `utf-8`.
    pub content_encoding: Option<String>,
    /// When the message is of no use any more; by the hub's clock.
    pub expires_at: Option<SystemTime>,
    /// What the sender of a cloud-to-device message wants to know of its end.
    pub ack: Ack,
    /// What belongs to the message without being the user's: the annotations of AMQP, like `dt-subject`.
    pub system: Vec<(Cow<'static, str>, String)>,
    /// The user's, in the order they came.
    pub properties: Vec<(String, String)>,
    /// Nobody looks into it.
    pub body: Bytes,
}

/// When feedback is due (amqp.md 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ack {
    /// Never.
    #[default]
    None,
    /// When the device completed the message.
    Positive,
    /// When the message ended in another way.
    Negative,
    /// However it ended.
    Full,
}

impl Message {
    /// The size as the hub counts it: the body, the values of system properties, names and values of the
    /// user's (amqp.md 4.2).
    pub fn size(&self) -> usize {
        let texts = [&self.message_id, &self.correlation_id, &self.content_type, &self.content_encoding];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let user_id = self.user_id.as_ref().map_or(0, Bytes::len);
        let expiry = self.expires_at.map_or(0, |_| 24);
        let user: usize = self.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + texts + user_id + expiry + user
    }

    /// A property of the user, by its exact name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Takes a property away, whatever the case of its name.
    pub(crate) fn take_property(&mut self, name: &str) -> Option<String> {
        let at = self.properties.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(self.properties.remove(at).1)
    }
}

impl Ack {
    /// As properties and headers say it.
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Full => "full",
        }
    }

    pub(super) fn wants(self, success: bool) -> bool {
        match self {
            Self::None => false,
            Self::Positive => success,
            Self::Negative => !success,
            Self::Full => true,
        }
    }
}

impl FromStr for Ack {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let all = [Self::None, Self::Positive, Self::Negative, Self::Full];
        all.into_iter().find(|ack| ack.text().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let text = format!("iothub-ack is '{text}', it must be none, positive, negative or full");
            HubError::new(ErrorCode::ArgumentInvalid, text)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_as_the_hub_does() {
        let message = Message {
            message_id: Some("12345".to_owned()),
            content_type: Some("application/json".to_owned()),
            expires_at: Some(SystemTime::UNIX_EPOCH),
            user_id: Some(Bytes::from_static(b"me")),
            system: vec![("dt-subject".into(), "not counted".to_owned())],
            properties: vec![("key".to_owned(), "value".to_owned())],
            body: Bytes::from_static(b"{}"),
            ..Message::default()
        };
        assert_eq!(message.size(), 5 + 16 + 24 + 2 + 3 + 5 + 2);
    }

    #[test]
    fn ack_has_any_case() {
        assert_eq!("Full".parse::<Ack>().unwrap(), Ack::Full);
        assert_eq!("none".parse::<Ack>().unwrap(), Ack::None);
        assert_eq!("yes".parse::<Ack>().unwrap_err().code, 400_004);
    }
}
