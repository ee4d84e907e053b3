//! Links on which devices and modules receive messages: one of a kind, wherever it is (amqp.md 3.5, 3.6).

use iothub_amqp::proto::{Connection, LinkId};
use iothub_common::Identity;

use super::feed::Feed;
use super::outbox::{Outbox, Source};
use super::peer::Peer;
use super::presence::Presence;
use super::refusal::Refusal;
use crate::hub::{Claim, Lane};

/// The receiving links of an identity on this connection.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    messages: Option<LinkId>,
    inputs: Option<LinkId>,
}

impl Lanes {
    fn of(&mut self, lane: Lane) -> &mut Option<LinkId> {
        match lane {
            Lane::Messages => &mut self.messages,
            Lane::Inputs => &mut self.inputs,
        }
    }
}

impl Presence {
    /// A link went: if it was the one that receives, nobody does now.
    pub(super) fn leave_lanes(&mut self, link: LinkId) {
        for lane in [Lane::Messages, Lane::Inputs] {
            let receiving = self.lanes.of(lane);
            if *receiving == Some(link) {
                *receiving = None;
                self.connected.give_up(lane.into());
            }
        }
    }
}

impl Peer {
    /// Makes a link the one that receives. The one that did, here or elsewhere, is closed.
    pub(super) fn join_lane(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        lane: Lane,
        link: LinkId,
    ) -> Option<Feed> {
        let presence = self.presences.get_mut(identity)?;
        let displaced = presence.lanes.of(lane).replace(link);
        presence.connected.claim(lane.into());
        if let Some(displaced) = displaced {
            self.detach(engine, displaced, &Refusal::displaced());
        }
        Some(Feed::Queue(Outbox::new(self.hub.clone(), Source::Device(identity.clone(), lane))))
    }

    pub(super) fn on_waiting(&mut self, engine: &mut Connection, identity: &Identity, lane: Lane) {
        let presence = self.presences.get_mut(identity);
        if let Some(link) = presence.and_then(|presence| *presence.lanes.of(lane)) {
            self.pump(engine, link);
        }
    }

    /// Another connection receives now.
    pub(super) fn on_displaced(&mut self, engine: &mut Connection, identity: &Identity, claim: Claim) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        let links: Vec<_> = match claim {
            Claim::Messages => presence.lanes.of(Lane::Messages).take().into_iter().collect(),
            Claim::Inputs => presence.lanes.of(Lane::Inputs).take().into_iter().collect(),
            Claim::Methods => presence.methods.take().map(|pair| pair.links().collect()).unwrap_or_default(),
        };
        for link in links {
            self.detach(engine, link, &Refusal::displaced());
        }
    }
}
