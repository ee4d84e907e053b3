//! The tokens a connection has shown (amqp.md 2).

use std::time::SystemTime;

use iothub_amqp::types::definitions::AmqpError;
use iothub_common::{Identity, Secret};

use super::refusal::Refusal;
use crate::hub::{ClientCertificate, ConnectionAuth, ErrorCode, Grant, Hub, HubError, Rights, Who};

/// Tokens of one connection; C# pools 995 devices, Java 1000 on one (amqp.md 8).
const MAX_GRANTS: usize = 1024;

/// A token and what it proved.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) grant: Grant,
    /// To check it again: its key may be another by now.
    pub(super) token: Secret,
    /// Set when a login narrowed the token to this identity.
    pub(super) only: Option<Identity>,
}

impl Held {
    fn allows(&self, identity: &Identity) -> bool {
        self.only.as_ref().is_none_or(|only| only == identity) && self.grant.allows_identity(identity)
    }

    /// Whether this one renews the other.
    fn renews(&self, other: &Self) -> bool {
        self.grant.who == other.grant.who && self.grant.resource == other.grant.resource
    }
}

impl Held {
    /// Whether a service may use what any of these resources names.
    fn serves(&self, resources: &[String]) -> bool {
        let may =
            matches!(&self.grant.who, Who::Policy { rights, .. } if rights.contains(Rights::SERVICE_CONNECT));
        may && self.only.is_none() && resources.iter().any(|resource| self.grant.covers(resource))
    }
}

/// All that a connection has shown.
#[derive(Debug, Default)]
pub(super) struct Grants {
    held: Vec<Held>,
    /// Shown in the TLS handshake; good for links without any token (amqp.md 1.2).
    certificate: Option<ClientCertificate>,
}

impl Grants {
    pub(super) fn new(certificate: Option<ClientCertificate>) -> Self {
        Self { held: Vec::new(), certificate }
    }

    /// Takes a checked token; one for the same replaces the former.
    pub(super) fn put(&mut self, held: Held) -> Result<(), HubError> {
        if let Some(former) = self.held.iter_mut().find(|former| held.renews(former)) {
            *former = Held { only: former.only.take(), ..held };
            return Ok(());
        }
        if self.held.len() >= MAX_GRANTS {
            let text = format!("A connection takes at most {MAX_GRANTS} tokens.");
            return Err(HubError::new(ErrorCode::IotHubQuotaExceeded, text));
        }
        self.held.push(held);
        Ok(())
    }

    /// When the first token ends.
    pub(super) fn next_end(&self) -> Option<SystemTime> {
        self.held.iter().map(|held| held.grant.expires_at).min()
    }

    /// Drops tokens that have ended; true when there were any.
    pub(super) fn expire(&mut self, now: SystemTime) -> bool {
        let before = self.held.len();
        self.held.retain(|held| held.grant.expires_at > now);
        self.held.len() < before
    }

    /// Drops the tokens of an identity that is gone.
    pub(super) fn forget(&mut self, identity: &Identity) {
        self.held.retain(|held| !matches!(&held.grant.who, Who::Identity(who) if who == identity));
    }

    /// Whether a token that was good when it came, and has not ended, allows to act as `identity`, or its
    /// certificate does.
    pub(super) fn cover(&self, identity: &Identity, hub: &Hub) -> bool {
        self.held.iter().any(|held| held.allows(identity)) || self.is_certified(identity, hub)
    }

    fn is_certified(&self, identity: &Identity, hub: &Hub) -> bool {
        self.certificate.as_ref().is_some_and(|shown| hub.check_certificate(identity, shown).is_ok())
    }

    /// Whether a link of `identity` may be opened now: keys may have changed since the token came.
    pub(super) fn authorize(&self, identity: &Identity, hub: &Hub) -> Result<(), Refusal> {
        check(self.held.iter().filter(|held| held.allows(identity)), hub).unwrap_or_else(|| {
            if let Some(certificate) = &self.certificate {
                return Ok(hub.check_certificate(identity, certificate)?);
            }
            Err(Refusal::new(
                AmqpError::UnauthorizedAccess,
                ErrorCode::IotHubUnauthorized,
                format!("Unauthorized: no token for {identity} was put on this connection, or it has ended."),
            ))
        })
    }

    /// Whether a token that has not ended allows services what any of these resources names.
    pub(super) fn cover_service(&self, resources: &[String]) -> bool {
        self.held.iter().any(|held| held.serves(resources))
    }

    /// Whether a service's link may be opened now.
    pub(super) fn authorize_service(&self, resources: &[String], hub: &Hub) -> Result<(), Refusal> {
        check(self.held.iter().filter(|held| held.serves(resources)), hub).unwrap_or_else(|| {
            let resource = resources.first().map_or("", String::as_str);
            Err(Refusal::new(
                AmqpError::UnauthorizedAccess,
                ErrorCode::IotHubUnauthorizedAccess,
                format!(
                    "Unauthorized: no token of a policy with ServiceConnect that covers {resource} was put on \
                     this connection, or it has ended."
                ),
            ))
        })
    }

    /// How an identity proved who it is: by the narrowest of its tokens, else by its certificate.
    pub(super) fn auth_of(&self, identity: &Identity) -> ConnectionAuth {
        let allowing = self.held.iter().filter(|held| held.allows(identity));
        let own = |held: &&Held| matches!(held.grant.who, Who::Identity(_));
        let narrowest = allowing.clone().find(own).or(allowing.clone().next());
        match (narrowest, &self.certificate) {
            (Some(held), _) => ConnectionAuth::of(&held.grant),
            (None, Some(_)) => ConnectionAuth::x509(identity),
            (None, None) => ConnectionAuth::DEVICE_SAS,
        }
    }
}

/// Whether one of these tokens is still good; `None` without any.
fn check<'a>(tokens: impl Iterator<Item = &'a Held>, hub: &Hub) -> Option<Result<(), Refusal>> {
    let mut refused = None;
    for held in tokens {
        match hub.check_token(held.token.reveal()) {
            Ok(_) => return Some(Ok(())),
            Err(error) => refused = Some(Err(error.into())),
        }
    }
    refused
}
