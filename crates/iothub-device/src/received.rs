//! Messages from the cloud, and from other modules.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_core::Stream;
use iothub_amqp::{
    message::Message as AmqpMessage,
    serde_amqp::Value,
    types::{
        messaging::MessageId,
        primitives::{SimpleValue, Timestamp},
    },
};
use iothub_common::Result;

use crate::{
    client::{Client, Which},
    features::{RawMessage, Ticket, Verdict},
    mailbox::Reader,
};

/// Messages to a device or module, as they come.
///
/// Nothing is fetched before the stream exists, and the hub sends no more than the reader has room for. The
/// stream survives reconnections and keeps the connection alive; it ends when the client is closed. Dropping it
/// gives back what was not read.
#[derive(Debug)]
pub struct ReceivedMessages {
    reader: Reader<RawMessage>,
    which: Which,
}

impl ReceivedMessages {
    pub(crate) fn new(reader: Reader<RawMessage>, which: Which) -> Self {
        Self { reader, which }
    }

    /// The next message; `None` once the client is closed. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<ReceivedMessage> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for ReceivedMessages {
    type Item = ReceivedMessage;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (client, which) = (self.reader.client(), self.which);
        self.reader.poll_next(cx).map(|raw| {
            raw.map(|raw| ReceivedMessage {
                body: raw.message.body.clone().into_bytes().unwrap_or_default(),
                message: raw.message,
                lock: Some(Lock { ticket: raw.ticket, which, client: client.clone() }),
            })
        })
    }
}

/// A message that waits to be settled: [`complete`](Self::complete), [`abandon`](Self::abandon) or
/// [`reject`](Self::reject) it. Dropped, it is given back as by `abandon`.
///
/// The hub holds it for one minute; after that it may come again.
#[derive(Debug)]
pub struct ReceivedMessage {
    body: Bytes,
    message: AmqpMessage,
    lock: Option<Lock>,
}

#[derive(Debug)]
struct Lock {
    ticket: Ticket,
    which: Which,
    client: Client,
}

impl ReceivedMessage {
    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The id the sender gave it.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        self.message.properties.as_ref()?.message_id.as_ref().map(id_text)
    }

    /// The id of the message it is about.
    #[must_use]
    pub fn correlation_id(&self) -> Option<String> {
        self.message.correlation_id().map(id_text)
    }

    /// What the body is.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.message.properties.as_ref()?.content_type.as_ref().map(|s| s.as_str())
    }

    /// How the body is encoded.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&str> {
        self.message.properties.as_ref()?.content_encoding.as_ref().map(|s| s.as_str())
    }

    /// Who the sender says it is.
    #[must_use]
    pub fn user_id(&self) -> Option<&[u8]> {
        self.message.properties.as_ref()?.user_id.as_ref().map(|id| id.as_slice())
    }

    /// When the hub got it.
    #[must_use]
    pub fn enqueued_time(&self) -> Option<SystemTime> {
        match self.message.annotation("iothub-enqueuedtime")? {
            Value::Timestamp(time) => system_time(time),
            _ => None,
        }
    }

    /// When it is of no use any more.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        system_time(self.message.properties.as_ref()?.absolute_expiry_time.as_ref()?)
    }

    /// How often it was delivered before.
    #[must_use]
    pub fn delivery_count(&self) -> u32 {
        let count = self.message.annotation_number("iothub-deliverycount");
        count.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }

    /// Its number in the queue of this device or module.
    #[must_use]
    pub fn sequence_number(&self) -> Option<u64> {
        self.message.annotation_number("x-opt-sequence-number").and_then(|n| u64::try_from(n).ok())
    }

    /// The input it came on, at an Edge module.
    #[must_use]
    pub fn input_name(&self) -> Option<&str> {
        self.message.annotation_text("x-opt-input-name")
    }

    /// The device that sent it, on an input.
    #[must_use]
    pub fn connection_device_id(&self) -> Option<&str> {
        self.message.annotation_text("iothub-connection-device-id")
    }

    /// The module that sent it, on an input.
    #[must_use]
    pub fn connection_module_id(&self) -> Option<&str> {
        self.message.annotation_text("iothub-connection-module-id")
    }

    /// A property of the application.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.message.application_text(name)
    }

    /// All properties of the application that are text, in the order of the sender.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.message.application_properties.as_ref();
        properties.into_iter().flat_map(|p| p.0.iter()).filter_map(|(name, value)| match value {
            SimpleValue::String(value) => Some((name.as_str(), value.as_str())),
            _ => None,
        })
    }

    /// Done: the hub forgets the message. Returns once the hub has confirmed that.
    ///
    /// # Errors
    ///
    /// When the hub does not hold the message for us any more, since the connection was lost or the minute is
    /// over: it may come again.
    pub async fn complete(self) -> Result<()> {
        self.settle(Verdict::Complete).await
    }

    /// Not now: the hub delivers it again, up to its maximum (10 by default).
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn abandon(self) -> Result<()> {
        self.settle(Verdict::Abandon).await
    }

    /// Never: the hub drops the message, and tells the sender if it asked for that.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn reject(self) -> Result<()> {
        self.settle(Verdict::Reject).await
    }

    async fn settle(mut self, verdict: Verdict) -> Result<()> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        lock.client.settle(lock.which, lock.ticket, verdict).await
    }
}

impl Drop for ReceivedMessage {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.client.release(lock.which, lock.ticket);
        }
    }
}

fn id_text(id: &MessageId) -> String {
    match id {
        MessageId::String(id) => id.clone(),
        MessageId::Ulong(id) => id.to_string(),
        MessageId::Uuid(id) => uuid::Uuid::from_bytes(*id.as_inner()).to_string(),
        MessageId::Binary(id) => String::from_utf8_lossy(id).into_owned(),
    }
}

fn system_time(time: &Timestamp) -> Option<SystemTime> {
    let millis = u64::try_from(time.clone().into_inner()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
