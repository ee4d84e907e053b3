//! What became of messages to devices (amqp.md 5.3).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use futures_core::Stream;
use iothub_common::Result;
use serde::Deserialize;

use super::Messaging;
use super::connection::{Feed, Item, Reader, Window};
use super::lock::{Held, open};
use super::time::annotation_time;
use crate::models::hub_enum::hub_enum;
use crate::models::{Timestamp, UnknownFields};

const ADDRESS: &str = "/messages/serviceBound/feedback";
const CONTENT_TYPE: &str = "application/vnd.microsoft.iothub.feedback.json";

hub_enum! {
    /// What became of a message.
    pub enum FeedbackStatus {
        /// The device completed it.
        Success = "Success",
        /// The device did not fetch it in time.
        Expired = "Expired",
        /// The device gave it back too often.
        DeliveryCountExceeded = "DeliveryCountExceeded",
        /// The device rejected it.
        Rejected = "Rejected",
        /// The queue of the device was purged.
        Purged = "Purged",
    }
}

/// What became of one message. Only messages that asked for it have feedback, see
/// [`CloudMessage::ack`](super::CloudMessage::ack).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FeedbackRecord {
    /// The id of the message, see [`Messaging::send_to_device`].
    pub original_message_id: String,
    /// When it happened.
    #[serde(rename = "enqueuedTimeUtc")]
    pub time: Timestamp,
    /// What happened.
    #[serde(rename = "statusCode")]
    pub status: FeedbackStatus,
    /// The same in the hub's words.
    #[serde(default)]
    pub description: Option<String>,
    /// The device.
    pub device_id: String,
    /// Its generation, see [`Device::generation_id`](crate::Device::generation_id).
    #[serde(default, rename = "deviceGenerationId")]
    pub generation_id: Option<String>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Feedback of up to 64 messages, which the hub holds for this reader for a minute (a setting of the hub).
///
/// [Complete](FeedbackBatch::complete) it when it has been dealt with. Dropped without that, or when the minute is
/// over, it goes back to the hub, which hands it out again: to this or another reader, ten times at most.
#[derive(Debug)]
pub struct FeedbackBatch {
    /// What became of which message.
    pub records: Vec<FeedbackRecord>,
    /// When the hub made the batch.
    pub enqueued_time: Option<SystemTime>,
    held: Held,
}

impl FeedbackBatch {
    /// Completes: the hub removes the batch. Returns when the hub has confirmed that; dropping the future does not
    /// take it back.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when the batch is no longer held for this reader,
    /// because it took too long or the connection was lost: it will come again. Others when the hub did not confirm;
    /// then it may come again.
    pub async fn complete(self) -> Result<()> {
        self.held.complete().await
    }

    /// Gives the batch back to be handed out again, at once. Dropping it does the same without waiting for the hub.
    ///
    /// # Errors
    ///
    /// Those of [`FeedbackBatch::complete`].
    pub async fn abandon(self) -> Result<()> {
        self.held.abandon().await
    }
}

/// What becomes of messages to devices, as it becomes known; see [`Messaging::feedback`].
///
/// Goes on by itself after losses. An item that is an error is the last one and says why; without one the stream ends
/// when [`Messaging::close`] was called.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct FeedbackStream {
    reader: Reader,
}

impl Messaging {
    /// Listens for feedback: what became of messages that asked for it. Returns once the hub agreed. Nothing is fetched
    /// before the stream is polled, and then one batch at a time, since the hub holds a batch only for a minute.
    ///
    /// Several readers share the feedback: each batch goes to one of them.
    ///
    /// # Errors
    ///
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized) when the policy lacks the right *service connect*.
    pub async fn feedback(&self) -> Result<FeedbackStream> {
        let feeds = vec![Feed::Queue { address: ADDRESS }];
        Ok(FeedbackStream { reader: self.connection()?.listen(feeds, Window::OnDemand).await? })
    }
}

impl FeedbackStream {
    /// The next batch; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<FeedbackBatch>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn read(&self, item: Item) -> Result<FeedbackBatch> {
        let enqueued_time = annotation_time(&item.message, "iothub-enqueuedtime");
        let read = |message: iothub_amqp::message::Message| {
            serde_json::from_slice(&message.body.into_bytes().unwrap_or_default())
        };
        let (records, held) = open(item, self.reader.connection(), CONTENT_TYPE, read)?;
        Ok(FeedbackBatch { records, enqueued_time, held })
    }
}

impl Stream for FeedbackStream {
    type Item = Result<FeedbackBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(item) = ready!(Pin::new(&mut self.reader).poll_next(cx)) else { return Poll::Ready(None) };
        let batch = item.and_then(|item| self.read(item));
        if batch.is_err() {
            self.reader.end();
        }
        Poll::Ready(Some(batch))
    }
}
