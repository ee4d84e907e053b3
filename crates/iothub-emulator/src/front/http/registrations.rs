//! The Device Provisioning Service over HTTP: devices register, and ask how far they are (dps.md 4, 8).

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use iothub_common::identity::escape_id;
use serde_json::Value;
use tracing::debug;
use uuid::Uuid;

use super::call::{Query, header};
use super::{access, body};
use crate::hub::{ClientCertificate, HubError};
use crate::provisioning::{Progress, Proof, Provisioning, refused};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");

/// Answers a request to `/{scope}/registrations/…`.
pub(super) async fn serve(
    service: &Provisioning,
    segments: &[String],
    head: &Parts,
    incoming: &mut Incoming,
    certificate: Option<&ClientCertificate>,
    now: SystemTime,
) -> Response<Full<Bytes>> {
    let outcome = exchange(service, segments, head, incoming, certificate).await;
    body::drain(&head.headers, incoming).await;
    let mut response = match outcome {
        Ok(progress) => answer(service, segments, &progress),
        Err(error) => {
            debug!(path = head.uri.path(), status = error.status, text = error.text, "registration refused");
            refusal(&error, now)
        }
    };
    insert(response.headers_mut(), REQUEST_ID, &Uuid::new_v4().to_string());
    response
}

async fn exchange(
    service: &Provisioning,
    segments: &[String],
    head: &Parts,
    incoming: &mut Incoming,
    certificate: Option<&ClientCertificate>,
) -> Result<Progress, HubError> {
    let query = Query::parse(head.uri.query().unwrap_or_default());
    access::check_api_version(&query).map_err(|error| refused(400_000, error.text))?;
    let proof = Proof { token: header(&head.headers, &AUTHORIZATION), certificate };
    let is = |given: &str, name: &str| given.eq_ignore_ascii_case(name);
    match (&head.method, segments) {
        (&Method::PUT, [scope, _, id, register]) if is(register, "register") => {
            let body = body::read(&head.headers, incoming).await?;
            check_body(&body, id)?;
            service.register(scope, id, &proof)
        }
        // Node sends a body with it, of no meaning (dps.md 4).
        (&Method::GET, [scope, _, id, operations, operation]) if is(operations, "operations") => {
            service.poll(scope, id, operation, &proof)
        }
        (method, _) => Err(refused(404_000, format!("no endpoint {method} {}", head.uri.path()))),
    }
}

/// The id in the body is that of the path, where there is one. Everything else in it is not looked at.
fn check_body(body: &Bytes, id: &str) -> Result<(), HubError> {
    if body.is_empty() {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| refused(400_000, format!("the request body is not JSON: {error}")))?;
    match &body["registrationId"] {
        Value::Null => Ok(()),
        Value::String(given) if given.eq_ignore_ascii_case(id) => Ok(()),
        given => Err(refused(400_000, format!("registrationId in the body is {given}, in the path '{id}'"))),
    }
}

fn answer(service: &Provisioning, segments: &[String], progress: &Progress) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(progress.body.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    let Some(wait) = progress.retry_after else { return response };
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    // A request that came this far has an id.
    let id = segments.get(2).map(|id| escape_id(id)).unwrap_or_default();
    let operation = &progress.operation;
    insert(headers, LOCATION, &format!("/{}/registrations/{id}/operations/{operation}", service.id_scope()));
    response
}

pub(super) fn refusal(error: &HubError, now: SystemTime) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(error.device_body(now)));
    *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    insert(response.headers_mut(), ERROR_CODE, &error.code.to_string());
    response
}

/// Left out when HTTP cannot carry it.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
