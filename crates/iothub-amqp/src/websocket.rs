//! AMQP through a WebSocket: a byte stream on both ends (amqp.md 1.1).
//!
//! Binary messages carry the same bytes as TCP would, cut anywhere. A text message is an error.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use iothub_common::{Error, ErrorKind, Result, connect_error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{HeaderValue, StatusCode},
        protocol::{Role, WebSocketConfig},
    },
};

/// Where hubs take WebSockets.
pub const PATH: &str = "/$iothub/websocket";
/// Where event hubs take them: a hub's built-in endpoint is one, elsewhere (amqp.md 1.1, 5.6).
const EVENT_HUBS_PATH: &str = "/$servicebus/websocket";
/// The sub-protocol that both ends name.
pub const PROTOCOL: &str = "AMQPWSB10";

/// The longest message accepted: frames are not, but what a peer writes at once may be in one message.
const MAX_INCOMING: usize = 1 << 20;
/// The longest message sent.
const MAX_OUTGOING: usize = 64 * 1024;
/// Kept by each connection, so small: a hub has many.
const READ_BUFFER: usize = 16 * 1024;

/// The bytes of a WebSocket.
#[derive(Debug)]
pub struct WebSocketIo<Io> {
    socket: WebSocketStream<Io>,
    /// What is left of the message that is being read.
    incoming: Bytes,
}

/// Performs the client's side of the handshake on a TLS stream. `host` and `port` name the hub.
///
/// # Errors
///
/// `Connect` when the peer is no hub or no WebSocket server, `Throttled` or `Unavailable` when it says so.
pub async fn connect<Io>(io: Io, host: &str, port: u16) -> Result<WebSocketIo<Io>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let authority = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
    let bad_host =
        |e| Error::new(ErrorKind::InvalidInput, format!("`{host}` is no host name")).with_source(e);
    let path = path(host);
    let mut request = format!("wss://{authority}{path}").into_client_request().map_err(bad_host)?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOL));
    let connected = client_async_with_config(request, io, Some(config())).await;
    let (socket, _) = connected.map_err(|error| refused(error, host, port))?;
    Ok(WebSocketIo { socket, incoming: Bytes::new() })
}

fn path(host: &str) -> &'static str {
    let namespace = host.split_once('.').is_some_and(|(_, domain)| domain.starts_with("servicebus."));
    if namespace { EVENT_HUBS_PATH } else { PATH }
}

/// The server's side of a stream on which HTTP was left already, by an upgrade.
pub async fn accepted<Io>(io: Io) -> WebSocketIo<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    WebSocketIo { socket, incoming: Bytes::new() }
}

/// The header `Sec-WebSocket-Accept` of the answer to an upgrade.
pub fn accept_key(request_key: &[u8]) -> String {
    tungstenite::handshake::derive_accept_key(request_key)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(MAX_OUTGOING)
        .max_message_size(Some(MAX_INCOMING))
        .max_frame_size(Some(MAX_INCOMING))
}

fn refused(error: tungstenite::Error, host: &str, port: u16) -> Error {
    let say = |kind, what: &str| Error::new(kind, format!("{host}:{port} was reached but {what}"));
    match error {
        tungstenite::Error::Io(error) => connect_error(host, port, error),
        tungstenite::Error::Http(response) => {
            let status = response.status();
            let kind = match status {
                StatusCode::TOO_MANY_REQUESTS => ErrorKind::Throttled,
                status if status.is_server_error() => ErrorKind::Unavailable,
                _ => ErrorKind::Connect,
            };
            say(kind, &format!("opens no WebSocket at {} (status {status}); is it a hub?", path(host)))
                .with_status(status.as_u16())
        }
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            say(ErrorKind::Connect, "its WebSocket does not speak AMQP (AMQPWSB10); is it a hub?")
        }
        error => {
            say(ErrorKind::Connect, "its answer to a WebSocket request makes no sense").with_source(error)
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketIo<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.incoming.has_remaining() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.incoming = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(invalid("a text message in an AMQP WebSocket")));
                }
                // Pings are answered by the WebSocket layer itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(end_or_error(error)),
            }
        }
        let count = self.incoming.len().min(out.remaining());
        out.put_slice(&self.incoming.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketIo<Io> {
    /// One binary message per write.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let count = bytes.len().min(MAX_OUTGOING);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.socket).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(end_or_error(error)),
        }
    }
}

/// A WebSocket that was closed in order is the end of the stream.
fn end_or_error(error: tungstenite::Error) -> io::Result<()> {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Ok(()),
        // Peers, and the proxies between, hang up without a close frame.
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(()),
        error => Err(io_error(error)),
    }
}

fn io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            io::ErrorKind::BrokenPipe.into()
        }
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
