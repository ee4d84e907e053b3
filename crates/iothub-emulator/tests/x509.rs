//! Client certificates on the wire: SASL EXTERNAL, links without tokens, device endpoints over HTTPS.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Arc;

use fe2o3_amqp::{Connection, Sender, Session};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use support::{read_reply, request, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";
const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";

/// `sasl-init` with nothing but the mechanism: a list of one symbol.
const INIT: &[u8] = b"\x00\x00\x00\x18\x02\x01\x00\x00\x00\x53\x41\xc0\x0b\x01\xa3\x08EXTERNAL";

struct Shown {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Shown {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "anything");
        Self { certificate: params.self_signed(&key).unwrap().der().clone(), key }
    }

    fn thumbprint(&self) -> String {
        Sha1::digest(&self.certificate).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    async fn connect(&self, hub: &LocalHub, port: u16) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(hub.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], key)
            .unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

fn put(hub: &LocalHub, id: &str, shown: &Shown) {
    let thumbprint = json!({ "primaryThumbprint": shown.thumbprint() });
    let body = json!({ "authentication": { "type": "selfSigned", "x509Thumbprint": thumbprint } });
    hub.hub().put_device(id, &body, Precondition::None).unwrap();
}

async fn mechanisms(stream: &mut TlsStream<TcpStream>) -> String {
    soon(stream.write_all(SASL)).await.unwrap();
    let mut header = [0; 8];
    soon(stream.read_exact(&mut header)).await.unwrap();
    assert_eq!(header, SASL);
    let length = soon(stream.read_u32()).await.unwrap() as usize - 4;
    let mut frame = vec![0; length];
    soon(stream.read_exact(&mut frame)).await.unwrap();
    String::from_utf8_lossy(&frame).into_owned()
}

#[tokio::test]
async fn external_is_offered_to_who_showed_a_certificate() {
    let hub = LocalHub::start().await.unwrap();
    let mut without = support::connect_to(&hub, [127, 0, 0, 1].into(), hub.amqps_port()).await.unwrap();
    let offered = mechanisms(&mut without).await;
    assert!(offered.contains("PLAIN") && !offered.contains("EXTERNAL"), "{offered}");

    let mut with = Shown::new().connect(&hub, hub.amqps_port()).await;
    let offered = mechanisms(&mut with).await;
    assert!(offered.contains("ANONYMOUS") && offered.contains("EXTERNAL"), "{offered}");
    soon(with.write_all(INIT)).await.unwrap();
    let length = soon(with.read_u32()).await.unwrap() as usize - 4;
    let mut outcome = vec![0; length];
    soon(with.read_exact(&mut outcome)).await.unwrap();
    // sasl-outcome, code 0: ubyte, or its short form.
    assert!(outcome.windows(2).any(|w| w == [0x53, 0x44]) && outcome.ends_with(&[0x50, 0]), "{outcome:?}");
    soon(with.write_all(AMQP)).await.unwrap();
    let mut header = [0; 8];
    soon(with.read_exact(&mut header)).await.unwrap();
    assert_eq!(header, AMQP);
}

#[tokio::test]
async fn links_need_no_token_where_the_certificate_is_known() {
    let hub = LocalHub::start().await.unwrap();
    let shown = Shown::new();
    put(&hub, "d", &shown);
    put(&hub, "other", &Shown::new());
    let stream = shown.connect(&hub, hub.amqps_port()).await;
    let builder = Connection::builder().container_id("stock").hostname("localhost");
    let mut connection = soon(Box::pin(builder.open_with_stream(stream))).await.unwrap();
    let mut session = soon(Session::begin(&mut connection)).await.unwrap();
    let mut sender =
        soon(Sender::attach(&mut session, "events", "/devices/d/messages/events")).await.unwrap();
    soon(sender.send("hello")).await.unwrap().accepted_or("not accepted").unwrap();
    assert_eq!(hub.hub().get_device("d").unwrap()["connectionState"], "Connected");

    let refused = soon(Sender::attach(&mut session, "stranger", "/devices/other/messages/events")).await;
    let text = format!("{:?}", refused.unwrap_err());
    assert!(text.contains("UnauthorizedAccess") && text.contains("thumbprint"), "{text}");
    soon(connection.close()).await.ok();
}

#[tokio::test]
async fn https_takes_it_on_the_endpoints_of_devices_only() {
    let hub = LocalHub::start().await.unwrap();
    let shown = Shown::new();
    put(&hub, "d", &shown);
    for (method, path, expected) in [
        ("POST", "/devices/d/messages/events", 204),
        ("POST", "/devices/nobody/messages/events", 404),
        // Services have no certificates.
        ("GET", "/devices/d", 401),
        ("GET", "/twins/d", 401),
    ] {
        let mut stream = shown.connect(&hub, hub.https_port()).await;
        soon(stream.write_all(request(method, path, &[], "hello").as_bytes())).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.status, expected, "{method} {path}");
    }
    let mut stream = Shown::new().connect(&hub, hub.https_port()).await;
    let sent = request("POST", "/devices/d/messages/events", &[], "hello");
    soon(stream.write_all(sent.as_bytes())).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.status, 401);
}
