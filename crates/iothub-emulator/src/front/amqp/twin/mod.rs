//! Twins: requests, answers and notifications on pairs of links (amqp.md 3.8).

pub(super) mod pair;
mod request;

use bytes::Bytes;
use iothub_amqp::message::Message;
use iothub_amqp::proto::{Connection, Delivery, LinkId};
use iothub_amqp::types::messaging::{Accepted, DeliveryState, MessageId};
use iothub_common::Identity;

use self::pair::{Fit, Key, Overflow, Pair};
use super::peer::Peer;
use super::refusal::Refusal;

impl Peer {
    /// Gives a twin link its place in the pair of its identity. A new pair displaces the former one.
    pub(super) fn join_twin(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        key: Key,
        link: LinkId,
        client_sends: bool,
    ) -> Result<(), Refusal> {
        let Some(presence) = self.presences.get_mut(identity) else { return Ok(()) };
        match presence.twin.as_ref().map_or(Fit::Stranger, |pair| pair.fit(&key, client_sends)) {
            Fit::Fits => {}
            Fit::Conflict => return Err(Refusal::pair_exists("twin")),
            Fit::Stranger => {
                self.detach_twin(engine, identity, &Refusal::stolen("twin"));
                if let Some(presence) = self.presences.get_mut(identity) {
                    presence.twin = Some(Pair::new(key));
                }
            }
        }
        if let Some(pair) = self.presences.get_mut(identity).and_then(|presence| presence.twin.as_mut()) {
            pair.add(link, client_sends);
        }
        Ok(())
    }

    /// After the engine accepted a twin link: credit, and the requests that waited for it.
    pub(super) fn start_twin(&mut self, engine: &mut Connection, identity: &Identity) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        let Some(pair) = presence.twin.as_mut() else { return };
        let early = pair.take_early();
        pair.grant(engine);
        for request in early {
            self.on_twin_request(engine, identity, request);
        }
    }

    pub(super) fn on_twin_request(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        request: Delivery,
    ) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        let Some(pair) = presence.twin.as_mut() else { return };
        let admitted = pair.admit(request);
        pair.grant(engine);
        let Some(request) = admitted else { return };
        let (message, id) = match read(&request) {
            Ok(read) => read,
            Err(refusal) => return self.refuse_twin_request(engine, identity, &request, &refusal),
        };
        let answer = request::perform(message, &self.hub, &presence.connected);
        if !request.settled {
            // Java takes this for the confirmation of its subscription (amqp.md 3.8).
            engine.dispose(request.link, request.id, DeliveryState::Accepted(Accepted {}), true);
        }
        self.answer_twin(engine, identity, answer.to_message(id).encode());
    }

    /// A request that cannot be answered. Where nobody waits for an outcome, the links are detached.
    fn refuse_twin_request(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        request: &Delivery,
        refusal: &Refusal,
    ) {
        if request.settled {
            return self.detach_twin(engine, identity, refusal);
        }
        engine.dispose(request.link, request.id, refusal.to_outcome(self.hub.now()), true);
    }

    pub(super) fn on_desired(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        version: u64,
        body: Bytes,
    ) {
        self.notify_twin(engine, identity, request::notification(version, body).encode());
    }

    /// The client reads too slowly: it has to come back and read the whole twin. Nothing is dropped silently.
    pub(super) fn on_twin_overflow(&mut self, engine: &mut Connection, identity: &Identity) {
        let text = format!(
            "Too many twin messages wait for {identity}, which does not take them: attach again, then read the \
             twin."
        );
        self.detach_twin(engine, identity, &Refusal::come_back(text));
    }

    /// Where answers and notifications go.
    pub(super) fn twin_replies(&mut self, identity: &Identity) -> Option<LinkId> {
        self.presences.get_mut(identity)?.twin.as_ref()?.answers()
    }

    pub(super) fn send_on_twin(&mut self, engine: &mut Connection, identity: &Identity, payload: Bytes) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        let Some(pair) = presence.twin.as_mut() else { return };
        if let Err(Overflow) = pair.send(engine, payload) {
            self.on_twin_overflow(engine, identity);
        }
    }

    /// Detaches the twin links of an identity, those that are there.
    fn detach_twin(&mut self, engine: &mut Connection, identity: &Identity, refusal: &Refusal) {
        let Some(presence) = self.presences.get_mut(identity) else { return };
        let Some(pair) = presence.twin.take() else { return };
        presence.connected.unsubscribe_desired();
        let error = refusal.to_amqp(self.hub.now());
        for link in pair.links() {
            presence.links.remove(&link);
            self.links.remove(&link);
            engine.detach(link, Some(error.clone()));
        }
        self.presences.leave_if_idle(identity);
    }
}

/// A request and the id to answer with.
fn read(request: &Delivery) -> Result<(Message, MessageId), Refusal> {
    if request.oversized {
        return Err(Refusal::too_large("The twin request is too large."));
    }
    let message = Message::decode(&request.payload)
        .map_err(|error| Refusal::undecodable(format!("The twin request cannot be read: {error}")))?;
    let id = request::reply_id(&message)
        .ok_or_else(|| Refusal::invalid("The twin request has no correlation-id to answer with."))?;
    Ok((message, id))
}
