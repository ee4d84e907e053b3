//! Requests out, answers in, over a pool of connections; together with `connector.rs` all that knows hyper.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use iothub_common::{Error, ErrorKind, Result, TlsConfig};
use tokio::time::{Instant, timeout_at};

use super::Answer;
use super::connector::Connector;
use crate::retry::Failure;

/// The longest answer that is read. A full page of the largest twins is about half of it.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Connections unused for this long are closed, before the hub (120 s) or something on the way does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// The pool.
pub(super) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    address: String,
}

impl Transport {
    pub(super) fn new(host: &str, port: u16, tls: &TlsConfig) -> Result<Self> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(Connector::new(host, port, tls)?);
        Ok(Self { client, address: format!("{host}:{port}") })
    }

    /// Sends a request and reads the whole answer before `deadline`.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
        what: &str,
        call_timeout: Duration,
    ) -> Result<Answer, Failure> {
        let connection = capture_connection(&mut request);
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| self.lost(error))?;
            let (head, body) = answer.into_parts();
            if body.size_hint().lower() > LONGEST_ANSWER as u64 {
                return Err(self.too_long());
            }
            let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| self.cut(error))?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        if let Ok(result) = timeout_at(deadline, exchange).await {
            return result;
        }
        if connection.connection_metadata().is_some() {
            let message = format!("no answer to `{what}` from {} within {call_timeout:?}", self.address);
            return Err(Failure::unknown(Error::new(ErrorKind::Timeout, message)));
        }
        let message = format!("could not reach {} within {call_timeout:?}; is the hub up?", self.address);
        Err(Failure::not_sent(Error::new(ErrorKind::Connect, message)))
    }

    /// Tells what a request without an answer means.
    fn lost(&self, error: legacy::Error) -> Failure {
        if let Some(ours) = find::<Error>(&error) {
            return Failure::not_sent(ours.clone());
        }
        let hyper = find::<hyper::Error>(&error);
        let canceled = hyper.is_some_and(hyper::Error::is_canceled);
        if error.is_connect() || canceled {
            let message = format!("the connection to {} was lost before the request was sent", self.address);
            return Failure::not_sent(Error::new(ErrorKind::Connect, message).with_source(error));
        }
        if hyper.is_some_and(hyper::Error::is_parse) {
            let message = format!("{} does not speak HTTP; is it the hub?", self.address);
            return Failure::unknown(Error::new(ErrorKind::Protocol, message).with_source(error));
        }
        let message = format!("the connection to {} was lost before the hub answered", self.address);
        Failure::unknown(Error::new(ErrorKind::Connect, message).with_source(error))
    }

    fn too_long(&self) -> Failure {
        let message = format!("an answer of {} is longer than {LONGEST_ANSWER} bytes", self.address);
        Failure::unknown(Error::new(ErrorKind::Protocol, message))
    }

    /// Tells what an answer that ended early means.
    fn cut(&self, error: Box<dyn StdError + Send + Sync>) -> Failure {
        if error.is::<LengthLimitError>() {
            return self.too_long();
        }
        let message = format!("the connection to {} was lost in the middle of an answer", self.address);
        Failure::unknown(Error::new(ErrorKind::Connect, message).with_source(error))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("address", &self.address).finish_non_exhaustive()
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
