//! TCP, then TLS: one byte stream out.

use std::{sync::Arc, time::Duration};

use iothub_common::{Error, ErrorKind, Result, connect_error};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Where to and how long.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Host to resolve, anew at each attempt, and the name its certificate must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Limit for name, TCP and TLS together.
    pub limit: Duration,
}

impl Dial {
    /// Connects and performs the TLS handshake. Cancelling drops the socket.
    ///
    /// Errors: `Connect` with the address, `Certificate` when the peer's is not trusted, `Timeout`.
    pub async fn tls(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        match timeout(self.limit, self.open(config)).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{}:{} did not answer within {:?}", self.host, self.port, self.limit),
            )),
        }
    }

    async fn open(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let failed = |e| connect_error(&self.host, self.port, e);
        let name = ServerName::try_from(self.host.clone()).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, format!("`{}` is no host name", self.host)).with_source(e)
        })?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        // Every frame is a whole question or answer.
        tcp.set_nodelay(true).map_err(failed)?;
        TlsConnector::from(config).connect(name, tcp).await.map_err(failed)
    }
}
