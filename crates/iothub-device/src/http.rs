//! Calls to the hub over HTTPS, for what it does not take over AMQP: file uploads, and methods on other identities.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use iothub_common::{ClientOptions, Error, ErrorKind, Identity, Result, Secret, Token};
use iothub_http::{Answer, Caller, Outgoing, Repeat, Server, Terms, Transport};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::Settings,
    credentials::{Credentials, SasRequest},
};

/// The version of the interface (rest.md 1.3).
const API_VERSION: &str = "2021-04-12";
const HTTPS_PORT: u16 = 443;
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// After this time the address is looked up anew.
pub(crate) const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// The hub, or the gateway in front of it, as one identity sees it over HTTPS. Nothing is read or connected before the
/// first call.
#[derive(Debug)]
pub(crate) struct HubHttp {
    identity: Identity,
    /// What tokens are signed for.
    hub: String,
    /// Whom to connect to.
    host: String,
    options: ClientOptions,
    credentials: Credentials,
    caller: OnceLock<Caller>,
    /// The last token of a provider.
    given: Mutex<Option<Token>>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct HubCall {
    pub(crate) what: &'static str,
    /// Ids in it are escaped.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) limit: Duration,
}

impl HubHttp {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { identity, hub, host, options, credentials, .. } = settings.clone();
        Self { identity, hub, host, options, credentials, caller: OnceLock::new(), given: Mutex::default() }
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Posts JSON. It is sent again only after failures that came before anything was done.
    pub(crate) async fn post(&self, call: &HubCall, refusal: impl Fn(&Answer) -> Error) -> Result<Answer> {
        let token = self.token().await?;
        let terms = Terms { what: call.what, repeat: Repeat::OnlyUnsent, limit: call.limit };
        self.caller()?.call(terms, || self.request(call, token.as_ref()), refusal).await
    }

    fn request(&self, call: &HubCall, token: Option<&Secret>) -> Result<Outgoing> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{}?api-version={API_VERSION}", self.host, call.path))
            .header(header::USER_AGENT, crate::USER_AGENT)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, JSON);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, authorization(token)?);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(call.body.clone())).map_err(|error| not_built(call.what, error))
    }

    /// None where the certificate says who we are.
    async fn token(&self) -> Result<Option<Secret>> {
        let now = SystemTime::now();
        match &self.credentials {
            Credentials::Tokens(source) => Ok(Some(source.token(now)?.secret)),
            Credentials::Provider(provider) => {
                let kept = self.given().clone().filter(|token| now < token.renew_at);
                if let Some(token) = kept {
                    return Ok(Some(token.secret));
                }
                let request = SasRequest::new(self.identity.clone(), &self.hub);
                let token = provider.clone().ask(request).await?;
                Ok(Some(self.given().insert(token).secret.clone()))
            }
            Credentials::Certificate => Ok(None),
        }
    }

    fn given(&self) -> std::sync::MutexGuard<'_, Option<Token>> {
        // A poisoned lock still holds a whole token or none.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caller(&self) -> Result<&Caller> {
        if let Some(caller) = self.caller.get() {
            return Ok(caller);
        }
        let port = self.options.https_port.unwrap_or(HTTPS_PORT);
        let server = Server { what: "the hub", host: &self.host, port };
        let transport = Transport::new(server, &self.options, CONNECTION_AGE)?;
        // Of two that come at once one is kept.
        Ok(self.caller.get_or_init(|| Caller::new(transport)))
    }
}

pub(crate) fn authorization(token: &Secret) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(token.reveal()).map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "the SharedAccessSignature has characters that no header can hold",
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

pub(crate) fn not_built(what: &str, error: http::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the request `{what}` could not be built")).with_source(error)
}

pub(crate) fn to_json(what: &str, body: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("`{what}`: the body could not be written as JSON"))
            .with_source(error)
    })
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        Error::new(ErrorKind::Protocol, format!("the answer to `{what}` could not be read"))
            .with_status(answer.status.as_u16())
            .with_source(error)
    })
}
