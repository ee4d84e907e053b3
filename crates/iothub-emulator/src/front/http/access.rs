//! Who may do what: the api-version rule (rest.md 1.3) and authorization (rest.md 1.4).

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tracing::debug;

use super::call::{Params, Query, header};
use crate::hub::{ClientCertificate, ErrorCode, Grant, Hub, HubError, Rights, Who};

/// What an endpoint asks of its caller.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// Nothing.
    Everyone,
    /// A token of a policy with these rights.
    Right(Rights),
    /// A token of a policy with all rights; the hub's own switches, which no fault hits.
    Admin,
    /// A token that allows to act as the device or module in the path, or its certificate.
    Identity,
    /// A token of a service, or of a module where the hub is its gateway.
    MethodCaller,
}

/// Every date is taken for a version, as the official clients send many; without one the hub refuses.
pub(super) fn check_api_version(query: &Query) -> Result<(), HubError> {
    let text = match query.get("api-version") {
        Some(version) if is_date(version) => return Ok(()),
        Some(version) => format!("BadRequest: `{version}` is no api-version, try api-version=2021-04-12"),
        None => "BadRequest: the query has no api-version, add api-version=2021-04-12".to_owned(),
    };
    Err(HubError::new(ErrorCode::InvalidProtocolVersion, text))
}

/// `2021-04-12`, `2021-04-12-preview`.
fn is_date(version: &str) -> bool {
    let date = version.get(..10).unwrap_or_default();
    let rest = version.get(10..).unwrap_or_default();
    date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    }) && date.len() == 10
        && (rest.is_empty() || rest.starts_with('-'))
}

/// Whether the token in the headers allows `right` on the path with these decoded segments.
///
/// The answer is the same whatever is wrong (rest.md 2.1); the log says what it was.
pub(super) fn authorize(
    hub: &Hub,
    headers: &HeaderMap,
    segments: &[String],
    right: Rights,
) -> Result<Grant, HubError> {
    let grant = grant(hub, headers)?;
    let resource = format!("{}/{}", hub.host_name(), segments.join("/"));
    if !grant.covers(&resource) {
        return Err(unauthorized("the token is for another resource"));
    }
    match &grant.who {
        Who::Policy { rights, .. } if rights.contains(right) => Ok(grant),
        Who::Policy { .. } => Err(unauthorized("the policy lacks the right")),
        Who::Identity(_) => Err(unauthorized("devices and modules have no service rights")),
    }
}

/// Whether the token in the headers allows to act as who is named in the path; without one the certificate that TLS was
/// shown may (rest.md 1.4), then there is no grant.
pub(super) fn authorize_identity(
    hub: &Hub,
    headers: &HeaderMap,
    params: &Params,
    certificate: Option<&ClientCertificate>,
) -> Result<Option<Grant>, HubError> {
    let identity = params.identity()?;
    match certificate {
        Some(certificate) if header(headers, &AUTHORIZATION).is_none() => {
            hub.check_certificate(&identity, certificate)?;
            Ok(None)
        }
        _ => {
            let grant = grant(hub, headers)?;
            grant.require_identity(&identity)?;
            Ok(Some(grant))
        }
    }
}

/// What the token in the headers proves.
pub(super) fn grant(hub: &Hub, headers: &HeaderMap) -> Result<Grant, HubError> {
    match header(headers, &AUTHORIZATION) {
        Some(token) => hub.check_token(token),
        None => Err(unauthorized("no Authorization header")),
    }
}

fn unauthorized(why: &str) -> HubError {
    debug!(why, "unauthorized");
    HubError::new(ErrorCode::IotHubUnauthorizedAccess, "Unauthorized")
}
