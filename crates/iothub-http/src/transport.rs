//! Requests out, answers in, over a pool of connections; together with `connector.rs` all that knows hyper.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use iothub_common::{ClientOptions, Error, ErrorKind, Result};
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::connector::Connector;
use crate::find;
use crate::retry::Failure;

/// The longest answer that is read. A full page of the largest twins is about half of it.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Connections unused for this long are closed, before the hub (120 s) or something on the way does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// An HTTP/2 connection with calls under way is asked for a sign of life this often: many calls hang on it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

type Pool = Client<Connector, Full<Bytes>>;

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// What it is, in words for errors, such as `the hub`.
    pub what: &'static str,
    /// Its name, for DNS and its certificate; no port.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
}

/// The pool. It is replaced when it is `connection_age` old, so that no connection outlives a change of the hub's
/// address for long: calls under way end on their connections, new ones look the name up again.
pub struct Transport {
    connector: Connector,
    connection_age: Duration,
    /// With when it was made; none before the first call.
    pool: Mutex<Option<(Pool, Instant)>>,
    /// As in [`Server`].
    what: &'static str,
    address: String,
}

impl Transport {
    /// Connects to nobody yet. Trust and proxy are those of `options`, their ports are not looked at.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the host name is none, and as `TlsConfig::client_config`.
    pub fn new(server: Server<'_>, options: &ClientOptions, connection_age: Duration) -> Result<Self> {
        let Server { what, host, port } = server;
        let connector = Connector::new(host, port, options)?;
        let address = format!("{host}:{port}");
        Ok(Self { connector, connection_age, pool: Mutex::new(None), what, address })
    }

    /// Sends a request and reads the whole answer before `deadline`; errors call that `limit`, the time for the call.
    /// The host of its URI goes into the header `Host`; the connection is to the server, whatever it is.
    ///
    /// Dropping the future may leave the request sent.
    ///
    /// # Errors
    ///
    /// [`Failure`] when there is no answer. Every answer is a success, whatever its status.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
        what: &str,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let connection = capture_connection(&mut request);
        let pool = self.pool();
        let exchange = async {
            let answer = pool.request(request).await.map_err(|error| self.lost(error))?;
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
            let message = format!("no answer to `{what}` from {} within {limit:?}", self.address);
            return Err(Failure::unknown(Error::new(ErrorKind::Timeout, message)));
        }
        let message = format!("could not reach {} within {limit:?}; is {} up?", self.address, self.what);
        Err(Failure::not_sent(Error::new(ErrorKind::Connect, message)))
    }

    fn pool(&self) -> Pool {
        let now = Instant::now();
        // A poisoned lock still holds a whole pool or none.
        let mut kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((pool, made)) if now.duration_since(*made) < self.connection_age => pool.clone(),
            _ => kept.insert((new_pool(self.connector.clone()), now)).0.clone(),
        }
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
            let message = format!("{} does not speak HTTP; is it {}?", self.address, self.what);
            return Failure::unknown(Error::new(ErrorKind::Protocol, message).with_source(error));
        }
        let message = format!("the connection to {} was lost before {} answered", self.address, self.what);
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

fn new_pool(connector: Connector) -> Pool {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_keep_alive_interval(SIGN_OF_LIFE)
        .build(connector)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("address", &self.address).finish_non_exhaustive()
    }
}
