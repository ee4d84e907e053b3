//! Files that devices have uploaded (amqp.md 5.4).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use iothub_common::Result;
use serde::Deserialize;

use super::Messaging;
use super::connection::{Feed, Reader, Window};
use super::lock::{Held, open};
use crate::models::{Timestamp, UnknownFields};

const ADDRESS: &str = "/messages/serviceBound/filenotifications";
const CONTENT_TYPE: &str = "application/vnd.microsoft.iothub.filenotification.json";

/// A file that a device has uploaded. The hub holds the notification for this reader for a minute (a setting of the
/// hub).
///
/// [Complete](FileNotification::complete) it when it has been dealt with. Dropped without that, or when the minute is
/// over, it goes back to the hub, which hands it out again.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileNotification {
    /// The device.
    pub device_id: String,
    /// Where the file is, without a signature to read it.
    pub blob_uri: String,
    /// Its name in the container: `{device id}/{name}`.
    pub blob_name: String,
    /// How big it is, bytes.
    pub blob_size: u64,
    /// When it was last changed.
    pub last_updated_time: Option<Timestamp>,
    /// When the hub made the notification.
    pub enqueued_time: Option<Timestamp>,
    /// What else the hub said.
    pub unknown: UnknownFields,
    held: Held,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    device_id: String,
    blob_uri: String,
    blob_name: String,
    blob_size_in_bytes: u64,
    last_updated_time: Option<Timestamp>,
    enqueued_time_utc: Option<Timestamp>,
    #[serde(flatten)]
    unknown: UnknownFields,
}

impl FileNotification {
    /// Completes: the hub removes the notification. Returns when the hub has confirmed that; dropping the future does
    /// not take it back.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when the notification is no longer held for this
    /// reader, because it took too long or the connection was lost: it will come again. Others when the hub did not
    /// confirm; then it may come again.
    pub async fn complete(self) -> Result<()> {
        self.held.complete().await
    }

    /// Gives the notification back to be handed out again, at once. Dropping it does the same without waiting for the
    /// hub.
    ///
    /// # Errors
    ///
    /// Those of [`FileNotification::complete`].
    pub async fn abandon(self) -> Result<()> {
        self.held.abandon().await
    }

    fn new(content: Content, held: Held) -> Self {
        Self {
            device_id: content.device_id,
            blob_uri: content.blob_uri,
            blob_name: content.blob_name,
            blob_size: content.blob_size_in_bytes,
            last_updated_time: content.last_updated_time,
            enqueued_time: content.enqueued_time_utc,
            unknown: content.unknown,
            held,
        }
    }
}

/// Files that devices upload, as they do; see [`Messaging::file_notifications`].
///
/// Goes on by itself after losses. An item that is an error is the last one and says why; without one the stream ends
/// when [`Messaging::close`] was called.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct FileNotificationStream {
    reader: Reader,
}

impl Messaging {
    /// Listens for uploaded files, where the hub is set up to tell of them. Returns once the hub agreed. Nothing is
    /// fetched before the stream is polled, and then one notification at a time, since the hub holds it only for a
    /// minute.
    ///
    /// Several readers share the notifications: each goes to one of them.
    ///
    /// # Errors
    ///
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized) when the policy lacks the right *service connect*.
    pub async fn file_notifications(&self) -> Result<FileNotificationStream> {
        let feeds = vec![Feed::Queue { address: ADDRESS }];
        Ok(FileNotificationStream { reader: self.connection()?.listen(feeds, Window::OnDemand).await? })
    }
}

impl FileNotificationStream {
    /// The next notification; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<FileNotification>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for FileNotificationStream {
    type Item = Result<FileNotification>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(item) = ready!(Pin::new(&mut self.reader).poll_next(cx)) else { return Poll::Ready(None) };
        let read = |message: iothub_amqp::message::Message| {
            serde_json::from_slice::<Content>(&message.body.into_bytes().unwrap_or_default())
        };
        let opened = item.and_then(|item| open(item, self.reader.connection(), CONTENT_TYPE, read));
        if opened.is_err() {
            self.reader.end();
        }
        Poll::Ready(Some(opened.map(|(content, held)| FileNotification::new(content, held))))
    }
}
