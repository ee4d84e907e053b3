//! From an address to an open AMQP connection, and what its end means.

use std::{fmt, io, sync::Arc, time::Duration};

use iothub_common::{
    ClientOptions, Error, ErrorKind, Proxy, Result, Subject, Transport, connect_error, error::error_from_amqp,
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::{
    Driver, condition,
    dial::Dial,
    proto::{CloseCause, Config, Event, Side},
    sasl::{self, Plain},
    types::definitions::Error as AmqpError,
};

/// A byte stream to the hub, whatever it is made of.
pub type Socket = Box<dyn Stream>;

/// What a [`Socket`] can do.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The hub's ports (amqp.md 1.1).
const AMQPS_PORT: u16 = 5671;
const HTTPS_PORT: u16 = 443;
/// WebSockets begin as a request of HTTP/1.1.
const WEB_SOCKET_ALPN: &[&[u8]] = &[b"http/1.1"];

/// Where a hub is reached, and how.
#[derive(Clone)]
pub struct Endpoint {
    /// Host to dial; its certificate must carry this name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What the frames travel in.
    pub transport: Transport,
    /// The HTTP proxy on the way.
    pub proxy: Option<Proxy>,
    /// Whom to trust, and the certificate to show.
    pub tls: Arc<ClientConfig>,
    /// Advertised idle time-out; silence of twice this time ends the connection.
    pub idle_timeout: Duration,
}

impl Endpoint {
    /// The hub, or the gateway, of this name. Reads the platform's trust store, does no other I/O.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when a proxy is to carry what it cannot, when a transport is not compiled in, and as
    /// `TlsConfig` has it.
    pub fn new(
        host: impl Into<String>,
        options: &ClientOptions,
        transport: Transport,
        idle_timeout: Duration,
    ) -> Result<Self> {
        let host = host.into();
        let web_socket = transport != Transport::Amqp;
        let port = match web_socket {
            false => options.amqps_port.unwrap_or(AMQPS_PORT),
            true => options.https_port.unwrap_or(HTTPS_PORT),
        };
        let proxy = options.proxy.clone().filter(|proxy| proxy.is_for(&host, port));
        let invalid = |what: String| Err(Error::new(ErrorKind::InvalidInput, what));
        if web_socket && cfg!(not(feature = "websocket")) {
            return invalid("there are no WebSockets in this program: the feature `websocket` is off".into());
        }
        if let (Some(proxy), false) = (&proxy, web_socket) {
            return invalid(format!(
                "the proxy {}:{} carries HTTPS and AMQP in a WebSocket only: use Transport::AmqpWebSocket, or \
                 take {host} out of the proxy with Proxy::except or NO_PROXY",
                proxy.host(),
                proxy.port(),
            ));
        }
        let tls = options.tls.client_config(if web_socket { WEB_SOCKET_ALPN } else { &[] })?;
        Ok(Self { host, port, transport, proxy, tls, idle_timeout })
    }

    /// Connects: name, TCP, TLS, WebSocket if asked for, AMQP headers without a SASL layer as Node and C# do
    /// (amqp.md 1.2), `open`. Cancelling drops the socket.
    ///
    /// # Errors
    ///
    /// `Connect` with the address, `Certificate`, `Timeout` after `limit`, or what the hub closed with.
    pub async fn open(&self, limit: Duration) -> Result<Driver<Socket>> {
        self.open_as(None, limit).await
    }

    /// [`Endpoint::open`] with a SASL PLAIN login, for the few places where tokens on `$cbs` are not enough
    /// (amqp.md 5.6).
    ///
    /// # Errors
    ///
    /// Those of [`Endpoint::open`], and `Unauthorized` when the login is refused.
    pub async fn open_with_login(&self, login: &Plain, limit: Duration) -> Result<Driver<Socket>> {
        self.open_as(Some(login), limit).await
    }

    async fn open_as(&self, login: Option<&Plain>, limit: Duration) -> Result<Driver<Socket>> {
        let mut reached = false;
        let attempt = timeout(limit, self.attempt(login, &mut reached)).await;
        attempt.unwrap_or_else(|_| {
            let what = if reached { " was reached but" } else { "" };
            Err(Error::new(ErrorKind::Timeout, format!("{self}{what} did not answer within {limit:?}")))
        })
    }

    async fn attempt(&self, login: Option<&Plain>, reached: &mut bool) -> Result<Driver<Socket>> {
        let dial = Dial { host: &self.host, port: self.port, proxy: self.proxy.as_ref() };
        let tls = dial.tls(self.tls.clone()).await?;
        *reached = true;
        let mut socket: Socket = match self.transport {
            #[cfg(feature = "websocket")]
            Transport::AmqpWebSocket => {
                // Boxed: the handshake is large, and over soon.
                let shaking = Box::pin(crate::websocket::connect(tls, &self.host, self.port));
                Box::new(shaking.await?)
            }
            _ => Box::new(tls),
        };
        let headers = match login {
            None => sasl::client(&mut socket).await,
            Some(login) => sasl::client_plain(&mut socket, login).await,
        };
        headers.map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => {
                Error::new(ErrorKind::Unauthorized, format!("{self} did not accept the credentials"))
                    .with_source(e)
            }
            _ => connect_error(&self.host, self.port, e),
        })?;
        let config = Config {
            hostname: Some(self.host.clone()),
            idle_timeout: self.idle_timeout,
            ..Config::new(uuid::Uuid::new_v4().to_string())
        };
        let mut driver = Driver::new(socket, Side::Client, config);
        loop {
            match driver.next().await {
                Event::Opened(_) => return Ok(driver),
                Event::Closed(cause) => return Err(close_error(cause, self, &Subject::Hub(&self.host))),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// The error for a connection that ended.
pub fn close_error(cause: CloseCause, endpoint: &Endpoint, subject: &Subject<'_>) -> Error {
    let lost =
        |what: &str| Error::new(ErrorKind::Unavailable, format!("the connection to {endpoint} {what}"));
    match cause {
        CloseCause::Requested => lost("was closed"),
        CloseCause::Remote(None) => lost("was closed by the hub"),
        CloseCause::Remote(Some(error)) => amqp_error(&error, subject),
        CloseCause::IdleTimeout => lost("is dead: nothing was heard for twice the idle time-out"),
        CloseCause::Io(error) => lost("was lost").with_source(error),
        CloseCause::Protocol(what) => {
            Error::new(ErrorKind::Protocol, format!("{endpoint} broke the AMQP protocol: {what}"))
        }
    }
}

/// The error for a link or session that the hub ended.
pub fn link_error(error: Option<&AmqpError>, subject: &Subject<'_>) -> Error {
    match error {
        Some(error) => amqp_error(error, subject),
        None => Error::new(ErrorKind::Unavailable, "the hub detached a link without saying why"),
    }
}

fn amqp_error(error: &AmqpError, subject: &Subject<'_>) -> Error {
    error_from_amqp(&condition(error), error.description.as_deref(), subject)
}
