//! Connections: through a proxy, over HTTP/2, not for ever; and tokens that are not the policy's.
#![allow(clippy::unwrap_used)]

mod support;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use iothub_service::{ClientOptions, ErrorKind, Proxy, Registry, RetryPolicy};
use support::{FakeHub, connection_string, device, json, server_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A proxy that answers every `CONNECT` with a status, and with 200 connects to where it was told. Gives the heads of
/// the requests it got.
async fn proxy(status: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let (port, heads) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    tokio::spawn({
        let heads = Arc::clone(&heads);
        async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, status, Arc::clone(&heads)));
            }
        }
    });
    (port, heads)
}

async fn pass(mut client: TcpStream, status: &str, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    client.write_all(format!("HTTP/1.1 {status}\r\nVia: test\r\n\r\n").as_bytes()).await.unwrap();
    if status.starts_with("200") {
        let mut hub = TcpStream::connect(target).await.unwrap();
        copy_bidirectional(&mut client, &mut hub).await.ok();
    }
}

fn through(hub: &FakeHub, url: &str) -> Registry {
    let options = ClientOptions { proxy: Some(Proxy::new(url).unwrap()), ..hub.options() };
    let retry = RetryPolicy::never();
    Registry::builder(&connection_string()).unwrap().options(options).retry(retry).build().unwrap()
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_connection_to_the_hub() {
    let hub = FakeHub::start([json(200, device("d", "MA=="))]).await;
    let (port, heads) = proxy("200 Connection established").await;
    through(&hub, &format!("http://user:pass@localhost:{port}")).get_device("d").await.unwrap();
    let target = format!("localhost:{}", hub.address.port());
    // base64 of `user:pass`
    let wanted = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
    );
    assert_eq!(*heads.lock().unwrap(), [wanted]);
    // The hub sees nothing of it.
    let request = hub.request();
    assert_eq!((request.header("Proxy-Authorization"), request.header("Host")), (None, Some("localhost")));
}

#[tokio::test]
async fn what_the_proxy_refuses_is_said_to_be_the_proxys() {
    for (status, kind, says) in [
        ("407 Proxy Authentication Required", ErrorKind::Unauthorized, "password"),
        ("403 Forbidden", ErrorKind::Connect, "403"),
        ("SSH", ErrorKind::Connect, "proxy"),
    ] {
        let hub = FakeHub::start([]).await;
        let (port, _) = proxy(status).await;
        let error = through(&hub, &format!("localhost:{port}")).create_device("d").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("localhost:{port}")) && text.contains(says), "{text}");
        assert!(!error.may_have_been_applied());
    }
}

#[tokio::test]
async fn a_proxy_that_is_down_is_named() {
    let port = TcpListener::bind("localhost:0").await.unwrap().local_addr().unwrap().port();
    let hub = FakeHub::start([]).await;
    let error = through(&hub, &format!("localhost:{port}")).get_device("d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&format!("proxy localhost:{port}")), "{error}");
}

#[tokio::test]
async fn exceptions_go_straight() {
    let hub = FakeHub::start([json(200, device("d", "MA=="))]).await;
    let (port, heads) = proxy("403 Forbidden").await;
    let proxy = Proxy::new(&format!("localhost:{port}")).unwrap().except("localhost");
    let options = ClientOptions { proxy: Some(proxy), ..hub.options() };
    let registry = Registry::from_connection_string_with(&connection_string(), options).unwrap();
    registry.get_device("d").await.unwrap();
    assert!(heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn connections_are_replaced_when_they_are_old() {
    let answers = || (0..3).map(|_| json(200, device("d", "MA==")));
    for (age, connections) in [(Duration::ZERO, [0, 1, 2]), (Duration::from_secs(3600), [0, 0, 0])] {
        let hub = FakeHub::start(answers()).await;
        let registry = hub.builder().connection_age(age).build().unwrap();
        for _ in 0..3 {
            registry.get_device("d").await.unwrap();
        }
        let seen: Vec<_> = hub.requests().iter().map(|request| request.connection).collect();
        assert_eq!(seen, connections, "{age:?}");
    }
}

/// Answers every request over HTTP/2 with a device, and keeps what it was asked: version, `:authority`, `Host`.
async fn http2_hub() -> (ClientOptions, Arc<Mutex<Vec<String>>>) {
    let (mut tls, options) = server_tls("localhost");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            while let Ok((tcp, _)) = listener.accept().await {
                let (stream, seen) = (acceptor.accept(tcp).await.unwrap(), Arc::clone(&seen));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let line = format!(
                        "{:?} {} {:?}",
                        request.version(),
                        request.uri(),
                        request.headers().get("host")
                    );
                    seen.lock().unwrap().push(line);
                    let body = Full::new(Bytes::from(device("d", "MA==").to_string()));
                    async move { Ok::<_, Infallible>(http::Response::new(body)) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        }
    });
    (ClientOptions { https_port: Some(port), ..options }, seen)
}

#[tokio::test]
async fn http2_is_spoken_where_the_server_offers_it() {
    let (options, seen) = http2_hub().await;
    let registry = Registry::from_connection_string_with(&connection_string(), options).unwrap();
    registry.get_device("d").await.unwrap();
    let calls = (0..10).map(|_| registry.get_device("d"));
    for device in futures_util::future::join_all(calls).await {
        assert_eq!(device.unwrap().device_id, "d");
    }
    let seen = seen.lock().unwrap();
    // The authority is the bare name, and no `Host` contradicts it.
    let wanted = "HTTP/2.0 https://localhost/devices/d?api-version=2021-04-12 None";
    assert_eq!(seen.len(), 11);
    assert!(seen.iter().all(|line| line == wanted), "{seen:?}");
}

#[cfg(feature = "entra-id")]
mod entra {
    use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
    use azure_core::error::ErrorKind as AzureKind;

    use super::*;

    #[derive(Debug, Default)]
    struct Counting {
        asked: Mutex<u32>,
        fails: bool,
    }

    #[async_trait::async_trait]
    impl TokenCredential for Counting {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, ["https://iothubs.azure.net/.default"]);
            *self.asked.lock().unwrap() += 1;
            if self.fails {
                return Err(azure_core::Error::with_message(AzureKind::Credential, "no such tenant"));
            }
            let in_an_hour = std::time::SystemTime::now() + Duration::from_secs(3600);
            Ok(AccessToken::new("header.payload.signature", in_an_hour.into()))
        }
    }

    #[tokio::test]
    async fn calls_carry_a_token_that_is_asked_for_once() {
        let hub = FakeHub::start((0..2).map(|_| json(200, device("d", "MA==")))).await;
        let credential = Arc::new(Counting::default());
        let registry =
            Registry::with_token_credential("localhost", credential.clone(), hub.options()).unwrap();
        assert_eq!(*credential.asked.lock().unwrap(), 0);
        registry.get_device("d").await.unwrap();
        registry.get_device("d").await.unwrap();
        assert_eq!(*credential.asked.lock().unwrap(), 1);
        for request in hub.requests() {
            assert_eq!(request.header("Authorization"), Some("Bearer header.payload.signature"));
        }
        assert!(!format!("{registry:?}").contains("signature"));
    }

    #[tokio::test]
    async fn a_credential_without_a_token_is_unauthorized() {
        let hub = FakeHub::start([]).await;
        let credential = Arc::new(Counting { fails: true, ..Counting::default() });
        let registry = Registry::with_token_credential("localhost", credential, hub.options()).unwrap();
        let error = registry.get_device("d").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no such tenant"), "{source}");
        assert!(hub.requests().is_empty());
    }
}
