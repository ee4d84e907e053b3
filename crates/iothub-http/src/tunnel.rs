//! The way through an HTTP proxy: `CONNECT`, then bytes to and from the server.
//!
//! hyper-util has a tunnel too, but hides what the proxy answered; "wrong password" must not look like "no such host".

use std::io;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use iothub_common::{Error, ErrorKind, Proxy, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_service::Service as _;

/// Opens a connection to `host:port` through the proxy.
pub(crate) async fn open(
    mut tcp: HttpConnector,
    proxy: Proxy,
    host: &str,
    port: u16,
) -> Result<TokioIo<TcpStream>> {
    let tunnel = proxy.tunnel(host, port);
    let uri = address(&proxy)?;
    std::future::poll_fn(|cx| tcp.poll_ready(cx)).await.map_err(|error| tunnel.unreachable(error))?;
    let stream = tcp.call(uri).await.map_err(|error| tunnel.unreachable(error))?;
    let mut stream = stream.into_inner();

    let request = tunnel.request();
    stream.write_all(request.reveal().as_bytes()).await.map_err(|error| tunnel.unreachable(error))?;
    let mut head = Vec::new();
    while !tunnel.is_complete(&head)? {
        match stream.read_buf(&mut head).await {
            Ok(0) => return Err(tunnel.unreachable(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(_) => {}
            Err(error) => return Err(tunnel.unreachable(error)),
        }
    }
    tunnel.answer(&head)?;
    Ok(TokioIo::new(stream))
}

fn address(proxy: &Proxy) -> Result<Uri> {
    let (host, port) = (proxy.host(), proxy.port());
    let text =
        if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") };
    text.parse().map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("`{text}` is no address of a proxy")).with_source(error)
    })
}
