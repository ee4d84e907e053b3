//! The way through an HTTP proxy: `CONNECT`, then bytes to and from the hub.
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

/// The longest head of an answer that is read.
const LONGEST_HEAD: usize = 8 * 1024;

/// Opens a connection to `host:port` through the proxy.
pub(crate) async fn open(
    mut tcp: HttpConnector,
    proxy: Proxy,
    host: &str,
    port: u16,
) -> Result<TokioIo<TcpStream>> {
    let (name, target) = (address(proxy.host(), proxy.port()), address(host, port));
    let uri: Uri = format!("http://{name}").parse().map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("`{name}` is no address of a proxy")).with_source(error)
    })?;
    let unreachable = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("could not reach the proxy {name} on the way to {target}; check its address");
        Error::new(ErrorKind::Connect, message).with_source(error)
    };
    std::future::poll_fn(|cx| tcp.poll_ready(cx)).await.map_err(|error| unreachable(error.into()))?;
    let stream = tcp.call(uri).await.map_err(|error| unreachable(error.into()))?;
    let mut stream = stream.into_inner();
    let status = ask(&mut stream, &proxy, &target).await.map_err(|error| {
        let message = format!("the proxy {name} did not answer as an HTTP proxy does");
        Error::new(ErrorKind::Connect, message).with_source(error)
    })?;
    match status {
        200..300 => Ok(TokioIo::new(stream)),
        407 => {
            let message = format!(
                "the proxy {name} does not accept the user and password, or wants some; they belong into its URL"
            );
            Err(Error::new(ErrorKind::Unauthorized, message).with_status(status))
        }
        _ => {
            let message = format!(
                "the proxy {name} gave no connection to {target} (status {status}); does it allow that host?"
            );
            Err(Error::new(ErrorKind::Connect, message).with_status(status))
        }
    }
}

async fn ask(stream: &mut TcpStream, proxy: &Proxy, target: &str) -> io::Result<u16> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = proxy.authorization() {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.reveal()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;

    let mut head = Vec::new();
    // The hub says nothing before our first word of TLS, so nothing of it is read here.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    status(&head).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The status of `HTTP/1.1 200 Connection established`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

/// `host:port`, with brackets around an IPv6 address.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (head, wanted) in [
            (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], Some(200)),
            (b"HTTP/1.0 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", Some(407)),
            (b"HTTP/1.1 200\r\n\r\n", Some(200)),
            (b"SSH-2.0-OpenSSH\r\n\r\n", None),
            (b"HTTP/1.1 abc\r\n\r\n", None),
            (b"\r\n\r\n", None),
        ] {
            assert_eq!(status(head), wanted, "{head:?}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address("proxy", 80), "proxy:80");
        assert_eq!(address("::1", 80), "[::1]:80");
    }
}
