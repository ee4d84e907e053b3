//! Binding the ports and accepting TLS connections, for every protocol alike.
//!
//! One task per socket accepts and nothing else: handshakes run beside it under a deadline, so a client that
//! connects and stays silent costs one of [`CONNECTION_LIMIT`] places for [`HANDSHAKE_DEADLINE`] and delays nobody.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::hub::ClientCertificate;

/// From the accepted TCP connection to the end of the TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Connections per port, handshakes included; the next ones wait in the kernel's queue.
const CONNECTION_LIMIT: usize = 20_000;
/// The first and the longest pause after the system refused to accept (no file descriptors left, mostly).
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How many free ports are tried until one is free on all addresses.
const FREE_PORT_ATTEMPTS: usize = 50;

/// The addresses that could not be bound, and why.
#[derive(Debug)]
pub(crate) struct BindError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}

/// One port, open on each address.
#[derive(Debug)]
pub(crate) struct Listener {
    port: u16,
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Binds `port` on all `addresses`, or on the loopback ones when there are none. Port 0 is one free port,
    /// the same for all of them.
    ///
    /// Both families matter on loopback: Node resolves `localhost` to `::1` first, other clients to `127.0.0.1`.
    pub(crate) async fn bind(addresses: &[IpAddr], port: u16) -> Result<Self, BindError> {
        let attempts = if port == 0 { FREE_PORT_ATTEMPTS } else { 1 };
        let mut attempt = 0;
        loop {
            attempt += 1;
            match bind_once(addresses, port).await {
                // Port 0: what was free on the first address is taken on the second.
                Err(error) if attempt < attempts && error.source.kind() == ErrorKind::AddrInUse => {}
                done => return done,
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

async fn bind_once(addresses: &[IpAddr], port: u16) -> Result<Listener, BindError> {
    if !addresses.is_empty() {
        let mut listener = Listener { port, sockets: Vec::with_capacity(addresses.len()) };
        for address in addresses {
            listener.add(*address).await?;
        }
        return Ok(listener);
    }

    let mut listener = Listener { port, sockets: Vec::with_capacity(2) };
    listener.add(IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
    match listener.add(IpAddr::V6(Ipv6Addr::LOCALHOST)).await {
        Err(error) if no_such_family(&error.source) => debug!(error = %error.source, "no IPv6 loopback here"),
        done => done?,
    }
    Ok(listener)
}

impl Listener {
    async fn add(&mut self, address: IpAddr) -> Result<(), BindError> {
        let address = SocketAddr::new(address, self.port);
        let bound = async {
            let socket = TcpListener::bind(address).await?;
            Ok((socket.local_addr()?.port(), socket))
        };
        let (port, socket) = bound.await.map_err(|source| BindError { address, source })?;
        self.port = port;
        self.sockets.push(socket);
        Ok(())
    }
}

/// Machines and containers without IPv6 say so in one of these ways.
fn no_such_family(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        // EAFNOSUPPORT on Linux, macOS and Windows has no kind of its own on every Rust version.
        || matches!(error.raw_os_error(), Some(97 | 47 | 10047))
}

/// Where a protocol is found now; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Port(Arc<AtomicU16>);

impl Port {
    pub(crate) fn new(port: u16) -> Self {
        Self(Arc::new(AtomicU16::new(port)))
    }

    pub(crate) fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, port: u16) {
        self.0.store(port, Ordering::Relaxed);
    }
}

/// How the tasks of one hub are started and ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    /// All tasks of the hub.
    pub(crate) tracker: TaskTracker,
    /// Stop accepting, say goodbye on open connections.
    pub(crate) shutdown: CancellationToken,
    /// Drop what is still open.
    pub(crate) kill: CancellationToken,
}

impl Tasks {
    /// The same with an end of their own, which comes no later.
    pub(crate) fn part(&self) -> Self {
        Self { shutdown: self.shutdown.child_token(), ..self.clone() }
    }
}

/// Accepts on all sockets of `listener` and hands each connection to `handler` once TLS stands, until shutdown.
pub(crate) fn serve<H, F>(listener: Listener, tls: rustls::ServerConfig, tasks: &Tasks, handler: H)
where
    H: Fn(TlsStream<TcpStream>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let tls = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    for socket in listener.sockets {
        let (tls, places, handler) = (tls.clone(), Arc::clone(&places), handler.clone());
        let accepting = accept_loop(socket, tls, places, tasks.clone(), handler);
        let shutdown = tasks.shutdown.clone();
        tasks.tracker.spawn(async move {
            shutdown.run_until_cancelled_owned(accepting).await;
        });
    }
}

async fn accept_loop<H, F>(
    socket: TcpListener,
    tls: TlsAcceptor,
    places: Arc<Semaphore>,
    tasks: Tasks,
    handler: H,
) where
    H: Fn(TlsStream<TcpStream>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // Never closed: an error here can only mean that the hub is gone.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = accept(&socket).await;
        let (tls, handler, ends) = (tls.clone(), handler.clone(), tasks.clone());
        tasks.tracker.spawn(async move {
            let established = ends.shutdown.run_until_cancelled(handshake(stream, peer, tls)).await;
            if let Some(Some(stream)) = established {
                ends.kill.run_until_cancelled(handler(stream, peer)).await;
            }
            drop(place);
        });
    }
}

/// The next connection. Errors of single connections are passed over, those of the system waited out.
async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = ACCEPT_PAUSE.0;
    loop {
        let error = match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        if matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
        ) {
            continue;
        }
        if pause == ACCEPT_PAUSE.0 {
            warn!(%error, "cannot accept connections, trying again until it works");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ACCEPT_PAUSE.1);
    }
}

/// TLS on a new connection, unless the client fails or dawdles.
async fn handshake(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    // Requests and frames are small and each waits for its answer.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "connection lost before the TLS handshake");
        return None;
    }
    match tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => debug!(%peer, "TLS handshake took too long"),
    }
    None
}

/// What the client showed in the TLS handshake.
pub(crate) fn certificate(stream: &TlsStream<TcpStream>) -> Option<ClientCertificate> {
    ClientCertificate::new(stream.get_ref().1.peer_certificates()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_zero_is_one_port_on_all_addresses() {
        let listener = Listener::bind(&[], 0).await.unwrap();
        assert_ne!(listener.port(), 0);
        for socket in &listener.sockets {
            assert_eq!(socket.local_addr().unwrap().port(), listener.port());
        }
        assert_eq!(listener.sockets[0].local_addr().unwrap().ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[tokio::test]
    async fn port_in_use_names_the_address() {
        let taken = Listener::bind(&[], 0).await.unwrap();
        let error = Listener::bind(&[], taken.port()).await.unwrap_err();
        assert_eq!(error.address, SocketAddr::from(([127, 0, 0, 1], taken.port())));
        assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn given_addresses_replace_the_loopback_pair() {
        let listener = Listener::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0).await.unwrap();
        assert_eq!(listener.sockets.len(), 1);
    }
}
