//! A call: one request, and again where that is safe, until there is a success or the time is over.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use iothub_common::{Error, Result, RetryPolicy};
use tokio::time::{Instant, sleep};

use crate::{Answer, Attempts, Failure, Repeat, Transport, default_policy};

/// A request as it is made for each attempt.
pub type Outgoing = Request<Full<Bytes>>;

/// Calls one server.
#[derive(Debug)]
pub struct Caller {
    transport: Transport,
    retry: RetryPolicy,
}

/// What is known of a call before it is made.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What it is for, in words for errors. Holds nothing secret.
    pub what: &'static str,
    /// Whether the request may be sent twice.
    pub repeat: Repeat,
    /// How long it may take, repetitions included.
    pub limit: Duration,
}

impl Caller {
    /// Calls with the default policy of repetitions.
    pub fn new(transport: Transport) -> Self {
        Self { transport, retry: default_policy() }
    }

    /// Makes a call. `request` is asked for each attempt; `refusal` words an answer that is no success.
    ///
    /// Dropping the future may leave the request sent.
    ///
    /// # Errors
    ///
    /// What `request` and `refusal` say, and as [`Transport::send`].
    pub async fn call(
        &self,
        terms: Terms,
        request: impl Fn() -> Result<Outgoing>,
        refusal: impl Fn(&Answer) -> Error,
    ) -> Result<Answer> {
        let Terms { what, repeat, limit } = terms;
        let end = Instant::now() + limit;
        let mut attempts = Attempts::new(&self.retry, repeat);
        loop {
            let failure = match self.transport.send(request()?, end, what, limit).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) => Failure::answered(answer.status.as_u16(), with_wait(refusal(&answer), &answer)),
                Err(failure) => failure,
            };
            match attempts.pause_after(&failure) {
                Some(pause) if pause < end.duration_since(Instant::now()) => sleep(pause).await,
                _ => return Err(failure.into_error(repeat)),
            }
        }
    }
}

fn with_wait(error: Error, answer: &Answer) -> Error {
    match answer.retry_after() {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}
