//! Beginning anew, and going back to how it was.

use std::fmt;

use iothub_common::{Error, ErrorKind, Identity};
use serde::{Deserialize, Serialize};

use super::files::Uploads;
use super::registry::State;
use super::{Hub, Inner};

/// Identities with their keys, and twins, of a hub at one time. Contains secrets; `Debug` shows none.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(State);

impl Snapshot {
    /// As bytes, to be kept.
    ///
    /// # Errors
    ///
    /// None that is known: what is in it can be written.
    pub fn to_bytes(&self) -> iothub_common::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the snapshot cannot be written").with_source(error)
        })
    }

    /// From the bytes of [`to_bytes`](Self::to_bytes) of this version of the hub.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> iothub_common::Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            let text = "these bytes are no snapshot of a hub of this version; take a new one";
            Error::new(ErrorKind::InvalidInput, text).with_source(error)
        })
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("devices", &self.0.devices().count()).finish_non_exhaustive()
    }
}

impl Hub {
    /// Forgets all identities and twins, messages, events, uploads, jobs and configurations. Who is connected is
    /// sent away. Policies, the clock, faults and counters stay.
    pub fn reset(&self) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let before = inner.state.clear();
        self.send_away(inner, &before);
        inner.messaging.clear();
        inner.uploads = Uploads::default();
        inner.jobs.clear();
        inner.configurations.clear();
    }

    /// All identities and twins as they are now; not messages, events, jobs or configurations.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lock().state.clone())
    }

    /// Makes identities and twins what they were. Connections of identities that vanish by that, or that were other
    /// ones under the same id, are sent away and their messages forgotten. The others stay connected; those that
    /// follow desired properties have to read them again, and may find a lower `$version` than before, which no real
    /// hub would show them.
    pub fn restore(&self, snapshot: Snapshot) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let before = inner.state.restore(snapshot.0);
        self.send_away(inner, &before);
        for (device_id, _) in before.devices_after(None) {
            inner.forget_messages(device_id);
            if Identity::device(device_id).is_ok_and(|device| inner.state.record(&device).is_err()) {
                inner.uploads.forget(device_id);
            }
        }
    }

    /// Sends away who is not there any more.
    fn send_away(&self, inner: &mut Inner, before: &State) {
        let now = self.timestamp();
        for mailbox in inner.live.replaced(before, &mut inner.state, self.name(), now) {
            inner.messaging.methods.left(&mailbox);
        }
    }
}
