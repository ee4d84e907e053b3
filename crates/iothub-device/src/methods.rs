//! Direct methods that the service invokes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use iothub_common::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::Client,
    features::{AnswerTo, RawRequest},
    mailbox::Reader,
};

/// Largest answer, bytes of JSON (amqp.md 8).
const MAX_PAYLOAD: usize = 128 * 1024;

/// Requests of direct methods, as the service makes them.
///
/// The stream survives reconnections and keeps the connection alive; it ends when the client is closed.
/// Dropping it answers what was not read with 500. Up to 100 requests wait for a slow reader, then callers get
/// 503; a method nobody listens for gets 501.
#[derive(Debug)]
pub struct MethodRequests {
    reader: Reader<RawRequest>,
}

impl MethodRequests {
    pub(crate) fn new(reader: Reader<RawRequest>) -> Self {
        Self { reader }
    }

    /// The next request; `None` once the client is closed. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<MethodRequest> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for MethodRequests {
    type Item = MethodRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let client = self.reader.client();
        self.reader.poll_next(cx).map(|raw| {
            raw.map(|raw| MethodRequest {
                name: raw.name,
                payload: raw.payload,
                answer_to: Some(raw.answer_to),
                client: client.clone(),
            })
        })
    }
}

/// One invocation, which wants an answer: [`MethodRequest::respond`]. Dropped without one, it answers 500.
#[derive(Debug)]
pub struct MethodRequest {
    name: String,
    payload: Bytes,
    answer_to: Option<AnswerTo>,
    client: Client,
}

impl MethodRequest {
    /// The method's name, case-sensitive.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The payload as the service gave it: JSON, up to 128 KiB; `null` or empty when there is none.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload as a value. No payload reads as `null`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it is not what `T` wants.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T> {
        let json = if self.payload.iter().all(u8::is_ascii_whitespace) { b"null" } else { &self.payload[..] };
        serde_json::from_slice(json).map_err(|e| {
            let text = format!("the payload of method `{}` is not what is expected", self.name);
            Error::new(ErrorKind::InvalidInput, text).with_source(e)
        })
    }

    /// Answers. `status` is the application's own, 200 by convention for success; `payload` any JSON, `&()` for
    /// none. Returns once the hub has taken the answer.
    ///
    /// Dropping the future may leave the answer sent.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: the payload is no JSON or has over 128 KiB; the caller gets 500.
    /// - [`ErrorKind::Unavailable`]: the connection was lost meanwhile; the caller has been told already.
    pub async fn respond<T: Serialize + ?Sized>(mut self, status: i32, payload: &T) -> Result<()> {
        let json = serde_json::to_vec(payload)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "the answer is no JSON").with_source(e))?;
        if json.len() > MAX_PAYLOAD {
            let text = format!("the answer has {} bytes; {MAX_PAYLOAD} are allowed", json.len());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let Some(answer_to) = self.answer_to.take() else { return Ok(()) };
        let (message, epoch) = answer_to.encode(status, json.into());
        self.client.answer_method(message, epoch).await
    }
}

impl Drop for MethodRequest {
    fn drop(&mut self) {
        if let Some(answer_to) = self.answer_to.take() {
            self.client.method_dropped(answer_to);
        }
    }
}
