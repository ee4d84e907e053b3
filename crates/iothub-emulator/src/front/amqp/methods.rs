//! Direct methods on pairs of links: calls towards the client, its answers back (amqp.md 3.7).

use bytes::Bytes;
use iothub_amqp::message::{Body, Message, application_properties};
use iothub_amqp::proto::{Connection, Delivery, LinkId, Outgoing};
use iothub_amqp::types::messaging::{Accepted, DeliveryState, MessageId, Properties};
use iothub_amqp::types::primitives::SimpleValue;
use iothub_common::Identity;
use uuid::Uuid;

use super::peer::Peer;
use super::presence::Presence;
use super::refusal::Refusal;
use super::twin::pair::Key;
use crate::hub::{Claim, MethodResponse};

/// Calls that wait for a client's credit; as many as may be in flight for an identity.
const MAX_QUEUED_CALLS: usize = 100;
/// Exact capitals (amqp.md 3.7).
const NAME: &str = "IoThub-methodname";
const STATUS: &str = "IoThub-status";

/// Two methods links, or the first of them.
#[derive(Debug)]
pub(super) struct MethodLinks {
    key: Key,
    /// The client receives on it.
    calls: Option<LinkId>,
    /// The client sends on it.
    answers: Option<LinkId>,
}

impl MethodLinks {
    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        self.calls.into_iter().chain(self.answers)
    }

    fn of(&mut self, client_sends: bool) -> &mut Option<LinkId> {
        if client_sends { &mut self.answers } else { &mut self.calls }
    }
}

impl Presence {
    /// A link went. Without the one for calls nobody listens.
    pub(super) fn leave_methods(&mut self, link: LinkId) {
        let Some(pair) = self.methods.as_mut().filter(|pair| pair.links().any(|of| of == link)) else {
            return;
        };
        if pair.calls == Some(link) {
            pair.calls = None;
            self.connected.give_up(Claim::Methods);
        } else {
            pair.answers = None;
        }
        if pair.calls.is_none() && pair.answers.is_none() {
            self.methods = None;
        }
    }
}

impl Peer {
    /// Gives a methods link its place in the pair of its identity. A new pair displaces the former one.
    pub(super) fn join_methods(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        key: Key,
        link: LinkId,
        client_sends: bool,
    ) -> Result<(), Refusal> {
        let Some(presence) = self.presences.get_mut(identity) else { return Ok(()) };
        let former = presence.methods.as_mut();
        let fits = former.is_none_or(|pair| pair.key == key && pair.of(client_sends).is_none());
        if !fits {
            let same = presence.methods.as_ref().is_some_and(|pair| pair.key == key);
            if same && matches!(key, Key::Correlation(_)) {
                return Err(Refusal::pair_exists("methods"));
            }
            let former: Vec<_> = presence.methods.iter().flat_map(MethodLinks::links).collect();
            for link in former {
                self.detach(engine, link, &Refusal::stolen("methods"));
            }
        }
        let Some(presence) = self.presences.get_mut(identity) else { return Ok(()) };
        let pair = presence.methods.get_or_insert(MethodLinks { key, calls: None, answers: None });
        *pair.of(client_sends) = Some(link);
        if !client_sends {
            presence.connected.claim(Claim::Methods);
        }
        Ok(())
    }

    /// Somebody calls.
    pub(super) fn on_call(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        id: Uuid,
        name: String,
        payload: Bytes,
    ) {
        let presence = self.presences.get_mut(identity);
        let Some(link) = presence.and_then(|presence| presence.methods.as_ref()?.calls) else { return };
        if engine.queued(link) >= MAX_QUEUED_CALLS {
            // It grants no credit: the caller's time runs out, and nothing more is kept for it.
            tracing::debug!(%identity, "a method call is dropped, the client takes none");
            return;
        }
        // The C SDK takes nothing but a uuid.
        let correlation_id = Some(MessageId::Uuid(id.into_bytes().into()));
        let message = Message {
            properties: Some(Properties { correlation_id, ..Properties::default() }),
            annotations: None,
            application_properties: Some(application_properties([(NAME, SimpleValue::String(name))])),
            body: Body::Data(payload),
        };
        // A guid as tag and settled, like twin messages (amqp.md 3.2).
        let tag = Some(Bytes::copy_from_slice(&id.to_bytes_le()));
        let outgoing = Outgoing { payload: message.encode(), format: 0, tag, settled: true, token: u64::MAX };
        engine.send(link, outgoing);
    }

    /// The client answers. What belongs to no call is passed over.
    pub(super) fn on_method_answer(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        delivery: &Delivery,
    ) {
        let outcome = match self.take_answer(identity, delivery) {
            Ok(()) => DeliveryState::Accepted(Accepted {}),
            Err(refusal) => refusal.to_outcome(self.hub.now()),
        };
        engine.dispose(delivery.link, delivery.id, outcome, true);
    }

    fn take_answer(&mut self, identity: &Identity, delivery: &Delivery) -> Result<(), Refusal> {
        if delivery.oversized {
            return Err(Refusal::too_large("The answer to a method call is too large."));
        }
        let (id, response) = read(&delivery.payload)?;
        let Some(presence) = self.presences.get_mut(identity) else { return Ok(()) };
        presence.connected.respond(id, response).map_err(Refusal::from)
    }
}

fn read(payload: &Bytes) -> Result<(Uuid, MethodResponse), Refusal> {
    let message = Message::decode(payload).map_err(|error| {
        Refusal::undecodable(format!("The answer to a method call cannot be read: {error}"))
    })?;
    let id = message.correlation_id().and_then(call_id).ok_or_else(|| {
        Refusal::invalid("The answer to a method call needs the call's correlation-id, a uuid.")
    })?;
    let status = message.application_property(STATUS).and_then(number).ok_or_else(|| {
        Refusal::invalid(format!(
            "The answer to a method call needs the application property {STATUS}, an int."
        ))
    })?;
    let payload = message
        .body
        .into_bytes()
        .ok_or_else(|| Refusal::invalid("The body of an answer to a method call must be data: JSON text."))?;
    Ok((id, MethodResponse { status, payload }))
}

/// Some clients write the uuid as text.
fn call_id(id: &MessageId) -> Option<Uuid> {
    match id {
        MessageId::Uuid(id) => Some(Uuid::from_bytes(*id.as_inner())),
        MessageId::String(text) => Uuid::try_parse(text).ok(),
        MessageId::Binary(bytes) => Uuid::from_slice(bytes).ok(),
        MessageId::Ulong(_) => None,
    }
}

fn number(value: &SimpleValue) -> Option<i32> {
    match value {
        SimpleValue::Int(number) => Some(*number),
        SimpleValue::Long(number) => i32::try_from(*number).ok(),
        SimpleValue::Uint(number) => i32::try_from(*number).ok(),
        SimpleValue::Ulong(number) => i32::try_from(*number).ok(),
        SimpleValue::Short(number) => Some((*number).into()),
        SimpleValue::Ushort(number) => Some((*number).into()),
        SimpleValue::Byte(number) => Some((*number).into()),
        SimpleValue::Ubyte(number) => Some((*number).into()),
        _ => None,
    }
}
