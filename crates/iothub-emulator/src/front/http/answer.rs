//! What goes back: results and refusals with the headers the official SDKs read (rest.md 1.5, 1.7, 2.1).

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use uuid::Uuid;

use crate::hub::{ErrorCode, Fault, HubError, Page};

/// Node parses a body only when it finds `application/json` here (rest.md 1.5).
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");
pub(super) const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");

/// What a handler gives back.
pub(super) type Outcome = Result<Answer, HubError>;

/// A refusal with the header that belongs to it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: HubError,
    header: Option<(HeaderName, HeaderValue)>,
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        Self { error, header: None }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let retry_after = fault.retry_after.map(|delay| (RETRY_AFTER, HeaderValue::from(delay.as_secs())));
        Self { error: fault.error, header: retry_after }
    }
}

/// A result.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    /// 200 with JSON; also for creations (rest.md 1.7).
    pub(super) fn json(value: &Value) -> Self {
        Self::json_text(Bytes::from(value.to_string()))
    }

    /// 200 with JSON that is text already.
    pub(super) fn json_text(body: Bytes) -> Self {
        Self { status: StatusCode::OK, headers: vec![(CONTENT_TYPE, JSON)], body }
    }

    /// 200 with bytes of any kind.
    pub(super) fn bytes(body: Bytes) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body }
    }

    /// 200 with one identity or twin: its etag goes into a header too, quoted.
    pub(super) fn entity(value: &Value) -> Self {
        let answer = Self::json(value);
        let etag = value.get("etag").and_then(Value::as_str);
        match etag {
            Some(etag) => answer.with_etag(etag),
            None => answer,
        }
    }

    /// An etag or a lock; the header has it in quotes (rest.md 1.5).
    pub(super) fn with_etag(mut self, etag: &str) -> Self {
        // Etags are base64 and locks UUIDs, so the header value is always valid.
        if let Ok(etag) = HeaderValue::try_from(format!("\"{etag}\"")) {
            self.headers.push((ETAG, etag));
        }
        self
    }

    /// With another status than 200.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// One more header; left out when HTTP cannot carry it.
    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.push((name, value));
        }
        self
    }

    /// A refusal of the kind that direct methods have: JSON in a member of JSON (rest.md 2.1, shape B).
    pub(super) fn nested_refusal(error: &HubError, info: &Value, now: SystemTime) -> Self {
        let headers = vec![(CONTENT_TYPE, JSON), (ERROR_CODE, HeaderValue::from_static(error.name))];
        Self { status: status_of(error), headers, body: error.nested_body(info, now) }
    }

    /// 200 with one page of a list. Without a next page the header for it is absent, an empty one would send
    /// Node round for ever (rest.md 6).
    pub(super) fn page(page: Page) -> Self {
        let mut answer = Self::json(&Value::Array(page.items));
        answer.headers.push((ITEM_TYPE, HeaderValue::from_static(page.item_type)));
        // Tokens are base64, so the header value is always valid.
        if let Some(Ok(token)) = page.continuation.map(HeaderValue::try_from) {
            answer.headers.push((CONTINUATION, token));
        }
        answer
    }

    /// 204, for deletions.
    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() }
    }
}

/// The response at `now`, the hub's time.
pub(super) fn into_response(outcome: Result<Answer, Refusal>, now: SystemTime) -> Response<Full<Bytes>> {
    let Answer { status, headers, body } = outcome.unwrap_or_else(|refusal| refusal.into_answer(now));
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    // A UUID is a valid header value.
    if let Ok(id) = HeaderValue::try_from(Uuid::new_v4().to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

impl Refusal {
    fn into_answer(self, now: SystemTime) -> Answer {
        let mut headers = vec![(CONTENT_TYPE, JSON), (ERROR_CODE, HeaderValue::from_static(self.error.name))];
        headers.extend(self.header);
        Answer { status: status_of(&self.error), headers, body: self.error.service_body(now) }
    }
}

fn status_of(error: &HubError) -> StatusCode {
    StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

// The refusals of this front itself. The hub's table has no codes for the plain HTTP ones.

pub(super) fn no_such_endpoint(method: &Method, path: &str) -> HubError {
    http_error(StatusCode::NOT_FOUND, "NotFound", format!("no endpoint {method} {path}"))
}

pub(super) fn method_not_allowed(method: &Method, path: &str, allowed: &[Method]) -> Refusal {
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let text = format!("no {method} on {path}, only {allowed}");
    let error = http_error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text);
    Refusal { error, header: HeaderValue::try_from(allowed).ok().map(|methods| (ALLOW, methods)) }
}

pub(super) fn body_too_slow(limit: Duration) -> HubError {
    let text = format!("the request body did not arrive within {} s", limit.as_secs());
    http_error(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", text)
}

pub(super) fn body_too_large(limit: usize) -> HubError {
    HubError::new(ErrorCode::MessageTooLarge, format!("the request body is larger than {limit} bytes"))
}

pub(super) fn bad_request(text: impl Display) -> HubError {
    HubError::new(ErrorCode::GenericBadRequest, text.to_string())
}

pub(super) fn format_error(text: impl Display) -> HubError {
    HubError::new(ErrorCode::IotHubFormatError, text.to_string())
}

pub(super) fn argument_invalid(text: impl Display) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text.to_string())
}

pub(super) fn argument_null(text: impl Display) -> HubError {
    HubError::new(ErrorCode::ArgumentNull, text.to_string())
}

fn http_error(status: StatusCode, name: &'static str, text: String) -> HubError {
    let status = status.as_u16();
    HubError { status, code: u32::from(status) * 1000, name, text }
}
