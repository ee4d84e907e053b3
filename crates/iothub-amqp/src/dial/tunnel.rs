//! The way through an HTTP proxy: `CONNECT`, then bytes to and from the hub.

use std::io;

use iothub_common::{Proxy, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Opens a connection to `host:port` through the proxy.
pub(super) async fn open(proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream> {
    let tunnel = proxy.tunnel(host, port);
    let failed = |error: io::Error| tunnel.unreachable(error);
    let mut stream = TcpStream::connect((proxy.host(), proxy.port())).await.map_err(failed)?;
    stream.write_all(tunnel.request().reveal().as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    while !tunnel.is_complete(&head)? {
        if stream.read_buf(&mut head).await.map_err(failed)? == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    tunnel.answer(&head)?;
    Ok(stream)
}
