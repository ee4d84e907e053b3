//! Links that a client asks for: which are granted, and how (amqp.md 3.1, 3.2).

use std::ops::ControlFlow;

use iothub_amqp::proto::{AcceptOptions, Connection, Credit, LinkId, SessionId};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::definitions::{Fields, Role};
use iothub_amqp::types::messaging::TargetArchetype;
use iothub_amqp::types::performatives::Attach;
use iothub_common::Identity;

use super::address::{self, Address, Endpoint, ServiceEndpoint};
use super::feed::Feed;
use super::peer::{Link, Peer, Purpose};
use super::refusal::Refusal;
use super::twin::pair::Key;
use super::{cbs, service, telemetry};
use crate::hub::Lane;

/// Links of a connection, refused ones counted until the client agrees; one over all of them closes it. Enough
/// for as many identities as it may carry, with eight links each.
const MAX_LINKS: usize = 8192;
/// Largest method response or twin request: both are limited further by what is in them.
const MAX_REQUEST: u64 = 262_144;
/// The Plug and Play model of a device.
const MODEL: &str = "com.microsoft:model-id";
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
        self.hub.tally().links_now.add(1);
        if self.open_links > MAX_LINKS {
            let refusal = Refusal::too_many(format!("A connection has at most {MAX_LINKS} links."));
            return self.close(engine, &refusal);
        }
        match self.admit(engine, link, session, attach) {
            Ok(options) => {
                engine.accept(link, options);
                if let Some(Purpose::Identity(identity, _)) = self.links.get(&link).map(|link| &link.purpose)
                {
                    let identity = identity.clone();
                    self.redirect(engine, &identity, link)?;
                }
                if !self.links.contains_key(&link) {
                    return ControlFlow::Continue(());
                }
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
                let purpose = Purpose::Cbs;
                let granted = Link { session, purpose, client_sends, feed: None, model_id: None };
                self.links.insert(link, granted);
                Ok(cbs::OPTIONS)
            }
            Some(Address::Identity(identity, endpoint)) => {
                let options =
                    options(&identity, endpoint, client_sends).ok_or_else(|| Refusal::address(address))?;
                let feed = self.enter(engine, link, session, attach, &identity, endpoint)?;
                let model_id = model_of(attach.properties.as_ref());
                let purpose = Purpose::Identity(identity, endpoint);
                self.links.insert(link, Link { session, purpose, client_sends, feed, model_id });
                Ok(options)
            }
            Some(Address::Service(endpoint)) => {
                let options =
                    service_options(&endpoint, client_sends).ok_or_else(|| Refusal::address(address))?;
                self.serve(link, session, attach, endpoint)?;
                Ok(options)
            }
            None => Err(Refusal::address(address)),
        }
    }

    /// Grants a link to a service, if a token allows it.
    fn serve(
        &mut self,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
        endpoint: ServiceEndpoint,
    ) -> Result<(), Refusal> {
        let client_sends = attach.role == Role::Sender;
        let resources = self.resources(&endpoint);
        self.grants.authorize_service(&resources, &self.hub)?;
        let feed = self.service_feed(&endpoint, attach)?;
        if endpoint == ServiceEndpoint::Management && !client_sends {
            self.management.add(link, session, attach)?;
        }
        if feed.is_some() {
            self.service_feeds.insert(link);
        }
        let purpose = Purpose::Service(endpoint, resources);
        self.links.insert(link, Link { session, purpose, client_sends, feed, model_id: None });
        Ok(())
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
    ) -> Result<Option<Feed>, Refusal> {
        self.grants.authorize(identity, &self.hub)?;
        let presence = self.presences.enter(identity, &self.hub)?;
        presence.links.insert(link);
        if let Some(model_id) = model_of(attach.properties.as_ref()) {
            presence.connected.set_model_id(&model_id);
        }
        let client_sends = attach.role == Role::Sender;
        let key = Key::of(attach.properties.as_ref(), session);
        let joined = match endpoint {
            Endpoint::Twin => self.join_twin(engine, identity, key, link, client_sends),
            Endpoint::Methods => self.join_methods(engine, identity, key, link, client_sends),
            Endpoint::Events if client_sends => Ok(()),
            Endpoint::Events => return Ok(self.join_lane(engine, identity, Lane::Inputs, link)),
            Endpoint::DeviceBound => return Ok(self.join_lane(engine, identity, Lane::Messages, link)),
        };
        if joined.is_err() {
            self.leave(identity, link);
        }
        joined.map(|()| None)
    }

    /// After the answer to the attach.
    fn start(&mut self, engine: &mut Connection, link: LinkId) {
        match self.links.get(&link).map(|link| &link.purpose) {
            Some(Purpose::Cbs) => self.cbs.send_early(engine),
            Some(Purpose::Identity(identity, Endpoint::Twin)) => {
                let identity = identity.clone();
                self.start_twin(engine, &identity);
            }
            Some(Purpose::Service(ServiceEndpoint::Redirected(suffix), _)) => {
                let redirection = self.redirection(suffix);
                engine.detach(link, Some(redirection));
                self.forget(link);
            }
            _ => {
                engine.hold_outcomes(link);
                // Its credit may have come with the attach.
                self.pump(engine, link);
            }
        }
    }
}

/// `com.microsoft:model-id` (amqp.md 3.3).
fn model_of(properties: Option<&Fields>) -> Option<String> {
    let value = properties?.iter().find(|(name, _)| name.as_str() == MODEL).map(|(_, value)| value)?;
    match value {
        Value::String(model) if !model.is_empty() => Some(model.clone()),
        _ => None,
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

/// As [`options`], for services.
fn service_options(endpoint: &ServiceEndpoint, client_sends: bool) -> Option<AcceptOptions> {
    let (credit, max_message_size) = match (endpoint, client_sends) {
        (ServiceEndpoint::DeviceBound, true) => (Credit::Auto(telemetry::CREDIT), service::MAX_ENCODED),
        (ServiceEndpoint::Management, true) => (Credit::Auto(100), MAX_REQUEST),
        (ServiceEndpoint::DeviceBound, false) => return None,
        (ServiceEndpoint::Redirected(_), _) | (_, false) => (Credit::Manual, MAX_SENT),
        (_, true) => return None,
    };
    Some(AcceptOptions { credit, max_message_size, properties: None })
}
