//! The stream of desired properties, and which updates it yields.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use iothub_common::Properties;

use crate::{
    client::Client,
    mailbox::{Mailbox, Reader},
};

/// Updates a reader may be behind before they are replaced by one snapshot.
const MAX_BEHIND: usize = 64;

/// One item of [`DesiredUpdates`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DesiredUpdate {
    /// All desired properties: the first item, and whenever changes may have been missed.
    Snapshot(Properties),
    /// What the service changed. Members that are `null` were removed.
    Patch(Properties),
}

impl DesiredUpdate {
    /// The properties of either kind.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        match self {
            Self::Snapshot(properties) | Self::Patch(properties) => properties,
        }
    }

    /// The `$version` that the desired properties had after this update.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.properties().version()
    }
}

/// The desired properties of a twin as they change.
///
/// The first item is the state at subscription. Versions rise from item to item, except when the identity was
/// deleted and created anew. After a reconnection, or when the reader was more than 64 updates behind, a
/// [`DesiredUpdate::Snapshot`] replaces what was missed, so applying the items in order always ends at the
/// hub's state.
///
/// The stream keeps the connection alive. It ends when the client is closed or gives up;
/// [`ModuleClient::closed`](crate::ModuleClient::closed) says why. Dropping it unsubscribes.
pub struct DesiredUpdates {
    reader: Reader<DesiredUpdate>,
}

impl DesiredUpdates {
    pub(crate) fn new(queue: Arc<Queue>, client: Client) -> Self {
        Self { reader: Reader::new(queue, client) }
    }

    /// The next update; `None` once the client is closed. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<DesiredUpdate> {
        std::future::poll_fn(|cx| self.reader.poll_next(cx)).await
    }
}

impl Stream for DesiredUpdates {
    type Item = DesiredUpdate;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll_next(cx)
    }
}

impl std::fmt::Debug for DesiredUpdates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DesiredUpdates").finish_non_exhaustive()
    }
}

/// What lies between the connection task and one reader.
pub(crate) type Queue = Mailbox<DesiredUpdate>;

/// False when the reader is too far behind: its items are gone, and it needs a snapshot.
fn give(queue: &Queue, update: DesiredUpdate) -> bool {
    if matches!(update, DesiredUpdate::Snapshot(_)) {
        // It contains all that is waiting.
        queue.replace(update);
    } else if queue.len() >= MAX_BEHIND {
        queue.drain();
        return false;
    } else {
        queue.push(update);
    }
    true
}

/// Decides what readers see: subscribe, buffer, read, drop what is older (twins.md 2.7). Pure: notifications
/// and read answers go in, updates come out, [`Tracker::wants_read`] says when the twin must be read.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    readers: Vec<Subscriber>,
    /// The version that every reader without `needs_snapshot` has.
    version: Option<u64>,
    /// Notifications since the subscription, while a read is due or on its way.
    buffer: Vec<Properties>,
    reading: Reading,
}

#[derive(Debug)]
struct Subscriber {
    queue: Arc<Queue>,
    needs_snapshot: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing was missed.
    #[default]
    Idle,
    Due,
    UnderWay,
    /// Something was missed while the read was under way: it does not count.
    Stale,
}

impl Tracker {
    /// A new reader; its first item is a snapshot.
    pub(crate) fn subscribe(&mut self) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        self.readers.push(Subscriber { queue: queue.clone(), needs_snapshot: true });
        self.read_again();
        queue
    }

    /// Whether anybody listens. Forgets readers that are gone.
    pub(crate) fn has_readers(&mut self) -> bool {
        self.readers.retain(|reader| Arc::strong_count(&reader.queue) > 1);
        !self.readers.is_empty()
    }

    /// The subscription was lost: whatever happens until the next one is missed.
    pub(crate) fn lost(&mut self) {
        self.buffer.clear();
        self.reading = if self.readers.is_empty() { Reading::Idle } else { Reading::Due };
    }

    /// True once for each read of the twin that is to be started now.
    pub(crate) fn wants_read(&mut self) -> bool {
        let due = self.reading == Reading::Due;
        if due {
            self.reading = Reading::UnderWay;
        }
        due
    }

    /// The hub told about a change.
    pub(crate) fn on_patch(&mut self, patch: Properties) {
        if self.reading != Reading::Idle {
            if self.buffer.len() >= MAX_BEHIND {
                // The read that is under way may be older than what is dropped here.
                self.buffer.clear();
                self.reading = if self.reading == Reading::Due { Reading::Due } else { Reading::Stale };
            }
            self.buffer.push(patch);
            return;
        }
        let Some(version) = self.version else { return };
        if patch.version() <= version {
            return;
        }
        if patch.version() > version + 1 {
            self.buffer.push(patch);
            return self.read_again();
        }
        self.give_to_all(&patch);
    }

    /// The twin was read. False when that read came too late to count, and another one is due.
    pub(crate) fn on_read(&mut self, desired: &Properties) -> bool {
        if self.reading == Reading::Stale {
            self.reading = Reading::Due;
            return false;
        }
        self.reading = Reading::Idle;
        let moved = self.version != Some(desired.version());
        self.version = Some(desired.version());
        for reader in &mut self.readers {
            if moved || reader.needs_snapshot {
                reader.needs_snapshot = false;
                give(&reader.queue, DesiredUpdate::Snapshot(desired.clone()));
            }
        }
        for patch in std::mem::take(&mut self.buffer) {
            self.on_patch(patch);
        }
        true
    }

    /// The client is closed.
    pub(crate) fn end(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.queue.end());
    }

    fn give_to_all(&mut self, patch: &Properties) {
        self.version = Some(patch.version());
        let mut overrun = false;
        for reader in &mut self.readers {
            if !give(&reader.queue, DesiredUpdate::Patch(patch.clone())) {
                reader.needs_snapshot = true;
                overrun = true;
            }
        }
        if overrun {
            self.read_again();
        }
    }

    fn read_again(&mut self) {
        self.reading = match self.reading {
            Reading::Idle | Reading::Due => Reading::Due,
            // What is under way began before: it cannot answer this.
            Reading::UnderWay | Reading::Stale => Reading::Stale,
        };
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
