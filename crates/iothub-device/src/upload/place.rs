//! Where the hub said to write: one blob of a storage account, with the token for it.

use bytes::Bytes;
use http::{Method, Request, Uri, header, uri::Authority};
use http_body_util::Full;
use iothub_common::{ClientOptions, Error, ErrorKind, Result, Secret, identity::escape_id};
use iothub_http::{Answer, Caller, Outgoing, Repeat, Server, Terms, Transport};
use serde::Deserialize;

use super::UploadOptions;
use crate::http::{CONNECTION_AGE, not_built};

const HTTPS_PORT: u16 = 443;
/// Old enough for every account, and with blocks of more than 4 MiB.
const STORAGE_VERSION: &str = "2019-12-12";

/// The hub's answer to the start of an upload (rest.md 11.3).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub(super) correlation_id: String,
    host_name: String,
    container_name: String,
    pub(super) blob_name: String,
    #[serde(deserialize_with = "secret")]
    sas_token: Secret,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::from)
}

impl Place {
    /// The blob's address without the token.
    pub(super) fn uri(&self) -> String {
        let name: Vec<String> = self.blob_name.split('/').map(escape_id).collect();
        format!("https://{}/{}/{}", self.host_name, escape_id(&self.container_name), name.join("/"))
    }

    /// The blob's address with the token, and more of a query.
    pub(super) fn uri_with_token(&self, query: &str) -> Secret {
        let token = self.sas_token.reveal();
        let mark = if token.starts_with('?') { "" } else { "?" };
        Secret::from(format!("{}{mark}{token}{query}", self.uri()))
    }
}

/// Writes the blob.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    place: &'a Place,
    options: &'a UploadOptions,
    caller: Caller,
}

/// What is put.
enum Part<'a> {
    Whole,
    Block(&'a str),
    List,
}

impl<'a> Storage<'a> {
    /// The trust and the proxy are those of the hub; the certificate that we show it is no business of the storage.
    pub(super) fn new(place: &'a Place, options: &'a UploadOptions, client: &ClientOptions) -> Result<Self> {
        let authority: Authority = place.host_name.parse().map_err(|error| {
            let text = format!("the hub sent `{}` as the host of its storage", place.host_name);
            Error::new(ErrorKind::Protocol, text).with_source(error)
        })?;
        let mut client = client.clone();
        client.tls = client.tls.without_client_certificate();
        let port = authority.port_u16().unwrap_or(HTTPS_PORT);
        let server = Server { what: "the blob storage", host: authority.host(), port };
        let caller = Caller::new(Transport::new(server, &client, CONNECTION_AGE)?);
        Ok(Self { place, options, caller })
    }

    /// A small file in one piece.
    pub(super) async fn put(&self, content: Bytes) -> Result<()> {
        self.send("put blob", &Part::Whole, content).await
    }

    pub(super) async fn put_block(&self, id: &str, content: Bytes) -> Result<()> {
        self.send("put block", &Part::Block(id), content).await
    }

    /// Makes the blob of these blocks.
    pub(super) async fn put_list(&self, ids: &[String]) -> Result<()> {
        let mut xml = String::from(r#"<?xml version="1.0" encoding="utf-8"?><BlockList>"#);
        for id in ids {
            xml.push_str(&format!("<Latest>{id}</Latest>"));
        }
        xml.push_str("</BlockList>");
        self.send("put block list", &Part::List, xml.into()).await
    }

    /// The same bytes twice are the same blob, so everything may be sent again.
    async fn send(&self, what: &'static str, part: &Part<'_>, body: Bytes) -> Result<()> {
        let terms = Terms { what, repeat: Repeat::Safe, limit: self.options.request_timeout };
        let refusal = |answer: &Answer| refusal(&self.place.blob_name, answer);
        self.caller.call(terms, || self.request(what, part, &body), refusal).await.map(drop)
    }

    fn request(&self, what: &str, part: &Part<'_>, body: &Bytes) -> Result<Outgoing> {
        let query = match part {
            Part::Whole => String::new(),
            Part::Block(id) => format!("&comp=block&blockid={}", escape_id(id)),
            Part::List => "&comp=blocklist".to_owned(),
        };
        // An error about the URI must not have the token in it, and this one has no text of it.
        let uri: Uri = self.place.uri_with_token(&query).reveal().parse().map_err(|_| {
            Error::new(ErrorKind::Protocol, "the hub sent a token for its storage that no URI can hold")
        })?;
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(uri)
            .header(header::USER_AGENT, crate::USER_AGENT)
            .header("x-ms-version", STORAGE_VERSION);
        if matches!(part, Part::Whole) {
            request = request.header("x-ms-blob-type", "BlockBlob");
        }
        if let (Part::Whole | Part::List, Some(content_type)) = (part, &self.options.content_type) {
            request = request.header("x-ms-blob-content-type", content_type);
        }
        request.body(Full::new(body.clone())).map_err(|error| not_built(what, error))
    }
}

/// What the storage's refusal means.
fn refusal(blob: &str, answer: &Answer) -> Error {
    let status = answer.status.as_u16();
    let code = answer.header("x-ms-error-code").unwrap_or_default();
    let said = said(&String::from_utf8_lossy(&answer.body));
    let (kind, message) = match status {
        401 | 403 => (
            ErrorKind::Unauthorized,
            format!(
                "the storage did not accept the token for blob `{blob}`; it is good for an hour by this machine's and \
                 the storage's clock, so start the upload anew"
            ),
        ),
        404 => (
            ErrorKind::NotFound,
            format!("the container for blob `{blob}` does not exist; check the storage settings of the hub"),
        ),
        413 => (
            ErrorKind::QuotaExceeded,
            format!("blob `{blob}`, or a block of it, is too large for the storage"),
        ),
        429 => (ErrorKind::Throttled, "the storage throttles; wait, then upload again".to_owned()),
        500..600 => {
            (ErrorKind::Unavailable, "the storage cannot serve right now; try again later".to_owned())
        }
        _ => (ErrorKind::Rejected, format!("the storage refused blob `{blob}` ({status} {code})")),
    };
    let error = Error::new(kind, message).with_status(status).with_may_have_been_applied(status >= 500);
    let error = if said.is_empty() { error } else { error.with_source(said) };
    if code.is_empty() { error } else { error.with_hub_code(code) }
}

/// The message within the XML of a refusal; the whole text when it is none.
fn said(body: &str) -> String {
    let inner = body.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    let text = inner.map_or(body, |(message, _)| message);
    text.lines().next().unwrap_or_default().trim().chars().take(300).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::error::Error as _;

    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn place(token: &str) -> Place {
        let json = format!(
            r#"{{"correlationId":"c","hostName":"h:1","containerName":"box","blobName":"d/dir/a b#.txt","sasToken":"{token}"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn addresses_are_escaped_by_segment() {
        let place = place("?sv=1&sig=a%2Bb");
        assert_eq!(place.uri(), "https://h:1/box/d/dir/a%20b%23.txt");
        assert_eq!(
            place.uri_with_token("&comp=block").reveal(),
            "https://h:1/box/d/dir/a%20b%23.txt?sv=1&sig=a%2Bb&comp=block"
        );
        assert!(!format!("{place:?}").contains("a%2Bb"));
    }

    #[test]
    fn a_token_without_its_question_mark_gets_one() {
        assert!(place("sv=1").uri_with_token("").reveal().ends_with("a%20b%23.txt?sv=1"));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>AuthenticationFailed</Code>\
                   <Message>Server failed to authenticate.\nRequestId:1</Message></Error>";
        for (status, kind) in [
            (403, ErrorKind::Unauthorized),
            (404, ErrorKind::NotFound),
            (413, ErrorKind::QuotaExceeded),
            (429, ErrorKind::Throttled),
            (503, ErrorKind::Unavailable),
            (400, ErrorKind::Rejected),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-error-code", HeaderValue::from_static("SomeCode"));
            let status = StatusCode::from_u16(status).unwrap();
            let error = refusal("d/a", &Answer { status, headers, body: Bytes::from(xml) });
            assert_eq!((error.kind(), error.hub_code()), (kind, Some("SomeCode")));
            assert_eq!(error.source().unwrap().to_string(), "Server failed to authenticate.");
        }
    }
}
