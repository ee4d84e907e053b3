//! What a call is, before it becomes a request.

use bytes::Bytes;
use http::{HeaderValue, Method};
use iothub_common::{Error, ErrorKind, Identity, IfMatch, Result, Subject};
use serde::Serialize;

use crate::retry::Repeat;

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
    /// The header `If-Match`.
    pub(crate) if_match: Option<HeaderValue>,
    pub(crate) body: Option<Bytes>,
    pub(crate) repeat: Repeat,
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
            if_match: None,
            body: None,
            repeat: Repeat::Safe,
            subject,
        }
    }

    /// A call that reads an identity or, below the root `twins`, its twin.
    pub(crate) fn get(what: &'static str, root: &str, identity: &'a Identity) -> Self {
        Self::read(what, identity.http_path(root), identity.into())
    }

    /// A call that changes an identity or its twin.
    pub(crate) fn change(what: &'static str, method: Method, root: &str, identity: &'a Identity) -> Self {
        Self { method, repeat: Repeat::OnlyUnsent, ..Self::get(what, root, identity) }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn if_match(mut self, if_match: &IfMatch) -> Result<Self> {
        let value = HeaderValue::from_str(&if_match.to_header()).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the etag has characters that no etag can have")
                .with_source(error)
        })?;
        self.if_match = Some(value);
        Ok(self)
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
