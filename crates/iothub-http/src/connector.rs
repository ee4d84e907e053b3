//! Connections to one server: TCP, through a proxy where there is one, then TLS; within a limit, failures told in our own
//! words.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use iothub_common::{ClientOptions, Error, ErrorKind, Proxy, Result, connect_error};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{find, tunnel};

/// How long a connection may take, name look-up, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2 where the server offers it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type BoxError = Box<dyn StdError + Send + Sync>;

/// Makes connections; what it fails with is [`Error`]. Wherever it is asked to connect to, it connects to its server: the
/// URIs of requests have no port, because certificates, tokens and the hub itself know the bare name.
#[derive(Clone)]
pub(crate) struct Connector {
    https: HttpsConnector<Way>,
    address: Uri,
    host: Arc<str>,
    port: u16,
}

impl Connector {
    pub(crate) fn new(host: &str, port: u16, options: &ClientOptions) -> Result<Self> {
        let address = format!("https://{host}:{port}").parse().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("`{host}` is no host name")).with_source(error)
        })?;
        let host: Arc<str> = host.into();
        let proxy = options.proxy.clone().filter(|proxy| proxy.is_for(&host, port));
        let way = Way { tcp: tcp(), proxy, host: Arc::clone(&host), port };
        let https = HttpsConnector::from((way, options.tls.client_config(&PROTOCOLS)?));
        Ok(Self { https, address, host, port })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.https.poll_ready(cx).map_err(|error| connect_error(&self.host, self.port, error))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.https.call(self.address.clone());
        let (host, port) = (Arc::clone(&self.host), self.port);
        Box::pin(async move {
            let error = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(elapsed) => elapsed.into(),
            };
            // What the tunnel through a proxy failed with is ours already.
            Err(find::<Error>(&*error).cloned().unwrap_or_else(|| connect_error(&host, port, error)))
        })
    }
}

/// TCP connections: to the hub, or through a proxy to it.
#[derive(Clone)]
struct Way {
    tcp: HttpConnector,
    proxy: Option<Proxy>,
    host: Arc<str>,
    port: u16,
}

impl Service<Uri> for Way {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let Some(proxy) = self.proxy.clone() else {
            let connecting = self.tcp.call(address);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        let (tcp, host, port) = (self.tcp.clone(), Arc::clone(&self.host), self.port);
        Box::pin(async move { tunnel::open(tcp, proxy, &host, port).await.map_err(Into::into) })
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp
}
