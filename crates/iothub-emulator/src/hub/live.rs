//! Who is connected, and what waits to be told to them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use iothub_common::Identity;
use tokio::sync::Notify;

use uuid::Uuid;

use super::Hub;
use super::error::{ErrorCode, HubError};
use super::faults::Disruption;
use super::messaging::Lane;
use super::registry::State;
use super::timestamp::Timestamp;
use super::twin::Notification;

/// Notifications that wait for one connection.
const MAX_WAITING: usize = 1000;
/// Their bytes; a single larger one may wait alone.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// What the hub tells a connected device or module.
#[derive(Clone, Debug, PartialEq)]
pub enum Push {
    /// Desired properties were written. Comes in the order of versions, without gaps.
    Desired {
        /// The new `$version` of the desired properties.
        version: u64,
        /// `{…patch…,"$version":n}`
        body: Bytes,
    },
    /// Too many notifications waited, some are lost: the subscription has ended. Detach the twin links, so
    /// that the client reads the whole twin when it comes back.
    Overflow,
    /// Messages wait in a queue that this connection has claimed: [`Hub::receive`] them.
    Waiting(Lane),
    /// Somebody calls a method; [`Connected::respond`] answers.
    Method {
        /// Names the call.
        id: Uuid,
        /// The method's name.
        name: String,
        /// JSON.
        payload: Bytes,
    },
    /// Another connection of the identity has claimed what this one had: close the links concerned.
    Displaced(Claim),
    /// Something is to go wrong on purpose.
    Disrupt(Disruption),
    /// The identity was deleted, or its device disabled: close its links. Nothing else comes afterwards.
    Gone(HubError),
}

/// What one connection of an identity has at a time; who claims it last has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Cloud-to-device messages.
    Messages,
    /// Messages to a module's inputs.
    Inputs,
    /// Calls of methods.
    Methods,
}

impl From<Lane> for Claim {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Messages => Self::Messages,
            Lane::Inputs => Self::Inputs,
        }
    }
}

/// A connected device or module; `connectionState` is `Connected` as long as at least one of these lives.
///
/// Made by [`Hub::connect`]. Dropping it is the end of the connection.
pub struct Connected {
    hub: Hub,
    identity: Identity,
    mailbox: Arc<Mailbox>,
}

impl Connected {
    pub(super) fn new(hub: Hub, identity: Identity, mailbox: Arc<Mailbox>) -> Self {
        Self { hub, identity, mailbox }
    }

    /// Who is connected.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The Plug and Play model that the device says it is; its twin shows that (amqp.md 3.3).
    pub fn set_model_id(&self, model_id: &str) {
        self.hub.lock().state.set_model_id(&self.identity, model_id);
    }

    /// From now on writes of desired properties are pushed. Nothing is pushed for what was written before,
    /// and nothing changes when they are pushed already (twins.md 2.4).
    pub fn subscribe_desired(&self) {
        self.mailbox.lock().subscribed = true;
    }

    /// From now on they are not, those that wait are dropped.
    pub fn unsubscribe_desired(&self) {
        let mut letters = self.mailbox.lock();
        letters.subscribed = false;
        letters.clear();
    }

    /// From now on this connection is who receives messages ([`Push::Waiting`], at once when there are some) or
    /// method calls. A connection that did is told.
    pub fn claim(&self, claim: Claim) {
        self.hub.claim(&self.identity, &self.mailbox, claim);
    }

    /// From now on it is not. Calls under way will not be answered.
    pub fn give_up(&self, claim: Claim) {
        self.hub.give_up(&self.mailbox, claim);
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The next push; waits for one. After [`Push::Gone`] every call gives it again, at once.
    ///
    /// Dropping the future loses nothing. One task at a time is to call this.
    pub async fn recv(&self) -> Push {
        loop {
            // A push between the look and the wait leaves a permit, so it is not missed.
            if let Some(push) = self.try_recv() {
                return push;
            }
            self.mailbox.wake.notified().await;
        }
    }

    /// The next push, if one waits.
    pub fn try_recv(&self) -> Option<Push> {
        self.mailbox.lock().take()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.disconnect(&self.identity, &self.mailbox);
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What waits for one connection. Locked inside the hub's lock by writers, alone by the reader.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Letters {
    subscribed: bool,
    /// Notifications of desired properties.
    waiting: VecDeque<Push>,
    bytes: usize,
    /// What this connection has of [`Claim`].
    claims: Vec<Claim>,
    /// Everything else: calls, of which there are only so many at a time, and words that are not repeated.
    others: VecDeque<Push>,
    gone: Option<HubError>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        // Nothing panics while it is held, so what is in it is whole.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn desired(&self, notification: &Notification) {
        self.lock().desired(notification);
        self.wake.notify_one();
    }

    /// Hands over something that is no desired property.
    pub(super) fn post(&self, push: Push) {
        let mut letters = self.lock();
        if letters.gone.is_none() && !letters.others.contains(&push) {
            letters.others.push_back(push);
        }
        drop(letters);
        self.wake.notify_one();
    }

    pub(super) fn has(&self, claim: Claim) -> bool {
        self.lock().claims.contains(&claim)
    }

    fn claim(&self, claim: Claim) {
        self.lock().claims.push(claim);
    }

    /// Whether it had it.
    pub(super) fn give_up(&self, claim: Claim) -> bool {
        let mut letters = self.lock();
        let before = letters.claims.len();
        letters.claims.retain(|had| *had != claim);
        letters.claims.len() < before
    }

    /// What was pushed is of no use any more: the twin has to be read again.
    fn outdated(&self) {
        let mut letters = self.lock();
        if letters.subscribed {
            letters.overflow();
        }
        drop(letters);
        self.wake.notify_one();
    }

    fn gone(&self, error: HubError) {
        self.lock().gone(error);
        self.wake.notify_one();
    }
}

impl Letters {
    fn desired(&mut self, notification: &Notification) {
        if !self.subscribed {
            return;
        }
        let bytes = self.bytes + notification.body.len();
        let full = self.waiting.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES;
        if full && !self.waiting.is_empty() {
            return self.overflow();
        }
        self.bytes = bytes;
        self.waiting
            .push_back(Push::Desired { version: notification.version, body: notification.body.clone() });
    }

    fn overflow(&mut self) {
        // What waits is of no use to a client that has to read the whole twin.
        self.subscribed = false;
        self.clear();
        self.waiting.push_back(Push::Overflow);
    }

    fn gone(&mut self, error: HubError) {
        self.subscribed = false;
        self.clear();
        self.claims.clear();
        self.others.clear();
        self.gone = Some(error);
    }

    fn take(&mut self) -> Option<Push> {
        let push = self.others.pop_front().or_else(|| self.waiting.pop_front());
        let push = push.or_else(|| self.gone.clone().map(Push::Gone))?;
        if let Push::Desired { body, .. } = &push {
            self.bytes -= body.len();
        }
        Some(push)
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

/// Every connection of the hub.
#[derive(Debug, Default)]
pub(super) struct Live {
    connections: BTreeMap<Identity, Vec<Arc<Mailbox>>>,
}

impl Live {
    pub(super) fn connect(&mut self, identity: &Identity) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.connections.entry(identity.clone()).or_default().push(Arc::clone(&mailbox));
        mailbox
    }

    /// Whether this was the last connection of the identity. Not so when it was swept before.
    pub(super) fn disconnect(&mut self, identity: &Identity, mailbox: &Arc<Mailbox>) -> bool {
        let Some(mailboxes) = self.connections.get_mut(identity) else { return false };
        mailboxes.retain(|other| !Arc::ptr_eq(other, mailbox));
        if !mailboxes.is_empty() {
            return false;
        }
        self.connections.remove(identity);
        true
    }

    /// Tells every connection of an identity: how many there are.
    pub(super) fn tell(&self, identity: &Identity, push: &Push) -> usize {
        let mailboxes = self.connections.get(identity).map_or(&[][..], Vec::as_slice);
        for mailbox in mailboxes {
            mailbox.post(push.clone());
        }
        mailboxes.len()
    }

    pub(super) fn notify(&self, identity: &Identity, notification: &Notification) {
        for mailbox in self.connections.get(identity).into_iter().flatten() {
            mailbox.desired(notification);
        }
    }

    /// Gives a connection what it claims; the mailbox that had it.
    pub(super) fn claim(
        &self,
        identity: &Identity,
        mailbox: &Arc<Mailbox>,
        claim: Claim,
    ) -> Option<Arc<Mailbox>> {
        let mailboxes = self.connections.get(identity)?;
        let displaced = mailboxes.iter().find(|other| other.give_up(claim)).cloned();
        mailbox.claim(claim);
        let displaced = displaced.filter(|other| !Arc::ptr_eq(other, mailbox))?;
        displaced.post(Push::Displaced(claim));
        Some(displaced)
    }

    /// The connection that takes calls of methods.
    pub(super) fn listener(&self, identity: &Identity) -> Option<&Arc<Mailbox>> {
        self.connections.get(identity)?.iter().find(|mailbox| mailbox.has(Claim::Methods))
    }

    /// Tells who receives from it that messages wait in a queue.
    pub(super) fn waiting(&self, identity: &Identity, lane: Lane) {
        for mailbox in self.connections.get(identity).into_iter().flatten() {
            if mailbox.has(lane.into()) {
                mailbox.post(Push::Waiting(lane));
            }
        }
    }

    /// Sends away who is not in the state that took the place of another, or is somebody else there. Their mailboxes
    /// are returned. The others are told that their twins may have changed.
    pub(super) fn replaced(
        &mut self,
        before: &State,
        state: &mut State,
        hub_name: &str,
        now: Timestamp,
    ) -> Vec<Arc<Mailbox>> {
        let generation = |state: &State, identity: &Identity| {
            state.record(identity).ok().map(|record| record.generation())
        };
        let mut gone = Vec::new();
        self.connections.retain(|identity, mailboxes| {
            let same = generation(before, identity) == generation(state, identity);
            let error = match state.check_usable(identity, hub_name) {
                Ok(()) if same => None,
                Ok(()) => Some(HubError::new(
                    ErrorCode::DeviceNotFound,
                    format!("{identity} at IotHub {hub_name} is another one now."),
                )),
                Err(error) => Some(error),
            };
            let Some(error) = error else {
                // It was there just now.
                if let Ok(record) = state.record_mut(identity) {
                    record.presence.set_connected(true, now);
                }
                mailboxes.iter().for_each(|mailbox| mailbox.outdated());
                return true;
            };
            mailboxes.iter().for_each(|mailbox| mailbox.gone(error.clone()));
            gone.append(mailboxes);
            false
        });
        gone
    }

    /// Sends away who may not be connected any more, after a write to a device or one of its modules. Their
    /// mailboxes are returned.
    pub(super) fn sweep(
        &mut self,
        device: &Identity,
        state: &mut State,
        hub_name: &str,
        now: Timestamp,
    ) -> Vec<Arc<Mailbox>> {
        let refused: Vec<_> = self
            .connections
            .range(device..)
            .map(|(identity, _)| identity)
            .take_while(|identity| identity.device_id() == device.device_id())
            .filter_map(|identity| Some((identity.clone(), state.check_usable(identity, hub_name).err()?)))
            .collect();
        let mut gone = Vec::new();
        for (identity, error) in refused {
            for mailbox in self.connections.remove(&identity).into_iter().flatten() {
                mailbox.gone(error.clone());
                gone.push(mailbox);
            }
            // Gone with the identity when that was deleted.
            if let Ok(record) = state.record_mut(&identity) {
                record.presence.set_connected(false, now);
            }
        }
        gone
    }
}
