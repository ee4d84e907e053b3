//! What a call is, before it becomes a request.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use iothub_common::{Error, ErrorKind, Identity, IfMatch, Result, Subject};
use iothub_http::{Answer, Repeat};
use serde::Serialize;

/// One call to the hub.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// What it is for, in words for logs and errors, such as `get device`. Holds nothing secret.
    pub(crate) what: &'static str,
    pub(crate) method: Method,
    /// The path, its ids escaped.
    path: String,
    /// Pairs after the `?`, escaped; the version is added when the request is built.
    query: Vec<(&'static str, String)>,
    /// Headers of its own.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Bytes>,
    pub(crate) repeat: Repeat,
    /// How long the hub may take for one answer at least, whatever the time for a call is.
    pub(crate) patience: Duration,
    /// How long the call is repeated at least, where it may be.
    pub(crate) persistence: Duration,
    /// Answers that are taken as such, whatever their status.
    pub(crate) takes: fn(&Answer) -> bool,
    /// What a `not found` is about.
    pub(crate) subject: Subject<'a>,
}

impl<'a> Call<'a> {
    /// A call that only reads what is below `path`.
    pub(crate) fn read(what: &'static str, path: String, subject: Subject<'a>) -> Self {
        Self {
            what,
            method: Method::GET,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            repeat: Repeat::Safe,
            patience: Duration::ZERO,
            persistence: Duration::ZERO,
            takes: |_| false,
            subject,
        }
    }

    /// A call that reads an identity or, below the root `twins`, its twin.
    pub(crate) fn get(what: &'static str, root: &str, identity: &'a Identity) -> Self {
        Self::read(what, identity.http_path(root), identity.into())
    }

    /// A call that changes an identity or its twin.
    pub(crate) fn change(what: &'static str, method: Method, root: &str, identity: &'a Identity) -> Self {
        Self::get(what, root, identity).changing(method)
    }

    /// Makes it a call that changes something.
    pub(crate) fn changing(self, method: Method) -> Self {
        Self { method, repeat: Repeat::OnlyUnsent, ..self }
    }

    /// Makes it a call that reads, by POST.
    pub(crate) fn posting(self) -> Self {
        Self { method: Method::POST, ..self }
    }

    /// Gives the hub at least this long.
    pub(crate) fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Repeats it for at least this long, where it may be.
    pub(crate) fn persistence(self, persistence: Duration) -> Self {
        Self { persistence, ..self }
    }

    /// Takes these answers as such, whatever their status.
    pub(crate) fn takes(self, takes: fn(&Answer) -> bool) -> Self {
        Self { takes, ..self }
    }

    /// Sets a header; `what` names its value in the error when it has characters that no header can have.
    pub(crate) fn header(mut self, name: HeaderName, value: &str, what: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("the {what} has characters that no {what} can have"))
                .with_source(error)
        })?;
        self.headers.push((name, value));
        Ok(self)
    }

    pub(crate) fn if_match(self, if_match: &IfMatch) -> Result<Self> {
        self.header(header::IF_MATCH, &if_match.to_header(), "etag")
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self> {
        let what = self.what;
        let body = serde_json::to_vec(body).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("`{what}`: the body could not be written as JSON"))
                .with_source(error)
        })?;
        Ok(self.body(body.into()))
    }

    pub(crate) fn path_and_query(&self, api_version: &str) -> String {
        let mut text = format!("{}?", self.path);
        for (name, value) in &self.query {
            text.push_str(&format!("{name}={value}&"));
        }
        text.push_str("api-version=");
        text.push_str(api_version);
        text
    }
}
