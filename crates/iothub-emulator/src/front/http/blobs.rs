//! Blob storage over HTTP, as far as uploads and looking at what was uploaded need it: Put Blob, Put Block, Put Block
//! List, Get Blob and its HEAD, each with a token in the query.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::debug;
use uuid::Uuid;

use super::body;
use super::call::{Query, header};
use crate::hub::Timestamp;
use crate::storage::{Blob, Purpose, Sas, Storage, StorageError, no_blob};

/// One request's content.
const BODY_LIMIT: usize = 100 * 1024 * 1024;
/// From the end of the headers to the end of the body.
const BODY_DEADLINE: Duration = Duration::from_secs(300);

const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
const X_RANGE: HeaderName = HeaderName::from_static("x-ms-range");
const BLOB_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-content-type");
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

type Outcome = Result<Response<Full<Bytes>>, StorageError>;

/// Answers a request to `/{container}/{blob}`.
pub(super) async fn serve(
    storage: &Storage,
    segments: &[String],
    head: &Parts,
    incoming: &mut Incoming,
    now: SystemTime,
) -> Response<Full<Bytes>> {
    let (container, name) = (&segments[0], segments[1..].join("/"));
    let outcome = exchange(storage, container, &name, head, incoming).await;
    body::drain(&head.headers, incoming).await;
    let mut response = match outcome {
        Ok(response) => response,
        Err(error) => {
            debug!(method = %head.method, name, status = error.status, code = error.code, "storage refused");
            refusal(&error, now)
        }
    };
    let headers = response.headers_mut();
    headers.insert("x-ms-version", HeaderValue::from_static("2021-12-02"));
    insert(headers, HeaderName::from_static("x-ms-request-id"), &Uuid::new_v4().to_string());
    response
}

async fn exchange(
    storage: &Storage,
    container: &str,
    name: &str,
    head: &Parts,
    incoming: &mut Incoming,
) -> Outcome {
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let purpose = match head.method {
        Method::GET | Method::HEAD => Purpose::Read,
        Method::PUT => Purpose::Write,
        _ => return Err(StorageError::new(405, "UnsupportedHttpVerb", "Blobs are read and written here.")),
    };
    let sas = Sas { expiry: query.get("se"), permissions: query.get("sp"), signature: query.get("sig") };
    // Before the body: who may not write sends nothing of any size.
    storage.check(container, name, &sas, purpose)?;
    if purpose == Purpose::Read {
        let range = header(&head.headers, &X_RANGE).or_else(|| header(&head.headers, &RANGE));
        return content(&storage.blob(name).ok_or_else(no_blob)?, range);
    }
    let headers = &head.headers;
    let comp = query.get("comp").unwrap_or_default();
    if comp.is_empty() && header(headers, &BLOB_TYPE) != Some("BlockBlob") {
        let text = "The header x-ms-blob-type is missing or not BlockBlob; other blobs are not kept here.";
        return Err(StorageError::new(400, "MissingRequiredHeader", text));
    }
    let body = body::read_within(headers, incoming, BODY_LIMIT, BODY_DEADLINE).await;
    let body = body.map_err(|error| StorageError::new(error.status, error.name, error.text))?;
    let content_type = header(headers, &BLOB_CONTENT_TYPE);
    match comp {
        "" => {
            let content_type = content_type.or_else(|| header(headers, &CONTENT_TYPE));
            Ok(created(Some(&storage.put_blob(name, content_type, body)?)))
        }
        "block" => {
            storage.put_block(name, query.get("blockid").unwrap_or_default(), body)?;
            Ok(created(None))
        }
        "blocklist" => {
            let xml = String::from_utf8_lossy(&body);
            Ok(created(Some(&storage.put_block_list(name, content_type, &xml)?)))
        }
        other => {
            let text = format!("comp={other} is not known here.");
            Err(StorageError::new(400, "InvalidQueryParameterValue", text))
        }
    }
}

/// The same for HEAD: the server leaves the body out and keeps its length.
fn content(blob: &Blob, range: Option<&str>) -> Outcome {
    let mut content = blob.content();
    let size = content.len();
    let range = range.and_then(|range| bounds(range, size));
    if let Some((from, to)) = range {
        if from >= size {
            return Err(StorageError::new(416, "InvalidRange", format!("The blob has {size} bytes.")));
        }
        content = content.slice(from..to);
    }
    let mut response = Response::new(Full::new(content));
    if let Some((from, to)) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes {from}-{}/{size}", to - 1));
    }
    let headers = response.headers_mut();
    insert(headers, CONTENT_TYPE, &blob.content_type);
    headers.insert(BLOB_TYPE, HeaderValue::from_static("BlockBlob"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    describe(headers, blob);
    Ok(response)
}

/// The first byte and the one after the last of `bytes=from-to` or `bytes=from-`. What is no such range is not looked
/// at, as HTTP wants it.
fn bounds(range: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.trim().parse().ok()?;
    let to = match to.trim() {
        "" => size,
        to => to.parse::<usize>().ok()?.checked_add(1)?.min(size),
    };
    (from < to || from >= size).then_some((from, to))
}

fn created(blob: Option<&Blob>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::CREATED;
    if let Some(blob) = blob {
        describe(response.headers_mut(), blob);
    }
    response.headers_mut().insert("x-ms-request-server-encrypted", HeaderValue::from_static("false"));
    response
}

fn describe(headers: &mut HeaderMap, blob: &Blob) {
    insert(headers, ETAG, &format!("\"{}\"", blob.etag));
    if let Ok(date) = OffsetDateTime::from(blob.last_modified).format(HTTP_DATE) {
        insert(headers, LAST_MODIFIED, &date);
    }
}

fn refusal(error: &StorageError, now: SystemTime) -> Response<Full<Bytes>> {
    let escaped = error.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{}</Code><Message>{escaped}\nTime:{}</Message></Error>",
        error.code,
        Timestamp::from(now).for_twin()
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert("x-ms-error-code", HeaderValue::from_static(error.code));
    response
}

/// Left out when HTTP cannot carry it.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
