#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_tungstenite::accept_hdr_async;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::*;
use crate::{
    Driver,
    proto::{Config, Event, Side},
    sasl,
};

type Peer = WebSocketStream<DuplexStream>;

/// A hub's side of the handshake that answers with `protocol`.
async fn accept(io: DuplexStream, protocol: Option<&'static str>) -> Peer {
    #[allow(clippy::result_large_err)]
    let callback = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().path(), "/$iothub/websocket");
        assert_eq!(request.headers()["sec-websocket-protocol"], "AMQPWSB10");
        assert_eq!(request.headers()["host"], "hub.example.net");
        if let Some(protocol) = protocol {
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        }
        Ok(response)
    };
    accept_hdr_async(io, callback).await.unwrap()
}

async fn both() -> (WebSocketIo<DuplexStream>, Peer) {
    let (near, far) = duplex(64 * 1024);
    let (near, far) = tokio::join!(connect(near, "hub.example.net", 443), accept(far, Some("AMQPWSB10")));
    (near.unwrap(), far)
}

#[tokio::test]
async fn bytes_come_out_as_they_went_in_however_messages_are_cut() {
    let (mut io, mut peer) = both().await;
    for part in [&b"AM"[..], b"", b"QP\x00\x01", b"\x00\x00more"] {
        peer.send(Message::Binary(Bytes::from_static(part))).await.unwrap();
        peer.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
    }
    let mut header = [0; 8];
    io.read_exact(&mut header).await.unwrap();
    assert_eq!(&header, b"AMQP\x00\x01\x00\x00");
    let mut rest = [0; 4];
    io.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"more");
}

#[tokio::test]
async fn a_write_is_one_binary_message_of_bounded_size() {
    let (mut io, mut peer) = both().await;
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let write = async {
        io.write_all(b"first").await.unwrap();
        io.write_all(&sent).await.unwrap();
        io.flush().await.unwrap();
        io
    };
    let read = async {
        let Message::Binary(first) = peer.next().await.unwrap().unwrap() else { panic!("not binary") };
        assert_eq!(&first[..], b"first");
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let Message::Binary(part) = peer.next().await.unwrap().unwrap() else { panic!("not binary") };
            assert!(part.len() <= MAX_OUTGOING);
            received.extend_from_slice(&part);
        }
        received
    };
    let (mut io, received) = tokio::join!(write, read);
    assert!(received == sent);
    io.shutdown().await.unwrap();
    assert!(matches!(peer.next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn a_close_is_the_end_and_text_is_an_error() {
    let (mut io, mut peer) = both().await;
    peer.close(None).await.unwrap();
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);

    let (mut io, peer) = both().await;
    drop(peer);
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);

    let (mut io, mut peer) = both().await;
    peer.send(Message::text("AMQP")).await.unwrap();
    assert_eq!(io.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_message_without_bound_is_refused() {
    let (mut io, mut peer) = both().await;
    let send = peer.send(Message::Binary(vec![0; MAX_INCOMING + 1].into()));
    let read = async move {
        let error = io.read(&mut [0; 1024]).await.unwrap_err();
        drop(io);
        error
    };
    let (_, error) = tokio::join!(send, read);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn who_is_no_hub_is_told_so() {
    async fn answered(answer: &str) -> Error {
        let (near, mut far) = duplex(64 * 1024);
        far.write_all(answer.as_bytes()).await.unwrap();
        let result = timeout(Duration::from_secs(10), connect(near, "hub.example.net", 443)).await.unwrap();
        result.unwrap_err()
    }
    for (answer, kind, status, says) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            ErrorKind::Connect,
            Some(404),
            "is it a hub?",
        ),
        ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", ErrorKind::Unavailable, Some(503), "503"),
        ("HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", ErrorKind::Throttled, Some(429), "429"),
        ("SSH-2.0-OpenSSH\r\n\r\n", ErrorKind::Connect, None, "makes no sense"),
    ] {
        let error = answered(answer).await;
        assert_eq!((error.kind(), error.status()), (kind, status), "{answer}");
        let text = error.to_string();
        assert!(text.contains("hub.example.net:443") && text.contains(says), "{text}");
    }

    let (near, far) = duplex(64 * 1024);
    let (result, _peer) = tokio::join!(connect(near, "hub.example.net", 443), accept(far, None));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("does not speak AMQP"), "{error}");
}

#[tokio::test]
async fn amqp_runs_in_it() {
    let (near, far) = duplex(64 * 1024);
    let (near, far) = tokio::join!(connect(near, "hub.example.net", 443), accept(far, Some("AMQPWSB10")));
    let mut near = near.unwrap();
    let mut far = WebSocketIo { socket: far, incoming: Bytes::new() };
    let client = async {
        sasl::client(&mut near).await.unwrap();
        let mut driver = Driver::new(near, Side::Client, Config::new("client"));
        let Event::Opened(open) = driver.next().await else { panic!("not opened") };
        assert_eq!(open.container_id, "server");
        driver.close(Duration::from_secs(10)).await;
    };
    let server = async {
        sasl::server(&mut far, &[], Duration::from_secs(10), |_| None::<()>).await.unwrap();
        let mut driver = Driver::new(far, Side::Server, Config::new("server"));
        while !matches!(driver.next().await, Event::Closed(_)) {}
        driver.finish(Duration::from_secs(10)).await;
    };
    let both = Box::pin(async { tokio::join!(client, server) });
    timeout(Duration::from_secs(30), both).await.unwrap();
}

#[test]
fn event_hubs_have_a_path_of_their_own() {
    for (host, expected) in [
        ("myhub.azure-devices.net", "/$iothub/websocket"),
        ("localhost", "/$iothub/websocket"),
        ("servicebus.example.net", "/$iothub/websocket"),
        ("ihsuprod-x.servicebus.windows.net", "/$servicebus/websocket"),
        ("x.servicebus.chinacloudapi.cn", "/$servicebus/websocket"),
    ] {
        assert_eq!(super::path(host), expected, "{host}");
    }
}
