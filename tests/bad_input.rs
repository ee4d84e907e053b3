//! What wrong input gets: one test for each sentence of the promise.
#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error as _;

use iothub::{ClientOptions, ErrorKind, ModuleClient, Registry, TwinPatch};
use iothub_emulator::LocalHub;
use serde_json::{Value, json};
use support::{Bench, DEVICE, MODULE, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A well-formed key that is not the module's.
const WRONG_KEY: &str = "d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXkh";

#[tokio::test]
async fn a_wrong_key_is_unauthorized_at_connect_and_says_what_to_check() {
    let bench = Bench::start().await;
    let wrong = bench.module_with("SharedAccessKey", WRONG_KEY);
    let error = within(ModuleClient::connect_with(&wrong, bench.options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("key"), "{error}");
    assert!(!format!("{error:?}{error}").contains(WRONG_KEY));

    let string = bench.hub.connection_string();
    let (head, _) = string.split_once("SharedAccessKey=").unwrap();
    let string = format!("{head}SharedAccessKey={WRONG_KEY}");
    let registry = Registry::from_connection_string_with(&string, bench.options()).unwrap();
    let error = within(registry.get_device(DEVICE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("key"), "{error}");
    assert!(!format!("{error:?}{error}{registry:?}").contains(WRONG_KEY));
}

#[tokio::test]
async fn an_unknown_module_is_not_found_naming_device_and_module() {
    let bench = Bench::start().await;
    let unknown = bench.module_with("ModuleId", "nobody");
    let error = within(ModuleClient::connect_with(&unknown, bench.options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains(DEVICE) && text.contains("nobody"), "{text}");

    let error = within(bench.registry.get_module(DEVICE, "nobody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains(DEVICE) && text.contains("nobody"), "{text}");
}

#[tokio::test]
async fn bad_twin_keys_are_refused_before_anything_is_sent_naming_the_path() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    for (key, path) in [("a.b", "outer.a.b"), ("$a", "outer.$a"), ("a b", "outer.a b")] {
        let patch = json!({ "fine": 1, "outer": { key: 1 } });
        let error = within(client.twin().report(&patch)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(path), "{error}");
        assert!(!error.may_have_been_applied());

        let patch = TwinPatch::new().desired(&patch);
        let update = bench.registry.update_module_twin(DEVICE, MODULE, &patch);
        let error = within(update).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(path), "{error}");
    }
    let twin = within(bench.registry.get_module_twin(DEVICE, MODULE)).await.unwrap();
    assert_eq!((twin.properties.desired.version(), twin.properties.reported.version()), (1, 1));
}

#[tokio::test]
async fn a_hub_that_is_down_gives_a_connect_error_with_the_address() {
    let bench = Bench::start().await;
    let (module, connection_string) = (bench.module.clone(), bench.hub.connection_string());
    let (amqps, https) = (bench.hub.amqps_port(), bench.hub.https_port());
    let options = bench.options();
    within(bench.hub.shutdown()).await;

    let builder = ModuleClient::builder(&module).unwrap().options(options.clone());
    let error = within(builder.retry(iothub::RetryPolicy::never()).connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&format!("localhost:{amqps}")), "{error}");
    assert!(error.is_retryable());

    let registry = Registry::from_connection_string_with(&connection_string, options).unwrap();
    let error = within(registry.get_device(DEVICE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&format!("localhost:{https}")), "{error}");
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_says_so() {
    let bench = Bench::start().await;
    let other = LocalHub::start().await.unwrap();
    let distrust = ClientOptions { tls: other.client_options().tls, ..bench.options() };
    let error = within(ModuleClient::connect_with(&bench.module, distrust.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
    assert!(error.to_string().contains("not trusted"), "{error}");
    assert!(error.source().is_some());

    let string = bench.hub.connection_string();
    let registry = Registry::from_connection_string_with(&string, distrust).unwrap();
    let error = within(registry.get_device(DEVICE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
    assert!(error.to_string().contains("not trusted"), "{error}");
}

#[tokio::test]
async fn wrong_connection_strings_say_which_kind_was_expected() {
    let bench = Bench::start().await;
    let error = ModuleClient::connect(&bench.hub.connection_string()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = Registry::from_connection_string(&bench.module).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let device = within(bench.registry.get_device(DEVICE)).await.unwrap();
    let device = device.connection_string(bench.registry.host_name()).unwrap();
    let error = ModuleClient::connect(&device).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("ModuleId"), "{error}");
}

#[tokio::test]
async fn garbage_on_either_port_ends_that_connection_and_nothing_else() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    for port in [bench.hub.amqps_port(), bench.hub.https_port()] {
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        plain.write_all(b"this is no TLS at all, not even nearly").await.unwrap();
        ends(plain).await;
    }
    // Inside TLS: first no protocol header, then a header and a frame that is garbage.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"AMQP\x00\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff"] {
        let mut tls = tls(&bench, bench.hub.amqps_port()).await;
        tls.write_all(garbage).await.unwrap();
        tls.flush().await.unwrap();
        ends(tls).await;
    }
    assert_eq!(within(client.twin().report(&json!({ "still": "here" }))).await.unwrap(), 2);
    assert!(client.status().is_connected());
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_large_gets_the_right_status_and_changes_nothing() {
    let bench = Bench::start().await;
    let (status, body) = put_twin(&bench, b"{ \"properties\": ").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("ErrorCode:"), "{body}");
    let large = format!("{{\"tags\":{{\"a\":\"{}\"}}}}", "x".repeat(4 << 20));
    let (status, body) = put_twin(&bench, large.as_bytes()).await;
    assert_eq!(status, 413, "{body}");
    let twin = within(bench.registry.get_module_twin(DEVICE, MODULE)).await.unwrap();
    assert_eq!(twin.properties.desired.version(), 1);
}

/// Waits until the peer has closed, whatever it says before.
async fn ends(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.ok();
}

async fn tls(bench: &Bench, port: u16) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = bench.options().tls.client_config(&[]).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = "localhost".try_into().unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap()
}

/// A raw PATCH of the module twin, with a token made by the policy's key.
async fn put_twin(bench: &Bench, body: &[u8]) -> (u16, String) {
    let policy: iothub_common::ServiceConnectionString = bench.hub.connection_string().parse().unwrap();
    let token = policy.token_source().unwrap().token(std::time::SystemTime::now()).unwrap();
    let head = format!(
        "PATCH /twins/{DEVICE}/modules/{MODULE}?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        token.secret.reveal(),
        body.len()
    );
    let mut tls = tls(bench, bench.hub.https_port()).await;
    tls.write_all(head.as_bytes()).await.unwrap();
    // The hub may answer and close before it has read everything.
    tls.write_all(body).await.ok();
    tls.flush().await.ok();
    let mut answer = Vec::new();
    within(tls.read_to_end(&mut answer)).await.ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    assert!(serde_json::from_str::<Value>(&body).is_ok(), "{answer}");
    (status, body)
}
