//! WebSockets on the HTTPS port: AMQP in them (amqp.md 1.1).

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use iothub_amqp::websocket::{self, WebSocketIo};
use tracing::debug;

use super::router;

/// Where clients ask for one: that of the hub, and that of its built-in Event Hubs endpoint.
const PATHS: [&str; 2] = ["$iothub", "$servicebus"];
/// The only version there is (RFC 6455).
const VERSION: &str = "13";

/// What one connection is to become after HTTP.
#[derive(Clone, Default)]
pub(super) struct Switch(Arc<Mutex<Option<OnUpgrade>>>);

impl Switch {
    /// Answers a request for a WebSocket; `None` when it asks for something else.
    pub(super) fn answer(&self, request: &mut Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        if !is_place(request.uri().path()) {
            return None;
        }
        let accepted = match check(request.method(), request.headers()) {
            Ok(accepted) => accepted,
            Err(refusal) => return Some(refusal.into_response()),
        };
        *self.lock() = Some(hyper::upgrade::on(request));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted.key);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, accepted.protocol);
        Some(response)
    }

    /// The stream, once the connection has left HTTP for it.
    pub(super) async fn stream(&self) -> Option<WebSocketIo<TokioIo<Upgraded>>> {
        let upgrade = self.lock().take()?;
        match upgrade.await {
            Ok(upgraded) => Some(websocket::accepted(TokioIo::new(upgraded)).await),
            Err(error) => {
                debug!(%error, "connection lost on its way to a WebSocket");
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OnUpgrade>> {
        // Nothing that happens under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Accepted {
    key: HeaderValue,
    /// As the client wrote it.
    protocol: HeaderValue,
}

#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    text: &'static str,
}

impl Refusal {
    fn into_response(self) -> Response<Full<Bytes>> {
        debug!(why = self.text, "no WebSocket");
        let mut response = Response::new(Full::from(self.text));
        *response.status_mut() = self.status;
        if self.status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        }
        response
    }
}

/// The `$` may be escaped; what follows a `?` says nothing (Java has `iothub-no-client-cert`).
fn is_place(path: &str) -> bool {
    let Ok(segments) = router::segments(path) else { return false };
    let [place, socket] = segments.as_slice() else { return false };
    PATHS.iter().any(|known| known.eq_ignore_ascii_case(place)) && socket.eq_ignore_ascii_case("websocket")
}

fn check(method: &Method, headers: &HeaderMap) -> Result<Accepted, Refusal> {
    let refuse = |status, text| Err(Refusal { status, text });
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == VERSION);
    if *method != Method::GET
        || !version
        || !has(headers, &UPGRADE, "websocket")
        || !has(headers, &CONNECTION, "upgrade")
    {
        return refuse(StatusCode::UPGRADE_REQUIRED, "Only WebSockets are served here.");
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing.");
    };
    // Base64 of some bytes.
    let Ok(key) = HeaderValue::try_from(websocket::accept_key(key.as_bytes())) else {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is malformed.");
    };
    let protocol = tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
        .find(|protocol| protocol.eq_ignore_ascii_case(websocket::PROTOCOL))
        .and_then(|protocol| HeaderValue::from_str(protocol).ok());
    match protocol {
        Some(protocol) => Ok(Accepted { key, protocol }),
        None => refuse(StatusCode::BAD_REQUEST, "The sub-protocol spoken here is AMQPWSB10."),
    }
}

fn has(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The parts of a header that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (path, is) in [
            ("/$iothub/websocket", true),
            ("/%24iothub/websocket", true),
            ("/$IoTHub/WebSocket/", true),
            ("/$servicebus/websocket", true),
            ("/iothub/websocket", false),
            ("/$iothub", false),
            ("/$iothub/websocket/more", false),
            ("/devices/websocket", false),
            ("/%ff/websocket", false),
        ] {
            assert_eq!(is_place(path), is, "{path}");
        }
    }

    fn headers(changes: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // The key and its answer are those of RFC 6455 1.3.
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "mqtt, AmqpWSB10"),
        ]
        .iter()
        .chain(changes)
        {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_request_is_granted_with_the_protocol_as_it_was_written() {
        let accepted = check(&Method::GET, &headers(&[])).unwrap();
        assert_eq!(accepted.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.protocol, "AmqpWSB10");
    }

    #[test]
    fn other_requests_are_told_why_not() {
        for (changes, status) in [
            (&[("upgrade", "h2c")][..], 426),
            (&[("connection", "close")], 426),
            (&[("sec-websocket-version", "8")], 426),
            (&[("sec-websocket-protocol", "mqtt")], 400),
            (&[("sec-websocket-protocol", "AMQPWSB10x")], 400),
        ] {
            let refusal = check(&Method::GET, &headers(changes)).err().unwrap();
            assert_eq!(refusal.status.as_u16(), status, "{changes:?}");
        }
        assert_eq!(check(&Method::POST, &headers(&[])).err().unwrap().status.as_u16(), 426);
        let mut without_key = headers(&[]);
        without_key.remove(SEC_WEBSOCKET_KEY);
        assert_eq!(check(&Method::GET, &without_key).err().unwrap().status.as_u16(), 400);
    }
}
