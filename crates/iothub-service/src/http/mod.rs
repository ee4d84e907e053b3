//! One call to the hub over HTTPS: signed, in time, sent again where that is safe, its failure put into words.

mod call;
mod connector;
mod transport;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use iothub_common::error::error_from_http;
use iothub_common::{
    ClientOptions, Error, ErrorKind, Result, RetryPolicy, ServiceConnectionString, TokenSource,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use self::call::Call;
use self::transport::Transport;
use crate::retry::{Attempts, Failure, Reach, Repeat};

/// The version of the service's interface that all calls use (rest.md 1.3).
const API_VERSION: &str = "2021-04-12";
const HTTPS_PORT: u16 = 443;
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("iothub-rust/", env!("CARGO_PKG_VERSION")));

/// The hub, as calls see it.
pub(crate) struct Http {
    host: String,
    host_header: HeaderValue,
    authority: Authority,
    transport: Transport,
    tokens: TokenSource,
    call_timeout: Duration,
    retry: RetryPolicy,
}

/// What the hub answered to a call that succeeded.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Http {
    pub(crate) fn new(
        connection: &ServiceConnectionString,
        options: &ClientOptions,
        call_timeout: Duration,
        retry: RetryPolicy,
    ) -> Result<Self> {
        let host = connection.host_name().to_owned();
        let port = options.https_port.unwrap_or(HTTPS_PORT);
        let bad_host =
            || Error::new(ErrorKind::InvalidInput, format!("`{host}` in HostName is no host name"));
        let authority = format!("{host}:{port}").parse().map_err(|error| bad_host().with_source(error))?;
        let host_header = HeaderValue::from_str(&host).map_err(|error| bad_host().with_source(error))?;
        let transport = Transport::new(&host, port, &options.tls)?;
        let tokens = connection.token_source()?;
        Ok(Self { host, host_header, authority, transport, tokens, call_timeout, retry })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Makes a call and reads its answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let (what, repeat) = (call.what, call.repeat);
        let answer = self.send(call).await?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("the hub's answer to `{what}` could not be read");
            Error::new(ErrorKind::Protocol, message)
                .with_status(answer.status.as_u16())
                .with_source(error)
                .with_may_have_been_applied(repeat == Repeat::OnlyUnsent)
        })
    }

    /// Makes a call. Everything but a status of success is an error.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer> {
        let deadline = Instant::now() + self.call_timeout;
        let mut attempts = Attempts::new(&self.retry, call.repeat);
        loop {
            let failure = match self.attempt(&call, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = match attempts.pause_after(&failure) {
                Some(pause) if Instant::now() + pause < deadline => pause,
                _ => return Err(failure.into_error(call.repeat)),
            };
            tracing::debug!(call = call.what, error = %failure.error, ?pause, "call failed, will be sent again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call<'_>, deadline: Instant) -> Result<Answer, Failure> {
        let request_id = Uuid::new_v4();
        let request = self.request(call, request_id).map_err(Failure::not_sent)?;
        let answer = self.transport.send(request, deadline, call.what, self.call_timeout).await?;
        tracing::debug!(call = call.what, %request_id, status = answer.status.as_u16(), "the hub answered");
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status.as_u16();
        let error = refusal(&answer, call);
        Err(Failure { error, reach: Reach::Answered(status) })
    }

    fn request(&self, call: &Call<'_>, request_id: Uuid) -> Result<Request<Full<Bytes>>> {
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
            .header(header::HOST, self.host_header.clone())
            .header(header::AUTHORIZATION, authorization(&self.tokens)?)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/json")
            .header("Request-Id", request_id.to_string());
        if let Some(if_match) = &call.if_match {
            request = request.header(header::IF_MATCH, if_match);
        }
        // The hub answered a PUT without a Content-Type with 500 (rest.md 1.4).
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, JSON);
        }
        request.body(Full::new(call.body.clone().unwrap_or_default())).map_err(not_built)
    }
}

fn authorization(tokens: &TokenSource) -> Result<HeaderValue> {
    let token = tokens.token(SystemTime::now())?;
    let mut header = HeaderValue::from_str(token.secret.reveal()).map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "the SharedAccessSignature of the connection string has characters that no header can hold",
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Puts a refusal of the hub into an error.
fn refusal(answer: &Answer, call: &Call<'_>) -> Error {
    let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let error =
        error_from_http(answer.status.as_u16(), text("iothub-errorcode"), &answer.body, &call.subject);
    match text("retry-after").and_then(|value| value.trim().parse().ok()) {
        Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
        None => error,
    }
}
