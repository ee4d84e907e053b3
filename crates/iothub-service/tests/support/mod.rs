//! A hub that plays answers from a list: TLS and HTTP/1.1 by hand, so that it can also break off.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use iothub_service::{ClientOptions, Registry, RegistryBuilder, RetryPolicy, TlsConfig};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An invented key.
pub const KEY: &str = "b25seS1mb3ItdGVzdHMtMzItYnl0ZXMtbG9uZy0wMDA=";

/// What the hub does with one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Answers with a status, headers and a body.
    Answer(u16, &'static [(&'static str, &'static str)], String),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the request and never answers.
    Hang,
    /// Answers with these bytes and closes the connection.
    Raw(Vec<u8>),
}

pub fn json(status: u16, body: impl ToString) -> Step {
    Step::Answer(status, &[("Content-Type", "application/json; charset=utf-8")], body.to_string())
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: String,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Request {
    /// The only value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The hub. It listens until it is dropped.
pub struct FakeHub {
    pub address: SocketAddr,
    pub ca_pem: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    steps: Mutex<VecDeque<Step>>,
    requests: Mutex<Vec<Request>>,
}

impl FakeHub {
    /// A hub for `localhost` on a free port.
    pub async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::start_for("localhost", steps).await
    }

    /// A hub whose certificate is for another name.
    pub async fn start_for(name: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        let (ca_pem, tls) = certificate(name);
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            steps: Mutex::new(steps.into_iter().collect()),
            requests: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(listen(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&state)));
        Self { address, ca_pem, state, task }
    }

    pub fn options(&self) -> ClientOptions {
        ClientOptions { https_port: Some(self.address.port()), ..trusting(&self.ca_pem) }
    }

    /// A builder with almost no pauses between attempts.
    pub fn builder(&self) -> RegistryBuilder {
        let retry = RetryPolicy {
            initial: std::time::Duration::from_micros(1),
            ceiling: std::time::Duration::from_micros(1),
            ..RetryPolicy::default()
        };
        Registry::builder(&connection_string()).unwrap().options(self.options()).retry(retry)
    }

    pub fn registry(&self) -> Registry {
        self.builder().build().unwrap()
    }

    /// What came in so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The only request that came in.
    pub fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn connection_string() -> String {
    format!("HostName=localhost;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}")
}

/// An identity in the hub's shape.
pub fn device(id: &str, etag: &str) -> serde_json::Value {
    serde_json::json!({
        "deviceId": id, "generationId": "637000000000000000", "etag": etag,
        "connectionState": "Disconnected", "status": "enabled", "statusReason": null,
        "connectionStateUpdatedTime": "0001-01-01T00:00:00", "statusUpdatedTime": "0001-01-01T00:00:00",
        "lastActivityTime": "0001-01-01T00:00:00", "cloudToDeviceMessageCount": 0,
        "authentication": authentication(), "capabilities": { "iotEdge": false },
    })
}

pub fn module(device_id: &str, id: &str, etag: &str) -> serde_json::Value {
    serde_json::json!({
        "deviceId": device_id, "moduleId": id, "managedBy": null, "generationId": "637000000000000000",
        "etag": etag, "connectionState": "Disconnected", "connectionStateUpdatedTime": "0001-01-01T00:00:00",
        "lastActivityTime": "0001-01-01T00:00:00", "cloudToDeviceMessageCount": 0,
        "authentication": authentication(),
    })
}

fn authentication() -> serde_json::Value {
    serde_json::json!({
        "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY },
        "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
        "type": "sas",
    })
}

pub fn twin(device_id: &str) -> serde_json::Value {
    serde_json::json!({
        "deviceId": device_id, "etag": "AAAAAAAAAAE=", "version": 2, "tags": {},
        "properties": { "desired": { "$version": 1 }, "reported": { "$version": 1 } },
    })
}

/// An error body of shape A (rest.md 2.1).
pub fn refusal(status: u16, name: &'static str, text: &str) -> Step {
    let body = serde_json::json!({
        "Message": format!("ErrorCode:{name};{text}"),
        "ExceptionMessage": "Tracking ID:0123456789abcdef0123456789abcdef-G:0-TimeStamp:01/31/2024 10:37:08",
    });
    json(status, body)
}

/// TLS of a server with this name, and the options of clients that trust it.
pub fn server_tls(name: &str) -> (ServerConfig, ClientOptions) {
    let (ca_pem, tls) = certificate(name);
    (tls, trusting(&ca_pem))
}

fn certificate(name: &str) -> (String, ServerConfig) {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (certified.cert.pem(), tls)
}

fn trusting(ca_pem: &str) -> ClientOptions {
    let tls = TlsConfig::default().platform_roots(false).ca_pem(ca_pem.as_bytes()).unwrap();
    ClientOptions { tls, ..ClientOptions::default() }
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    for connection in 0.. {
        let Ok((tcp, _)) = listener.accept().await else { return };
        connections.spawn(serve(connection, tcp, acceptor.clone(), Arc::clone(&state)));
    }
}

async fn serve(connection: usize, tcp: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    // A client that does not trust us goes away here.
    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
    while let Some(request) = read_request(connection, &mut stream).await {
        state.requests.lock().unwrap().push(request);
        let step = state.steps.lock().unwrap().pop_front();
        match step.unwrap_or_else(|| refusal(400, "InvalidOperation", "the test has no more answers")) {
            Step::Answer(status, headers, body) => {
                let mut text = format!("HTTP/1.1 {status} Text\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("\r\n");
                text.push_str(&body);
                if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Step::Close => return,
            Step::Hang => std::future::pending().await,
            Step::Raw(bytes) => {
                stream.write_all(&bytes).await.ok();
                stream.shutdown().await.ok();
                return;
            }
        }
    }
}

async fn read_request(connection: usize, stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, target, headers, body: String::from_utf8(body).unwrap(), connection })
}
