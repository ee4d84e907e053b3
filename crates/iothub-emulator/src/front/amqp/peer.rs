//! One connection: what its events, the hub's pushes and the time mean.

use std::collections::HashMap;
use std::ops::ControlFlow;

use iothub_amqp::proto::{Connection, Delivery, Event, LinkId, SessionId};
use iothub_amqp::types::messaging::{Accepted, DeliveryState};
use iothub_common::Identity;

use super::address::Endpoint;
use super::alarm::Alarm;
use super::cbs::Cbs;
use super::grants::{Grants, Held};
use super::presence::Presences;
use super::refusal::Refusal;
use super::telemetry;
use crate::hub::{Hub, Push};

/// The client at the other end of a connection, and what it may do and does.
///
/// Commands go to the engine, which is the caller's. `Break` means that the connection is over.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) hub: Hub,
    pub(super) grants: Grants,
    pub(super) presences: Presences,
    /// Rings when the next token ends.
    pub(super) alarm: Alarm,
    pub(super) cbs: Cbs,
    /// Granted links.
    pub(super) links: HashMap<LinkId, Link>,
    /// All links the engine knows, refused ones too.
    pub(super) open_links: usize,
    telemetry: u64,
}

/// A granted link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: SessionId,
    pub(super) purpose: Purpose,
}

/// What a link is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Cbs,
    Identity(Identity, Endpoint),
}

impl Peer {
    /// `login` is what SASL proved.
    pub(super) fn new(hub: Hub, login: Option<Held>) -> Self {
        let mut peer = Self {
            alarm: Alarm::new(hub.clock().clone()),
            hub,
            grants: Grants::default(),
            presences: Presences::default(),
            cbs: Cbs::default(),
            links: HashMap::new(),
            open_links: 0,
            telemetry: 0,
        };
        if let Some(held) = login {
            // The first one always has room.
            peer.grants.put(held).ok();
            peer.wind_alarm();
        }
        peer
    }

    pub(super) fn on_event(&mut self, engine: &mut Connection, event: Event) -> ControlFlow<()> {
        match event {
            Event::Opened(open) => {
                tracing::debug!(container_id = open.container_id, "AMQP connection opened");
            }
            Event::AttachRequested { link, session, attach } => {
                return self.on_attach(engine, link, session, &attach);
            }
            Event::Detached { link, error } => {
                if let Some(error) = error {
                    tracing::debug!(%error, "link detached by the client");
                }
                self.on_gone(link);
            }
            Event::Ended { links, .. } => links.into_iter().for_each(|link| self.on_gone(link)),
            Event::Message(delivery) => self.on_message(engine, delivery),
            // Only answers on `$cbs` are sent unsettled.
            Event::Outcome { .. } => self.cbs.settled(),
            Event::Closed(cause) => {
                tracing::debug!(?cause, telemetry = self.telemetry, "AMQP connection closed");
                return ControlFlow::Break(());
            }
            // We ask for no sessions and links, and settle what we answer.
            Event::Begun(_) | Event::Attached { .. } | Event::Settled { .. } | Event::Credit { .. } => {}
        }
        ControlFlow::Continue(())
    }

    /// The hub has something to say to a device or module.
    pub(super) fn on_push(&mut self, engine: &mut Connection, identity: &Identity, push: Push) {
        match push {
            Push::Desired { version, body } => self.on_desired(engine, identity, version, body),
            Push::Overflow => self.on_twin_overflow(engine, identity),
            // Nothing is claimed yet.
            Push::Waiting(_) | Push::Method { .. } | Push::Displaced(_) => {}
            Push::Gone(error) => {
                self.grants.forget(identity);
                self.wind_alarm();
                self.cut(engine, identity, &error.into());
            }
        }
    }

    /// A token has ended: links that no other token covers end with it, and the connection with the last of
    /// its identities (amqp.md 2.5).
    pub(super) fn on_alarm(&mut self, engine: &mut Connection) -> ControlFlow<()> {
        let expired = self.grants.expire(self.hub.now());
        self.wind_alarm();
        if !expired {
            return ControlFlow::Continue(());
        }
        let uncovered = |identity: &&Identity| !self.grants.cover(identity);
        let cut: Vec<_> = self.presences.identities().filter(uncovered).cloned().collect();
        let refusal = Refusal::token_over();
        for identity in &cut {
            self.cut(engine, identity, &refusal);
        }
        if !cut.is_empty() && self.presences.is_empty() {
            return self.close(engine, &refusal);
        }
        ControlFlow::Continue(())
    }

    pub(super) fn wind_alarm(&mut self) {
        self.alarm.set(self.grants.next_end());
    }

    fn on_message(&mut self, engine: &mut Connection, delivery: Delivery) {
        let Some(link) = self.links.get(&delivery.link) else { return };
        match &link.purpose {
            Purpose::Cbs => {
                let session = link.session;
                self.on_put_token(engine, session, &delivery);
            }
            Purpose::Identity(identity, Endpoint::Twin) => {
                let identity = identity.clone();
                self.on_twin_request(engine, &identity, delivery);
            }
            Purpose::Identity(_, Endpoint::Events) => {
                let (outcome, messages) = telemetry::judge(&delivery, self.hub.now());
                self.telemetry += messages as u64;
                engine.dispose(delivery.link, delivery.id, outcome, true);
            }
            // Nobody waits for a method's response yet.
            Purpose::Identity(_, Endpoint::Methods | Endpoint::DeviceBound) => {
                engine.dispose(delivery.link, delivery.id, DeliveryState::Accepted(Accepted {}), true);
            }
        }
    }

    /// The engine forgot a link.
    fn on_gone(&mut self, link: LinkId) {
        self.open_links = self.open_links.saturating_sub(1);
        match self.links.remove(&link).map(|link| link.purpose) {
            Some(Purpose::Cbs) => self.cbs.remove(link),
            Some(Purpose::Identity(identity, _)) => self.leave(&identity, link),
            None => {}
        }
    }

    /// An identity loses a link, and is gone with its last one.
    pub(super) fn leave(&mut self, identity: &Identity, link: LinkId) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        presence.links.remove(&link);
        presence.leave_twin(link);
        self.presences.leave_if_idle(identity);
    }

    /// Detaches all links of an identity.
    fn cut(&mut self, engine: &mut Connection, identity: &Identity, refusal: &Refusal) {
        let Some(presence) = self.presences.remove(identity) else { return };
        let error = refusal.to_amqp(self.hub.now());
        for link in &presence.links {
            self.links.remove(link);
            engine.detach(*link, Some(error.clone()));
        }
    }

    /// Detaches one link.
    pub(super) fn detach(&mut self, engine: &mut Connection, link: LinkId, refusal: &Refusal) {
        engine.detach(link, Some(refusal.to_amqp(self.hub.now())));
        match self.links.remove(&link).map(|link| link.purpose) {
            Some(Purpose::Cbs) => self.cbs.remove(link),
            Some(Purpose::Identity(identity, _)) => self.leave(&identity, link),
            None => {}
        }
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, engine: &mut Connection, refusal: &Refusal) -> ControlFlow<()> {
        engine.close(Some(refusal.to_amqp(self.hub.now())));
        ControlFlow::Break(())
    }
}
