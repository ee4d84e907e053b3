//! AMQP in WebSockets, as clients of other makes ask for it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use fe2o3_amqp::{Connection, Session};
use futures_util::{SinkExt, StreamExt};
use iothub_emulator::LocalHub;
use support::{call, connect, raw, read_reply, request, soon};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";
/// An `open` with nothing but the container id `raw`.
const OPEN: &[u8] = b"\x00\x00\x00\x13\x02\x00\x00\x00\x00\x53\x10\xc0\x06\x01\xa1\x03raw";

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Asks for a WebSocket at a path with sub-protocols.
async fn ask(
    hub: &LocalHub,
    path: &str,
    protocols: &str,
) -> tungstenite::Result<(Socket, Response<Option<Vec<u8>>>)> {
    let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(protocols).unwrap());
    let stream = connect(hub).await;
    soon(Box::pin(client_async(request, stream))).await
}

async fn open(hub: &LocalHub) -> Socket {
    ask(hub, "/$iothub/websocket", "AMQPWSB10").await.unwrap().0
}

/// So many bytes, over however many messages they come.
async fn read(socket: &mut Socket, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match soon(socket.next()).await.unwrap().unwrap() {
            Message::Binary(part) => bytes.extend_from_slice(&part),
            other => panic!("no binary message: {other:?}"),
        }
    }
    bytes
}

#[tokio::test]
async fn it_is_found_where_the_clients_look_for_it() {
    let hub = LocalHub::start().await.unwrap();
    for path in [
        "/$iothub/websocket",
        "/%24iothub/websocket",
        // Java's, for devices and services (amqp.md 1.1).
        "/$iothub/websocket?iothub-no-client-cert=true",
        // The built-in Event Hubs endpoint.
        "/$servicebus/websocket",
    ] {
        let (mut socket, response) = ask(&hub, path, "AMQPWSB10").await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "AMQPWSB10", "{path}");
        soon(socket.send(Message::binary(AMQP))).await.unwrap();
        assert_eq!(read(&mut socket, 8).await, AMQP, "{path}");
    }
}

#[tokio::test]
async fn messages_are_cut_and_joined_in_any_way() {
    let hub = LocalHub::start().await.unwrap();
    let answer = |bytes: Vec<u8>| {
        assert_eq!(&bytes[..8], AMQP);
        // An open (descriptor 0x10) on channel 0.
        assert_eq!(&bytes[12..17], [2, 0, 0, 0, 0]);
        assert!(bytes[17..].starts_with(&[0x53, 0x10]), "{bytes:?}");
    };
    let mut socket = open(&hub).await;
    for byte in AMQP.iter().chain(OPEN) {
        soon(socket.send(Message::binary(vec![*byte]))).await.unwrap();
    }
    answer(read(&mut socket, 40).await);

    let mut socket = open(&hub).await;
    let all = [AMQP, OPEN].concat();
    soon(socket.send(Message::binary(all))).await.unwrap();
    answer(read(&mut socket, 40).await);
}

#[tokio::test]
async fn a_client_of_another_make_opens_and_closes() {
    let hub = LocalHub::start().await.unwrap();
    let stream = iothub_amqp::websocket::connect(connect(&hub).await, "localhost", 443).await.unwrap();
    let builder = Connection::builder().container_id("stock").hostname("localhost");
    let mut connection = soon(Box::pin(builder.open_with_stream(stream))).await.unwrap();
    let mut session = soon(Session::begin(&mut connection)).await.unwrap();
    soon(session.end()).await.unwrap();
    soon(connection.close()).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_goes_closes_amqp_and_then_the_websocket() {
    let hub = LocalHub::start().await.unwrap();
    let mut socket = open(&hub).await;
    soon(socket.send(Message::binary([AMQP, OPEN].concat()))).await.unwrap();
    read(&mut socket, 40).await;
    let shutdown = tokio::spawn(hub.shutdown());
    let mut closes = 0;
    loop {
        match soon(socket.next()).await {
            // A close (descriptor 0x18).
            Some(Ok(Message::Binary(frame))) => {
                closes += usize::from(frame.windows(2).any(|window| window == [0x53, 0x18]));
                soon(socket.send(Message::binary(&b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x18\x45"[..])))
                    .await
                    .unwrap();
            }
            Some(Ok(Message::Close(_))) => break,
            other => panic!("no goodbye: {other:?}"),
        }
    }
    assert_eq!(closes, 1);
    soon(shutdown).await.unwrap();
}

#[tokio::test]
async fn other_wishes_are_refused_and_leave_the_connection_to_rest() {
    let hub = LocalHub::start().await.unwrap();
    let refused = ask(&hub, "/$iothub/websocket", "mqtt, chat").await.err();
    assert!(matches!(&refused, Some(tungstenite::Error::Http(r)) if r.status() == 400), "{refused:?}");
    let nowhere = ask(&hub, "/elsewhere/websocket", "AMQPWSB10").await.err();
    assert!(matches!(&nowhere, Some(tungstenite::Error::Http(r)) if r.status() == 404), "{nowhere:?}");

    let plain = raw(&hub, request("GET", "/$iothub/websocket", &[], "").as_bytes()).await;
    assert_eq!(plain.status, 426);
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));

    // Refused and then a request like any other, on one connection.
    let mut stream = connect(&hub).await;
    soon(stream.write_all(request("GET", "/$iothub/websocket", &[], "").as_bytes())).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.status, 426);
    soon(stream.write_all(request("GET", "/devices/nobody", &[], "").as_bytes())).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.status, 401);
    assert_eq!(call(&hub, "GET", "/devices", &[], "").await.status, 200);
}

#[tokio::test]
async fn text_and_silence_end_a_websocket() {
    let hub = LocalHub::start().await.unwrap();
    let mut socket = open(&hub).await;
    soon(socket.send(Message::text("AMQP"))).await.unwrap();
    // Whatever the goodbye, it ends.
    while let Some(Ok(_)) = soon(socket.next()).await {}
}
