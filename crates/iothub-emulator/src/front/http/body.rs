//! Reading request bodies without letting a client hold memory or time.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::answer;
use crate::hub::HubError;

/// The largest body the hub reads. The largest legal one is an import of 100 identities with their twins.
pub(super) const LIMIT: usize = 1024 * 1024;
/// From the end of the headers to the end of the body.
const DEADLINE: Duration = Duration::from_secs(30);
/// What is thrown away of a refused body before the answer, so that the client reads the answer instead of
/// a reset connection.
const DRAIN_LIMIT: usize = 16 * 1024 * 1024;
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// The whole body, chunked or not.
pub(super) async fn read(headers: &HeaderMap, incoming: &mut Incoming) -> Result<Bytes, HubError> {
    read_within(headers, incoming, LIMIT, DEADLINE).await
}

/// The whole body within other limits.
pub(super) async fn read_within(
    headers: &HeaderMap,
    incoming: &mut Incoming,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, HubError> {
    let announced = incoming.size_hint().lower();
    if announced > limit as u64 {
        // Somebody who asks first gets the answer and sends nothing.
        if !expects_continue(headers) {
            drain_some(incoming).await;
        }
        return Err(answer::body_too_large(limit));
    }
    let read = timeout(deadline, Limited::new(&mut *incoming, limit).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            drain_some(incoming).await;
            Err(answer::body_too_large(limit))
        }
        Ok(Err(_)) => Err(answer::bad_request("the request body ended early or is badly framed")),
        Err(_) => Err(answer::body_too_slow(deadline)),
    }
}

/// Reads away what a refused request still sends.
pub(super) async fn drain(headers: &HeaderMap, incoming: &mut Incoming) {
    if !expects_continue(headers) {
        drain_some(incoming).await;
    }
}

async fn drain_some(incoming: &mut Incoming) {
    let mut left = DRAIN_LIMIT;
    let draining = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            if size > left {
                return;
            }
            left -= size;
        }
    };
    // Late or not, the answer comes next.
    let _ = timeout(DRAIN_DEADLINE, draining).await;
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
