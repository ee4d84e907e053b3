//! SAS tokens: who made one, and what it allows (amqp.md 2.3, rest.md 1.4). Pure: the caller passes the time.

use std::time::SystemTime;

use iothub_common::identity::unescape_id;
use iothub_common::{Identity, SasToken, SymmetricKey};

use super::error::{ErrorCode, HubError};
use super::policy::{Policy, Rights};
use super::registry::State;

/// Longer tokens are refused unread.
const MAX_TOKEN: usize = 4096;

/// What a token proved.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Whose key made it.
    pub who: Who,
    /// What it is for, decoded: `{host}`, or `{host}/devices/{id}`, …
    pub resource: String,
    /// When it ends, by the hub's clock.
    pub expires_at: SystemTime,
    /// This hub's.
    host_name: String,
    /// The segments of the resource after the host, decoded. Identities are spelled as the registry has them.
    scope: Vec<String>,
}

/// Whose key a token was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A shared access policy's.
    Policy {
        /// The policy's name.
        name: String,
        /// What it allows.
        rights: Rights,
    },
    /// A device's or module's own.
    Identity(Identity),
}

/// What [`check`] needs to know of the hub.
pub(super) struct Hub<'a> {
    pub(super) host_name: &'a str,
    pub(super) policies: &'a [Policy],
    pub(super) state: &'a State,
}

/// Checks a token. The resource in it says who is meant, nothing beside it does (amqp.md 2.2).
pub(super) fn check(text: &str, hub: &Hub<'_>, now: SystemTime) -> Result<Grant, HubError> {
    if text.len() > MAX_TOKEN {
        return Err(HubError::unauthorized(format!("a SAS token has at most {MAX_TOKEN} characters")));
    }
    let token = SasToken::parse(text).map_err(|error| HubError::unauthorized(error.to_string()))?;
    let scope = scope_of(&token.resource, hub.host_name)?;
    let (who, scope) = match token.policy.as_deref() {
        Some(name) => (check_policy(&token, name, hub.policies)?, scope),
        None => {
            let identity = check_identity(&token, &scope, hub)?;
            let scope = canonical(&identity, scope);
            (Who::Identity(identity), scope)
        }
    };
    if token.is_expired(now) {
        return Err(HubError::new(
            unauthorized_code(&who),
            "The specified SAS token is expired; make a new one, and compare the clocks of both sides.",
        ));
    }
    Ok(Grant {
        who,
        resource: token.resource,
        expires_at: token.expires_at,
        host_name: hub.host_name.to_owned(),
        scope,
    })
}

fn check_policy(token: &SasToken, name: &str, policies: &[Policy]) -> Result<Who, HubError> {
    let policy = policies.iter().find(|policy| policy.name == name).ok_or_else(|| {
        HubError::unauthorized(format!(
            "The hub has no shared access policy '{name}', which the SAS token names."
        ))
    })?;
    // Event Hubs clients sign for their resources with the text of a key.
    let is_event_hub = token.resource.starts_with("sb://");
    let fits = |key: &SymmetricKey| {
        if is_event_hub { token.verify(&key.for_event_hub()) } else { token.verify(key) }
    };
    if !fits(&policy.primary) && !fits(&policy.secondary) {
        return Err(HubError::new(ErrorCode::IotHubUnauthorizedAccess, INVALID_SIGNATURE));
    }
    Ok(Who::Policy { name: policy.name.clone(), rights: policy.rights })
}

/// The real hub's text (amqp.md 2.4).
const INVALID_SIGNATURE: &str = "The specified SAS token has an invalid signature. It does not match either the primary or secondary key..";

fn check_identity(token: &SasToken, scope: &[String], hub: &Hub<'_>) -> Result<Identity, HubError> {
    let mut refusal = None;
    for identity in candidates(scope) {
        match check_candidate(token, &identity, hub) {
            Ok(()) => return Ok(identity),
            // The candidate that exists knows best what is wrong.
            Err(error) if refusal.is_none() || error.status == 401 => refusal = Some(error),
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or_else(|| {
        HubError::unauthorized(
            "The specified SAS token names no shared access policy (skn) and its resource (sr) is no device or \
             module of this hub.",
        )
    }))
}

fn check_candidate(token: &SasToken, identity: &Identity, hub: &Hub<'_>) -> Result<(), HubError> {
    hub.state.check_usable(identity, hub_name(hub.host_name))?;
    let refused = |text: String| Err(HubError::new(ErrorCode::IotHubUnauthorized, text));
    let authentication = &hub.state.record(identity)?.authentication;
    let Some(keys) = authentication.keys() else {
        return refused(format!(
            "{identity} does not authenticate with SAS tokens, its authentication type is '{}'.",
            authentication.kind()
        ));
    };
    if !token.verify(&keys.primary) && !token.verify(&keys.secondary) {
        return refused(INVALID_SIGNATURE.to_owned());
    }
    Ok(())
}

/// Whom a resource may mean. Most SDKs escape it once as a whole, C# escapes the ids in it first; with an id
/// like `a%2b` nobody can tell these apart, so the key decides.
fn candidates(scope: &[String]) -> Vec<Identity> {
    let (device, module) = match scope {
        [devices, device, modules, module, ..] if is(devices, "devices") && is(modules, "modules") => {
            (device, Some(module))
        }
        [devices, device, ..] if is(devices, "devices") => (device, None),
        _ => return Vec::new(),
    };
    let plain = make_identity(device, module.map(String::as_str));
    let decoded = unescape_id(device).ok().and_then(|device| {
        let module = module.map(|module| unescape_id(module)).transpose().ok()?;
        make_identity(&device, module.as_deref())
    });
    let decoded = decoded.filter(|decoded| Some(decoded) != plain.as_ref());
    plain.into_iter().chain(decoded).collect()
}

fn make_identity(device: &str, module: Option<&str>) -> Option<Identity> {
    match module {
        None => Identity::device(device).ok(),
        Some(module) => Identity::module(device, module).ok(),
    }
}

/// The scope with the identity as the registry spells it.
fn canonical(identity: &Identity, mut scope: Vec<String>) -> Vec<String> {
    scope[1] = identity.device_id().to_owned();
    if let Some(module_id) = identity.module_id() {
        scope[3] = module_id.to_owned();
    }
    scope
}

/// The segments of a resource after its host, which must be this hub's. A scheme and a port do not matter:
/// some clients write them (amqp.md 2.2).
fn scope_of(resource: &str, host_name: &str) -> Result<Vec<String>, HubError> {
    let resource = resource.split_once("://").map_or(resource, |(_, rest)| rest);
    let mut segments = resource.split('/');
    let host = segments.next().unwrap_or_default();
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    if !is(host, host_name) {
        return Err(HubError::unauthorized(format!(
            "The specified SAS token is for the host '{host}', this hub is '{host_name}'."
        )));
    }
    Ok(segments.filter(|segment| !segment.is_empty()).map(str::to_owned).collect())
}

impl Grant {
    /// Whether the token is good for a resource, such as `{host}/devices/{d}/messages/events`, with its ids
    /// decoded: the token's own is a prefix of it by segment. Says nothing about rights.
    pub fn covers(&self, resource: &str) -> bool {
        let mut segments = resource.split('/').filter(|segment| !segment.is_empty());
        let host = segments.next().unwrap_or_default();
        is(host, &self.host_name) && self.is_prefix_of(segments)
    }

    /// Whether the holder may act as this device or module: it is itself, a device covers its modules, a
    /// policy needs the right to connect as a device.
    pub fn allows_identity(&self, identity: &Identity) -> bool {
        let may_connect = match &self.who {
            Who::Policy { rights, .. } => rights.contains(Rights::DEVICE_CONNECT),
            Who::Identity(_) => true,
        };
        let device = ["devices", identity.device_id()];
        let module = identity.module_id().map(|module_id| ["modules", module_id]);
        may_connect && self.is_prefix_of(device.into_iter().chain(module.into_iter().flatten()))
    }

    /// Refuses unless [`allows_identity`](Self::allows_identity).
    ///
    /// # Errors
    ///
    /// 401, `IotHubUnauthorized` or `IotHubUnauthorizedAccess` by whose token it is.
    pub fn require_identity(&self, identity: &Identity) -> Result<(), HubError> {
        if self.allows_identity(identity) {
            return Ok(());
        }
        let text = format!("Unauthorized: the token does not allow to act as {identity}");
        Err(HubError::new(unauthorized_code(&self.who), text))
    }

    /// Fixed segments are compared without regard to case, ids are not (rest.md 1.2).
    fn is_prefix_of<'a>(&self, mut segments: impl Iterator<Item = &'a str>) -> bool {
        self.scope.iter().enumerate().all(|(index, scope)| {
            let Some(segment) = segments.next() else { return false };
            match index % 2 {
                0 => is(scope, segment),
                // A policy's token may have its ids escaped twice, like a device's.
                _ => scope == segment || self.is_escaped(scope, segment),
            }
        })
    }

    fn is_escaped(&self, scope: &str, segment: &str) -> bool {
        matches!(self.who, Who::Policy { .. }) && unescape_id(scope).is_ok_and(|scope| scope == segment)
    }
}

impl HubError {
    /// 401 for a caller that proved nothing: no token, or one that cannot be read.
    pub fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::IotHubUnauthorizedAccess, text)
    }
}

/// Devices and modules have a code of their own (rest.md 2.3).
fn unauthorized_code(who: &Who) -> ErrorCode {
    match who {
        Who::Policy { .. } => ErrorCode::IotHubUnauthorizedAccess,
        Who::Identity(_) => ErrorCode::IotHubUnauthorized,
    }
}

/// A hub is called by the first label of its host name (amqp.md 1.3).
pub(super) fn hub_name(host_name: &str) -> &str {
    host_name.split_once('.').map_or(host_name, |(name, _)| name)
}

fn is(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
