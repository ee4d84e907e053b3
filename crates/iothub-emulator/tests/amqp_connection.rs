//! What is on the wire around sessions and links: headers, `open`, garbage, the end.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::sync::Arc;

use amqp_client::{Client, condition, connection_state, create_device, tls};
use fe2o3_amqp::connection::Error as ConnectionError;
use fe2o3_amqp::frames::amqp::{FrameBody, FrameDecoder};
use iothub_emulator::LocalHub;
use support::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_rustls::client::TlsStream;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";
const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";
/// An `open` with nothing but the container id `raw`.
const OPEN: &[u8] = b"\x00\x00\x00\x13\x02\x00\x00\x00\x00\x53\x10\xc0\x06\x01\xa1\x03raw";

struct Raw(TlsStream<TcpStream>);

impl Raw {
    async fn connect(hub: &LocalHub) -> Self {
        Self(tls(hub).await)
    }

    async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.unwrap();
        soon(self.0.flush()).await.unwrap();
    }

    async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        soon(self.0.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, bytes);
    }

    /// A frame without its length.
    async fn bytes(&mut self) -> BytesMut {
        let len = soon(self.0.read_u32()).await.unwrap() as usize - 4;
        let mut frame = BytesMut::zeroed(len);
        soon(self.0.read_exact(&mut frame)).await.unwrap();
        frame
    }

    async fn frame(&mut self) -> FrameBody {
        (FrameDecoder {}).decode(&mut self.bytes().await).unwrap().unwrap().body
    }

    async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        soon(self.0.read_to_end(&mut rest)).await.ok();
        assert!(rest.is_empty(), "{rest:?}");
    }

    /// Headers and opens of both sides.
    async fn open(hub: &LocalHub) -> Self {
        let mut raw = Self::connect(hub).await;
        raw.send(AMQP).await;
        raw.send(OPEN).await;
        raw.expect(AMQP).await;
        assert!(matches!(raw.frame().await, FrameBody::Open(_)));
        raw
    }
}

async fn assert_serves(hub: &LocalHub) {
    let identity = create_device(hub, "witness");
    let mut client = Client::authenticated(hub, &[&identity]).await;
    assert_eq!(client.twin(&identity).await.get().await.status(), 200);
}

#[tokio::test]
async fn open_says_what_the_real_hub_says() {
    let hub = LocalHub::start().await.unwrap();
    let mut raw = Raw::connect(&hub).await;
    raw.send(AMQP).await;
    raw.expect(AMQP).await;
    raw.send(OPEN).await;
    let FrameBody::Open(open) = raw.frame().await else { panic!("no open") };
    let id = open.container_id.strip_prefix("DeviceGateway_").unwrap();
    assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    assert_eq!(
        (open.max_frame_size.0, open.channel_max.0, open.idle_time_out),
        (65_536, 8191, Some(240_000))
    );
    assert!(open.properties.is_none());

    // begin with next-outgoing-id 0 and windows of 2048.
    raw.send(b"\x00\x00\x00\x1a\x02\x00\x00\x00\x00\x53\x11\xc0\x0d\x04\x40\x43\x70\x00\x00\x08\x00\x70\x00\x00\x08\x00")
        .await;
    let FrameBody::Begin(begin) = raw.frame().await else { panic!("no begin") };
    assert_eq!((begin.remote_channel, begin.next_outgoing_id), (Some(0), 1));
    assert_eq!((begin.incoming_window, begin.outgoing_window), (5000, u32::MAX));
    assert!(begin.handle_max.0 >= 1024);

    // close
    raw.send(b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x18\x45").await;
    let FrameBody::Close(close) = raw.frame().await else { panic!("no close") };
    assert!(close.error.is_none());
    raw.expect_end().await;
}

#[tokio::test]
async fn sasl_offers_what_clients_use() {
    let hub = LocalHub::start().await.unwrap();
    let mut raw = Raw::connect(&hub).await;
    raw.send(SASL).await;
    raw.expect(SASL).await;
    let offer = raw.bytes().await;
    let has = |name: &[u8]| offer.windows(name.len()).any(|window| window == name);
    assert!(has(b"ANONYMOUS") && has(b"MSSBCBS") && has(b"PLAIN"), "{offer:?}");
    // The C SDK and Python: MSSBCBS without a response.
    raw.send(b"\x00\x00\x00\x17\x02\x01\x00\x00\x00\x53\x41\xc0\x0a\x01\xa3\x07MSSBCBS").await;
    let outcome = raw.bytes().await;
    assert!(outcome.starts_with(b"\x02\x01\x00\x00\x00\x53\x44"), "{outcome:?}");
    assert_eq!(outcome.last(), Some(&0), "the code ok");
    raw.send(AMQP).await;
    raw.expect(AMQP).await;
    raw.send(OPEN).await;
    assert!(matches!(raw.frame().await, FrameBody::Open(_)));
}

#[tokio::test]
async fn garbage_ends_its_connection_and_no_other() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&identity]).await;
    let mut twin = client.twin(&identity).await;

    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"AMQP\x00\x00\x09\x01", b"AMQP\x02\x01\x00\x00"] {
        let mut raw = Raw::connect(&hub).await;
        raw.send(garbage).await;
        // The header says what would have been understood.
        raw.expect(AMQP).await;
        raw.expect_end().await;
    }
    for garbage in [
        // Too long, too short, a wrong data offset, no performative, one nobody knows, a frame on no session.
        &b"\xff\xff\xff\xff\x02\x00\x00\x00"[..],
        b"\x00\x00\x00\x05\x02\x00\x00\x00",
        b"\x00\x00\x00\x08\x09\x00\x00\x00",
        b"\x00\x00\x00\x0c\x02\x00\x00\x00\xde\xad\xbe\xef",
        b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x99\x45",
        b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x17\x45",
        OPEN,
    ] {
        let mut raw = Raw::open(&hub).await;
        raw.send(garbage).await;
        let FrameBody::Close(close) = raw.frame().await else { panic!("no close after {garbage:?}") };
        assert_eq!(
            condition(&close.error.unwrap().condition),
            "amqp:connection:framing-error",
            "{garbage:?}"
        );
        raw.expect_end().await;
    }
    // Ends in the middle of a frame.
    let mut raw = Raw::open(&hub).await;
    raw.send(b"\x00\x00\x01\x00\x02").await;
    drop(raw);

    assert_eq!(twin.get().await.status(), 200);
    assert_serves(&hub).await;
}

#[tokio::test]
async fn a_vanished_client_is_disconnected() {
    let hub = Arc::new(LocalHub::start().await.unwrap());
    let identity = create_device(&hub, "d");
    let elsewhere = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let connected = elsewhere.spawn({
        let hub = Arc::clone(&hub);
        async move {
            let mut client = Client::authenticated(&hub, &[&identity]).await;
            let twin = client.twin(&identity).await;
            (client, twin)
        }
    });
    let handles = soon(connected).await.unwrap();
    assert_eq!(connection_state(&hub, "d"), "Connected");
    // Its tasks and its socket are gone before they can say anything.
    elsewhere.shutdown_background();
    drop(handles);
    soon(async {
        while connection_state(&hub, "d") == "Connected" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn shutting_down_says_goodbye() {
    let hub = LocalHub::start().await.unwrap();
    let identity = create_device(&hub, "d");
    let mut client = Client::authenticated(&hub, &[&identity]).await;
    let _twin = client.twin(&identity).await;
    // Neither somebody who says nothing nor one in the middle of a login holds it up.
    let _silent = Raw::connect(&hub).await;
    let mut half = Raw::connect(&hub).await;
    half.send(SASL).await;
    let (ended, closed) = tokio::join!(soon(hub.shutdown()), soon(client.connection.on_close()));
    let ((), Err(ConnectionError::RemoteClosedWithError(error))) = (ended, closed) else {
        panic!("no error")
    };
    assert_eq!(condition(&error.condition), "amqp:connection:forced");
}
