//! AMQP 1.0 on the hub's AMQPS port.

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

/// Serves one connection until it ends or `shutdown` is cancelled.
pub(crate) async fn serve(stream: TlsStream<TcpStream>, hub: Hub, shutdown: CancellationToken) {
    drop((stream, hub, shutdown));
}
