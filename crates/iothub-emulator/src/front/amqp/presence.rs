//! The devices and modules that are connected over one connection.

use std::collections::{BTreeSet, HashMap};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use iothub_amqp::proto::LinkId;
use iothub_common::Identity;

use super::lanes::Lanes;
use super::methods::MethodLinks;
use super::refusal::Refusal;
use super::twin::pair::Pair;
use crate::hub::{Connected, Hub, Push};

/// Identities of one connection; C# pools 995, Java 1000 (amqp.md 8).
const MAX_IDENTITIES: usize = 1024;

/// A device or module with at least one link.
#[derive(Debug)]
pub(super) struct Presence {
    /// `connectionState` is `Connected` as long as this lives.
    pub(super) connected: Arc<Connected>,
    pub(super) links: BTreeSet<LinkId>,
    pub(super) twin: Option<Pair>,
    pub(super) methods: Option<MethodLinks>,
    pub(super) lanes: Lanes,
    listening: AbortHandle,
}

impl Presence {
    /// A twin link went, if it was one. The subscription belongs to both (amqp.md 3.8).
    pub(super) fn leave_twin(&mut self, link: LinkId) {
        let Some(pair) = self.twin.as_mut().filter(|pair| pair.links().any(|of| of == link)) else { return };
        self.connected.unsubscribe_desired();
        if pair.remove(link) {
            self.twin = None;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

type Listening = Abortable<Pin<Box<dyn Future<Output = (Arc<Connected>, Push)> + Send>>>;

/// All identities of a connection.
#[derive(Debug, Default)]
pub(super) struct Presences {
    present: HashMap<Identity, Presence>,
    /// One future for each, so that the connection's only task waits for all of them at once.
    listening: FuturesUnordered<Listening>,
}

impl Presences {
    pub(super) fn get_mut(&mut self, identity: &Identity) -> Option<&mut Presence> {
        self.present.get_mut(identity)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.present.keys()
    }

    /// The presence of an identity; its first link makes it.
    pub(super) fn enter(&mut self, identity: &Identity, hub: &Hub) -> Result<&mut Presence, Refusal> {
        if !self.present.contains_key(identity) {
            if self.present.len() >= MAX_IDENTITIES {
                let text = format!("A connection carries at most {MAX_IDENTITIES} devices and modules.");
                return Err(Refusal::too_many(text));
            }
            let connected = Arc::new(hub.connect(identity)?);
            let listening = self.listen(Arc::clone(&connected));
            let presence = Presence {
                connected,
                links: BTreeSet::new(),
                twin: None,
                methods: None,
                lanes: Lanes::default(),
                listening,
            };
            self.present.insert(identity.clone(), presence);
        }
        // It was there, or was just put there.
        self.present.get_mut(identity).ok_or_else(|| Refusal::come_back("The connection is busy."))
    }

    /// Ends the presence when no link is left.
    pub(super) fn leave_if_idle(&mut self, identity: &Identity) {
        if self.present.get(identity).is_some_and(|presence| presence.links.is_empty()) {
            self.present.remove(identity);
        }
    }

    pub(super) fn remove(&mut self, identity: &Identity) -> Option<Presence> {
        self.present.remove(identity)
    }

    /// The next thing the hub has to say to one of them. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> (Identity, Push) {
        loop {
            let Some(heard) = self.listening.next().await else { return pending().await };
            // An aborted one belonged to a presence that ended.
            let Ok((connected, push)) = heard else { continue };
            let identity = connected.identity().clone();
            let Some(presence) = self.present.get_mut(&identity) else { continue };
            // Nothing comes after that.
            if !matches!(push, Push::Gone(_)) {
                let (listening, handle) = listening(connected);
                presence.listening = handle;
                self.listening.push(listening);
            }
            return (identity, push);
        }
    }

    fn listen(&mut self, connected: Arc<Connected>) -> AbortHandle {
        let (listening, handle) = listening(connected);
        self.listening.push(listening);
        handle
    }
}

fn listening(connected: Arc<Connected>) -> (Listening, AbortHandle) {
    let (handle, registration) = AbortHandle::new_pair();
    let heard: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
        let push = connected.recv().await;
        (connected, push)
    });
    (Abortable::new(heard, registration), handle)
}
