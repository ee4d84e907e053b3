//! Connections to the hub: TCP, then TLS, within a limit, failures told in our own words.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use iothub_common::{Error, Result, TlsConfig, connect_error};
use tokio::net::TcpStream;
use tower_service::Service;

/// How long a connection may take, name look-up, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Makes connections; what it fails with is [`Error`].
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector>,
    host: Arc<str>,
    port: u16,
}

impl Connector {
    pub(super) fn new(host: &str, port: u16, tls: &TlsConfig) -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let https = HttpsConnector::from((tcp, tls.client_config(&[b"http/1.1"])?));
        Ok(Self { https, host: host.into(), port })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.https.poll_ready(cx).map_err(|error| connect_error(&self.host, self.port, error))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.https.call(uri);
        let (host, port) = (Arc::clone(&self.host), self.port);
        Box::pin(async move {
            let error = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(elapsed) => elapsed.into(),
            };
            Err(connect_error(&host, port, error))
        })
    }
}
