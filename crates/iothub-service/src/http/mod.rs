//! One call to the hub over HTTPS: signed, in time, sent again where that is safe, its failure put into words.

mod call;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use iothub_common::error::error_from_http;
use iothub_common::{ClientOptions, ETag, Error, ErrorKind, Result, RetryPolicy};
use iothub_http::{Attempts, Failure, Repeat, Server, Transport};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub(crate) use self::call::Call;
pub(crate) use iothub_http::Answer;

use crate::credentials::{Authorization, Credentials};

/// The version of the service's interface that all calls use (rest.md 1.3).
const API_VERSION: &str = "2021-04-12";
const HTTPS_PORT: u16 = 443;
/// As good as without end; clocks cannot count on for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("iothub-rust/", env!("CARGO_PKG_VERSION")));

/// The hub, as calls see it.
pub(crate) struct Http {
    authority: Authority,
    transport: Transport,
    credentials: Credentials,
    call_timeout: Duration,
    retry: RetryPolicy,
}

/// How calls are made.
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    /// How long a call may take, repetitions included.
    pub(crate) call_timeout: Duration,
    /// How old a connection may get.
    pub(crate) connection_age: Duration,
    pub(crate) retry: RetryPolicy,
}

/// The etag of an answer.
pub(crate) fn etag(answer: &Answer) -> Option<ETag> {
    answer.header(header::ETAG.as_str()).map(ETag::new)
}

impl Http {
    pub(crate) fn new(
        host: &str,
        credentials: Credentials,
        options: &ClientOptions,
        settings: HttpSettings,
    ) -> Result<Self> {
        // Without a port: the pool connects to the right one, and the hub knows only its name.
        let authority = host.parse().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("`{host}` in HostName is no host name"))
                .with_source(error)
        })?;
        let port = options.https_port.unwrap_or(HTTPS_PORT);
        let transport =
            Transport::new(Server { what: "the hub", host, port }, options, settings.connection_age)?;
        let HttpSettings { call_timeout, retry, .. } = settings;
        Ok(Self { authority, transport, credentials, call_timeout: call_timeout.min(LONGEST), retry })
    }

    pub(crate) fn host(&self) -> &str {
        self.authority.as_str()
    }

    /// Makes a call and reads its answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let unread = Unread { what: call.what, changes: call.repeat == Repeat::OnlyUnsent };
        let answer = self.send(call).await?;
        unread.json(&answer)
    }

    /// Makes a call. Everything but a status of success is an error.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer> {
        let end = Instant::now() + self.call_timeout.max(call.persistence);
        let mut attempts = Attempts::new(&self.retry, call.repeat);
        loop {
            // The last attempt may go beyond the end of the call where the hub may take that long to answer.
            let now = Instant::now();
            let deadline = end.min(now + self.call_timeout).max(now + call.patience.min(LONGEST));
            let failure = match self.attempt(&call, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = match attempts.pause_after(&failure) {
                Some(pause) if pause < end.duration_since(Instant::now()) => pause,
                _ => return Err(failure.into_error(call.repeat)),
            };
            tracing::debug!(call = call.what, error = %failure.error, ?pause, "call failed, will be sent again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call<'_>, deadline: Instant) -> Result<Answer, Failure> {
        let request_id = Uuid::new_v4();
        let limit = self.call_timeout.max(call.patience);
        let authorization = self.credentials.authorization(SystemTime::now());
        let authorization = match timeout_at(deadline, authorization).await {
            Ok(authorization) => authorization,
            Err(_) => Err(Error::new(ErrorKind::Connect, format!("there was no token within {limit:?}"))),
        };
        let request = authorization.and_then(|authorization| self.request(call, request_id, &authorization));
        let request = request.map_err(Failure::not_sent)?;
        let answer = self.transport.send(request, deadline, call.what, limit).await?;
        tracing::debug!(call = call.what, %request_id, status = answer.status.as_u16(), "the hub answered");
        if answer.status.is_success() || (call.takes)(&answer) {
            return Ok(answer);
        }
        let status = answer.status.as_u16();
        let error = refusal(&answer, call);
        Err(Failure::answered(status, error))
    }

    fn request(
        &self,
        call: &Call<'_>,
        request_id: Uuid,
        authorization: &Authorization,
    ) -> Result<Request<Full<Bytes>>> {
        let not_built = |error: http::Error| {
            Error::new(ErrorKind::InvalidInput, format!("the request `{}` could not be built", call.what))
                .with_source(error)
        };
        let path: PathAndQuery =
            call.path_and_query(API_VERSION).parse().map_err(|error| not_built(http::Error::from(error)))?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(not_built)?;
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(header::AUTHORIZATION, authorization_header(authorization)?)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/json")
            .header("Request-Id", request_id.to_string());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        // The hub answered a PUT without a Content-Type with 500 (rest.md 1.4).
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, JSON);
        } else if call.method == Method::POST {
            // hyper leaves it out, and servers such as the hub's want it (rest.md 1.1).
            request = request.header(header::CONTENT_LENGTH, 0);
        }
        request.body(Full::new(call.body.clone().unwrap_or_default())).map_err(not_built)
    }
}

/// What is known of a call when its answer is read.
pub(crate) struct Unread {
    pub(crate) what: &'static str,
    pub(crate) changes: bool,
}

impl Unread {
    pub(crate) fn json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("the hub's answer to `{}` could not be read", self.what);
            Error::new(ErrorKind::Protocol, message)
                .with_status(answer.status.as_u16())
                .with_source(error)
                .with_may_have_been_applied(self.changes)
        })
    }
}

fn authorization_header(authorization: &Authorization) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(authorization.header.reveal()).map_err(|_| {
        let message = "the SharedAccessSignature or token has characters that no header can hold";
        Error::new(ErrorKind::InvalidInput, message)
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Puts a refusal of the hub into an error.
fn refusal(answer: &Answer, call: &Call<'_>) -> Error {
    let (status, code) = (answer.status.as_u16(), answer.header("iothub-errorcode"));
    let error = error_from_http(status, code, &answer.body, &call.subject);
    match answer.retry_after() {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}
