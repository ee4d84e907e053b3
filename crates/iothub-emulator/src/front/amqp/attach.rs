//! Links that a client asks for: which are granted, and how (amqp.md 3.1, 3.2).

use std::ops::ControlFlow;

use iothub_amqp::proto::{AcceptOptions, Connection, Credit, LinkId, SessionId};
use iothub_amqp::types::definitions::{AmqpError, Role};
use iothub_amqp::types::messaging::TargetArchetype;
use iothub_amqp::types::performatives::Attach;
use iothub_common::Identity;

use super::address::{self, Address, Endpoint};
use super::peer::{Link, Peer, Purpose};
use super::refusal::Refusal;
use super::twin::pair::Key;
use super::{cbs, telemetry};
use crate::hub::ErrorCode;

/// Links of a connection, refused ones counted until the client agrees; one over all of them closes it. Enough
/// for as many identities as it may carry, with eight links each.
const MAX_LINKS: usize = 8192;
/// Largest method response or twin request: both are limited further by what is in them.
const MAX_REQUEST: u64 = 262_144;
/// What we say we send at most.
const MAX_SENT: u64 = 1_048_576;

impl Peer {
    pub(super) fn on_attach(
        &mut self,
        engine: &mut Connection,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
    ) -> ControlFlow<()> {
        self.open_links += 1;
        if self.open_links > MAX_LINKS {
            let refusal = Refusal::too_many(format!("A connection has at most {MAX_LINKS} links."));
            return self.close(engine, &refusal);
        }
        match self.admit(engine, link, session, attach) {
            Ok(options) => {
                engine.accept(link, options);
                self.start(engine, link);
            }
            Err(refusal) => {
                tracing::debug!(error = %refusal.error, "link refused");
                engine.refuse(link, refusal.to_amqp(self.hub.now()));
            }
        }
        ControlFlow::Continue(())
    }

    fn admit(
        &mut self,
        engine: &mut Connection,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
    ) -> Result<AcceptOptions, Refusal> {
        let client_sends = attach.role == Role::Sender;
        let address = address_of(attach, client_sends);
        match address::parse(address) {
            Some(Address::Cbs) => {
                self.cbs.add(link, session, client_sends)?;
                self.links.insert(link, Link { session, purpose: Purpose::Cbs });
                Ok(cbs::OPTIONS)
            }
            Some(Address::Identity(identity, endpoint)) => {
                let options =
                    options(&identity, endpoint, client_sends).ok_or_else(|| Refusal::address(address))?;
                self.enter(engine, link, session, attach, &identity, endpoint)?;
                let purpose = Purpose::Identity(identity, endpoint);
                self.links.insert(link, Link { session, purpose });
                Ok(options)
            }
            Some(Address::Service(endpoint)) => Err(Refusal::new(
                AmqpError::NotImplemented,
                ErrorCode::InvalidOperation,
                format!("This local hub does not serve '{address}' ({endpoint:?}) over AMQP yet."),
            )),
            None => Err(Refusal::address(address)),
        }
    }

    /// Makes the identity present, if it may be.
    fn enter(
        &mut self,
        engine: &mut Connection,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
        identity: &Identity,
        endpoint: Endpoint,
    ) -> Result<(), Refusal> {
        self.grants.authorize(identity, &self.hub)?;
        self.presences.enter(identity, &self.hub)?.links.insert(link);
        if endpoint != Endpoint::Twin {
            return Ok(());
        }
        let key = Key::of(attach.properties.as_ref(), session);
        let joined = self.join_twin(engine, identity, key, link, attach.role == Role::Sender);
        if joined.is_err() {
            self.leave(identity, link);
        }
        joined
    }

    /// After the answer to the attach.
    fn start(&mut self, engine: &mut Connection, link: LinkId) {
        match self.links.get(&link).map(|link| &link.purpose) {
            Some(Purpose::Cbs) => self.cbs.send_early(engine),
            Some(Purpose::Identity(identity, Endpoint::Twin)) => {
                let identity = identity.clone();
                self.start_twin(engine, &identity);
            }
            _ => {}
        }
    }
}

fn address_of(attach: &Attach, client_sends: bool) -> &str {
    let address = if client_sends {
        attach.target.as_deref().and_then(|target| match target {
            TargetArchetype::Target(target) => target.address.as_deref(),
        })
    } else {
        attach.source.as_ref().and_then(|source| source.address.as_deref())
    };
    address.unwrap_or_default()
}

/// How a link is granted; `None` in a direction it does not have.
fn options(identity: &Identity, endpoint: Endpoint, client_sends: bool) -> Option<AcceptOptions> {
    let (credit, max_message_size) = match (endpoint, client_sends) {
        (Endpoint::Events, true) => (Credit::Auto(telemetry::CREDIT), telemetry::MAX_ENCODED),
        (Endpoint::Methods, true) => (Credit::Auto(100), MAX_REQUEST),
        // Given by the pair, by what waits in it.
        (Endpoint::Twin, true) => (Credit::Manual, MAX_REQUEST),
        (Endpoint::DeviceBound | Endpoint::Methods | Endpoint::Twin, false) => (Credit::Manual, MAX_SENT),
        // Node opens it for module inputs (amqp.md 3.1).
        (Endpoint::Events, false) if identity.module_id().is_some() => (Credit::Manual, MAX_SENT),
        (Endpoint::Events, false) | (Endpoint::DeviceBound, true) => return None,
    };
    Some(AcceptOptions { credit, max_message_size, properties: None })
}
