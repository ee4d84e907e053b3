//! How the connection is doing.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{Stream, future::BoxFuture};
use iothub_common::Error;
use tokio::sync::watch;

/// How the connection of a client is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionStatus {
    /// A connection is being made.
    Connecting,
    /// The hub accepted this identity.
    Connected,
    /// The connection was lost, or could not be made; another attempt follows.
    Retrying {
        /// Failed attempts since the last time that it was connected.
        attempt: u32,
        /// How long until the next attempt begins.
        next_try: Duration,
        /// What went wrong last.
        error: Error,
    },
    /// Another client connected as the same identity and took over. This one tries to get it back; after five
    /// times within five minutes it gives way.
    Displaced {
        /// How long until the next attempt begins.
        next_try: Duration,
        /// What the hub said.
        error: Error,
    },
    /// Nothing more follows.
    Closed {
        /// Why, when it was not the application that closed the client.
        error: Option<Error>,
    },
}

impl ConnectionStatus {
    /// Whether the hub has accepted this identity and nothing is known to have changed that.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }

    /// Whether the client is closed for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

/// Changes of the connection status, beginning with the present one.
///
/// A slow reader misses intermediate changes, never the latest. The stream ends after
/// [`ConnectionStatus::Closed`]. It does not keep the client alive.
pub struct StatusChanges {
    pending: Option<BoxFuture<'static, Option<Next>>>,
}

/// A status, and where the one after it will come from.
type Next = (watch::Receiver<ConnectionStatus>, ConnectionStatus);

impl StatusChanges {
    pub(crate) fn new(mut receiver: watch::Receiver<ConnectionStatus>) -> Self {
        receiver.mark_changed();
        Self { pending: Some(Box::pin(next(receiver))) }
    }

    /// The next change; `None` once the client is closed and that was told.
    pub async fn next(&mut self) -> Option<ConnectionStatus> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

async fn next(mut receiver: watch::Receiver<ConnectionStatus>) -> Option<Next> {
    receiver.changed().await.ok()?;
    let status = receiver.borrow_and_update().clone();
    Some((receiver, status))
}

impl Stream for StatusChanges {
    type Item = ConnectionStatus;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(pending) = self.pending.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(result) = pending.as_mut().poll(cx) else { return Poll::Pending };
        self.pending = None;
        let Some((receiver, status)) = result else { return Poll::Ready(None) };
        if !status.is_closed() {
            self.pending = Some(Box::pin(next(receiver)));
        }
        Poll::Ready(Some(status))
    }
}

impl std::fmt::Debug for StatusChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusChanges").finish_non_exhaustive()
    }
}
