//! A request that may be served: what a handler gets.

use bytes::Bytes;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use iothub_common::Identity;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::answer;
use crate::hub::{Grant, Hub, HubError, Precondition};

/// One request: routed, authorized and completely read.
pub(super) struct Call {
    pub(super) hub: Hub,
    pub(super) params: Params,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What the token proved; none where everyone may call, or the caller showed a certificate.
    pub(super) grant: Option<Grant>,
}

/// The ids in the path, by the name they have in the route's pattern.
#[derive(Default)]
pub(super) struct Params(Vec<(&'static str, String)>);

/// The decoded pairs of the query string, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Call {
    pub(super) fn device(&self) -> &str {
        self.params.get("d")
    }

    pub(super) fn module(&self) -> &str {
        self.params.get("m")
    }

    /// The id of a configuration or job.
    pub(super) fn id(&self) -> &str {
        self.param("id")
    }

    /// A part of the path, by the name it has in the route's pattern.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.get(name)
    }

    /// The device or, where the path names one, the module that is meant.
    pub(super) fn identity(&self) -> Result<Identity, HubError> {
        self.params.identity()
    }

    /// The lock token in the path.
    pub(super) fn lock(&self) -> Result<Uuid, HubError> {
        let lock = self.params.get("lock");
        Uuid::try_parse(lock).map_err(|_| answer::argument_invalid(format!("'{lock}' is no lock token")))
    }

    /// The body as a type. `malformed` makes the answer to one that does not fit.
    pub(super) fn body_as<T: DeserializeOwned>(
        &self,
        malformed: fn(String) -> HubError,
    ) -> Result<T, HubError> {
        serde_json::from_value(self.json(malformed)?)
            .map_err(|error| malformed(format!("the request body is not what this endpoint wants: {error}")))
    }

    /// The body, which must be JSON. `malformed` makes the answer to one that is not, as endpoints differ in it.
    pub(super) fn json(&self, malformed: fn(String) -> HubError) -> Result<Value, HubError> {
        if self.body.is_empty() {
            return Err(answer::argument_null("the request has no body; this endpoint wants JSON"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| malformed(format!("the request body is not JSON: {error}")))
    }

    /// What `If-Match` and `If-None-Match` ask for.
    pub(super) fn precondition(&self) -> Precondition {
        Precondition::from_headers(header(&self.headers, &IF_MATCH), header(&self.headers, &IF_NONE_MATCH))
    }
}

impl Params {
    pub(super) fn push(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    /// The device or, where the path names one, the module that is meant.
    pub(super) fn identity(&self) -> Result<Identity, HubError> {
        let identity = match self.get("m") {
            "" => Identity::device(self.get("d")),
            module => Identity::module(self.get("d"), module),
        };
        identity.map_err(|error| answer::argument_invalid(error.to_string()))
    }

    /// Empty where the pattern has no such name.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    #[cfg(test)]
    pub(super) fn values(self) -> Vec<String> {
        self.0.into_iter().map(|(_, value)| value).collect()
    }
}

impl Query {
    /// `+` stays a plus: ids and tokens contain it, spaces occur nowhere (rest.md 1.2).
    pub(super) fn parse(text: &str) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The text of a header; none where it is missing, empty or no text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name).map(HeaderValue::to_str)?.ok()?.trim();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_decoded_and_keeps_plus() {
        let query = Query::parse("top=5&&API-Version=2021-04-12&x=a%20b+c&reject");
        assert_eq!(query.get("top"), Some("5"));
        assert_eq!(query.get("api-version"), Some("2021-04-12"));
        assert_eq!(query.get("x"), Some("a b+c"));
        assert_eq!(query.get("reject"), Some(""));
        assert_eq!(query.get("missing"), None);
    }
}
