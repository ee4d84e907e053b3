//! Events, one after the other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use iothub_common::Result;

use super::DeviceEvent;
use crate::messaging::connection::Reader;

/// Events of one or all partitions; see [`EventReader`](super::EventReader) and
/// [`EventReaderBuilder`](super::EventReaderBuilder).
///
/// Those of a partition, so those of a device, come in order; those of different partitions as they arrive. The stream
/// goes on by itself after losses, without gaps and without repetitions, as long as the hub still keeps the events: a
/// day unless set otherwise. A slow program holds the hub back; nothing is dropped.
///
/// An item that is an error is the last one and says why: another reader took a partition over, or the credentials no
/// longer suffice. Without one the stream ends when [`EventReader::close`](super::EventReader::close) was called.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct EventStream {
    reader: Reader,
    partitions: Vec<Arc<str>>,
}

impl EventStream {
    pub(super) fn new(reader: Reader, partitions: Vec<Arc<str>>) -> Self {
        Self { reader, partitions }
    }

    /// The next event; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<DeviceEvent>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for EventStream {
    type Item = Result<DeviceEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(item) = ready!(Pin::new(&mut self.reader).poll_next(cx)) else { return Poll::Ready(None) };
        let event = item.and_then(|item| {
            let partition = self.partitions[item.source].clone();
            DeviceEvent::new(partition, item.message)
        });
        if event.is_err() {
            self.reader.end();
        }
        Poll::Ready(Some(event))
    }
}
