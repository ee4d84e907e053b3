//! TCP, through a proxy where there is one, then TLS: one byte stream out.

mod tunnel;

use std::sync::Arc;

use iothub_common::{Error, ErrorKind, Proxy, Result, connect_error};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Where to.
#[derive(Debug, Clone)]
pub struct Dial<'a> {
    /// Host to resolve, anew at each attempt, and the name its certificate must carry.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// The HTTP proxy to ask for the connection.
    pub proxy: Option<&'a Proxy>,
}

impl Dial<'_> {
    /// Connects and performs the TLS handshake. No limit of its own; cancelling drops the socket.
    ///
    /// # Errors
    ///
    /// `Connect` with the address, `Certificate` when the peer's is not trusted, `Unauthorized` when the proxy wants
    /// another user.
    pub async fn tls(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let failed = |e| connect_error(self.host, self.port, e);
        let name = ServerName::try_from(self.host.to_owned()).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, format!("`{}` is no host name", self.host)).with_source(e)
        })?;
        let tcp = match self.proxy {
            None => TcpStream::connect((self.host, self.port)).await.map_err(failed)?,
            Some(proxy) => tunnel::open(proxy, self.host, self.port).await?,
        };
        // Every frame is a whole question or answer.
        tcp.set_nodelay(true).map_err(failed)?;
        TlsConnector::from(config).connect(name, tcp).await.map_err(failed)
    }
}
