//! One connection: what its events, the hub's pushes and the time mean.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::SystemTime;

use iothub_amqp::proto::{Connection, Delivery, Event, LinkId, SessionId};
use iothub_common::Identity;

use super::address::{Endpoint, ServiceEndpoint};
use super::alarm::Alarm;
use super::cbs::Cbs;
use super::faults::{Faults, Later};
use super::feed::{Feed, News};
use super::grants::{Grants, Held};
use super::management::Management;
use super::presence::Presences;
use super::refusal::Refusal;
use crate::hub::{ClientCertificate, Hub, Push};

/// The client at the other end of a connection, and what it may do and does.
///
/// Commands go to the engine, which is the caller's. `Break` means that the connection is over.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) hub: Hub,
    /// Where clients reach the hub.
    pub(super) port: u16,
    pub(super) grants: Grants,
    pub(super) presences: Presences,
    /// Rings when the next token ends, or a fault is due.
    pub(super) alarm: Alarm,
    pub(super) cbs: Cbs,
    pub(super) management: Management,
    pub(super) news: News,
    pub(super) faults: Faults,
    /// What is held back on purpose.
    pub(super) later: Later,
    /// The hub acts as if it were not there, by its clock.
    pub(super) deaf_until: Option<SystemTime>,
    /// The connection is to end without another word.
    pub(super) hang_up: bool,
    /// Granted links.
    pub(super) links: HashMap<LinkId, Link>,
    /// All links the engine knows, refused ones too.
    pub(super) open_links: usize,
    /// Links of services that the hub sends on.
    pub(super) service_feeds: BTreeSet<LinkId>,
    pub(super) telemetry: u64,
}

/// A granted link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: SessionId,
    pub(super) purpose: Purpose,
    pub(super) client_sends: bool,
    /// What the hub sends on it by itself.
    pub(super) feed: Option<Feed>,
    /// The Plug and Play model that the client named.
    pub(super) model_id: Option<String>,
}

/// What a link is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Cbs,
    Identity(Identity, Endpoint),
    /// Of a service; a token must cover one of the resources.
    Service(ServiceEndpoint, Vec<String>),
}

impl Peer {
    /// `login` is what SASL proved.
    pub(super) fn new(
        hub: Hub,
        port: u16,
        certificate: Option<ClientCertificate>,
        login: Option<Held>,
    ) -> Self {
        let mut peer = Self {
            alarm: Alarm::new(hub.clock().clone()),
            hub,
            port,
            grants: Grants::new(certificate),
            presences: Presences::default(),
            cbs: Cbs::default(),
            management: Management::default(),
            news: News::default(),
            faults: Faults::default(),
            later: Later::default(),
            deaf_until: None,
            hang_up: false,
            links: HashMap::new(),
            open_links: 0,
            service_feeds: BTreeSet::new(),
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
            Event::Outcome { link, token, outcome } => self.on_outcome(engine, link, token, outcome),
            Event::Credit { link } => self.pump(engine, link),
            Event::Closed(cause) => {
                tracing::debug!(?cause, telemetry = self.telemetry, "AMQP connection closed");
                return ControlFlow::Break(());
            }
            // We ask for no sessions and links, and settle what we answer.
            Event::Begun(_) | Event::Attached { .. } | Event::Settled { .. } => {}
        }
        self.look_for_news(engine);
        ControlFlow::Continue(())
    }

    /// The hub has something to say to a device or module.
    pub(super) fn on_push(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        push: Push,
    ) -> ControlFlow<()> {
        match push {
            Push::Desired { version, body } => self.on_desired(engine, identity, version, body),
            Push::Overflow => self.on_twin_overflow(engine, identity),
            Push::Waiting(lane) => self.on_waiting(engine, identity, lane),
            Push::Method { id, name, payload } => self.on_call(engine, identity, id, name, payload),
            Push::Displaced(claim) => self.on_displaced(engine, identity, claim),
            Push::Disrupt(disruption) => {
                return self.disrupt(engine, identity, disruption, "asked for in the hub");
            }
            Push::Gone(error) => {
                self.grants.forget(identity);
                self.wind_alarm();
                self.cut(engine, identity, &error.into());
            }
        }
        ControlFlow::Continue(())
    }

    /// A fault is due, or a token has ended: links that no other token covers end with it, and the connection
    /// with the last of its identities (amqp.md 2.5).
    pub(super) fn on_alarm(&mut self, engine: &mut Connection) -> ControlFlow<()> {
        self.do_faults(engine)?;
        self.send_held(engine);
        let expired = self.grants.expire(self.hub.now());
        self.wind_alarm();
        if !expired {
            return ControlFlow::Continue(());
        }
        let uncovered = |identity: &&Identity| !self.grants.cover(identity, &self.hub);
        let cut: Vec<_> = self.presences.identities().filter(uncovered).cloned().collect();
        let refusal = Refusal::token_over();
        for identity in &cut {
            self.cut(engine, identity, &refusal);
        }
        let services = self.uncovered_services();
        for link in &services {
            self.detach(engine, *link, &refusal);
        }
        let none_left = self.presences.is_empty() && !self.serves();
        if !(cut.is_empty() && services.is_empty()) && none_left {
            return self.close(engine, &refusal);
        }
        ControlFlow::Continue(())
    }

    fn uncovered_services(&self) -> Vec<LinkId> {
        let uncovered = self.links.iter().filter(|(_, link)| match &link.purpose {
            Purpose::Service(_, resources) => !self.grants.cover_service(resources),
            Purpose::Cbs | Purpose::Identity(..) => false,
        });
        uncovered.map(|(id, _)| *id).collect()
    }

    fn serves(&self) -> bool {
        self.links.values().any(|link| matches!(link.purpose, Purpose::Service(..)))
    }

    pub(super) fn wind_alarm(&mut self) {
        self.alarm
            .set(self.grants.next_end().into_iter().chain(self.faults.next()).chain(self.later.next()).min());
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
            Purpose::Identity(identity, Endpoint::Events) => {
                let identity = identity.clone();
                self.on_telemetry(engine, &identity, &delivery);
            }
            Purpose::Identity(identity, Endpoint::Methods) => {
                let identity = identity.clone();
                self.on_method_answer(engine, &identity, &delivery);
            }
            Purpose::Service(ServiceEndpoint::Management, _) => {
                let session = link.session;
                self.on_management(engine, session, &delivery);
            }
            Purpose::Service(ServiceEndpoint::DeviceBound, _) => self.on_device_bound(engine, &delivery),
            // Nobody was granted a link to send on.
            Purpose::Identity(_, Endpoint::DeviceBound) | Purpose::Service(..) => {}
        }
    }

    /// The engine forgot a link.
    fn on_gone(&mut self, link: LinkId) {
        if self.open_links > 0 {
            self.open_links -= 1;
            self.hub.tally().links_now.take(1);
        }
        self.forget(link);
    }

    /// A link is over: what waits for it goes back, and its identity may be gone with it.
    pub(super) fn forget(&mut self, id: LinkId) {
        self.later.forget(id);
        self.service_feeds.remove(&id);
        match self.links.remove(&id).map(|link| link.purpose) {
            Some(Purpose::Cbs) => self.cbs.remove(id),
            Some(Purpose::Identity(identity, _)) => self.leave(&identity, id),
            Some(Purpose::Service(ServiceEndpoint::Management, _)) => self.management.remove(id),
            Some(Purpose::Service(..)) | None => {}
        }
    }

    /// An identity loses a link, and is gone with its last one.
    pub(super) fn leave(&mut self, identity: &Identity, link: LinkId) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        presence.links.remove(&link);
        presence.leave_twin(link);
        presence.leave_methods(link);
        presence.leave_lanes(link);
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
        self.forget(link);
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, engine: &mut Connection, refusal: &Refusal) -> ControlFlow<()> {
        engine.close(Some(refusal.to_amqp(self.hub.now())));
        ControlFlow::Break(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.hub.tally().links_now.take(self.open_links as u64);
    }
}
