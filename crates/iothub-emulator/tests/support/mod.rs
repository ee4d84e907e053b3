//! A raw HTTPS client, so that tests see what is on the wire and can send what no real client would.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use iothub_common::sas;
use iothub_common::{ServiceConnectionString, SymmetricKey};
use iothub_emulator::LocalHub;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The api-version every request of these tests has.
pub const VERSION: &str = "api-version=2021-04-12";

/// Waits under a limit that only a hang reaches.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("did not happen within a minute")
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is a refusal in shape A (rest.md 2.1) and gives its text.
    pub fn refusal(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("iothub-errorcode"), Some(name));
        let body = self.json();
        let exception = body["ExceptionMessage"].as_str().unwrap();
        assert!(exception.starts_with("Tracking ID:"), "{exception}");
        assert_eq!(body.as_object().unwrap().len(), 2);
        let message = body["Message"].as_str().unwrap();
        let prefix = format!("ErrorCode:{name};");
        message.strip_prefix(&prefix).expect(message).to_owned()
    }
}

/// A TLS connection to the hub's HTTPS port.
pub async fn connect(hub: &LocalHub) -> TlsStream<TcpStream> {
    connect_to(hub, IpAddr::V4(Ipv4Addr::LOCALHOST), hub.https_port()).await.unwrap()
}

/// A TLS connection that trusts the hub's authority only.
pub async fn connect_to(hub: &LocalHub, address: IpAddr, port: u16) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((address, port)).await?;
    let name = ServerName::try_from(hub.host_name().to_owned()).unwrap();
    TlsConnector::from(trusting(hub.ca_pem())).connect(name, stream).await
}

pub fn trusting(ca_pem: &str) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Reads one answer, `100 Continue` included.
pub async fn read_reply(stream: &mut TlsStream<TcpStream>) -> Reply {
    soon(async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        reply.body = vec![0; length];
        stream.read_exact(&mut reply.body).await.unwrap();
        reply
    })
    .await
}

/// Sends bytes on a new connection and reads one answer.
pub async fn raw(hub: &LocalHub, request: &[u8]) -> Reply {
    let mut stream = connect(hub).await;
    soon(stream.write_all(request)).await.unwrap();
    soon(stream.flush()).await.unwrap();
    read_reply(&mut stream).await
}

/// A request with the owner's token. `headers` are whole lines without the line end.
pub async fn call(hub: &LocalHub, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
    let token = format!("Authorization: {}", owner_token(hub));
    let mut all = vec![token.as_str()];
    all.extend(headers);
    raw(hub, request(method, path, &all, body).as_bytes()).await
}

/// The text of a request to `path`, with the api-version added.
pub fn request(method: &str, path: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    format!(
        "{method} {path}?{VERSION} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

/// The key of the policy `iothubowner`.
pub fn owner_key(hub: &LocalHub) -> SymmetricKey {
    let text = hub.connection_string();
    // Checked elsewhere that it parses; here only the key is wanted.
    text.parse::<ServiceConnectionString>().unwrap();
    SymmetricKey::from_base64(text.split_once(";SharedAccessKey=").unwrap().1).unwrap()
}

/// A good token of the policy `iothubowner`.
pub fn owner_token(hub: &LocalHub) -> String {
    token(&owner_key(hub), hub.host_name(), Some("iothubowner"), 3600)
}

/// A token that ends so many seconds from now; negative ones have ended.
pub fn token(key: &SymmetricKey, resource: &str, policy: Option<&str>, seconds: i64) -> String {
    let now = SystemTime::now();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let end = if seconds < 0 { now - span } else { now + span };
    sas::sign(key, resource, policy, end).reveal().to_owned()
}
