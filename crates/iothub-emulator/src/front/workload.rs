//! The workload API of an IoT Edge runtime, for the modules of this hub (rest.md 12.1): it signs for them and says whom
//! to trust. Plain HTTP over a unix socket or TCP, and whoever reaches it may ask.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::listener::Tasks;
use crate::hub::{Hub, HubError};

/// The first version there was; all later ones are answered alike.
const FIRST_VERSION: &str = "2018-06-28";
/// Requests at a time; the next ones wait.
const LIMIT: usize = 64;
/// From the first byte of a request to the end of its head.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// The longest body taken.
const LONGEST_BODY: usize = 64 * 1024;

/// Where the API is served.
#[derive(Debug)]
pub(crate) enum WorkloadListener {
    Tcp(TcpListener, SocketAddr),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, PathBuf),
}

impl WorkloadListener {
    /// Opens `unix:///path/to/socket` or `http://127.0.0.1:port`; port 0 is a free one.
    pub(crate) async fn bind(uri: &str) -> io::Result<Self> {
        if let Some(path) = uri.strip_prefix("unix://").filter(|path| !path.is_empty()) {
            return bind_unix(path.into()).await;
        }
        let Some(address) = uri.strip_prefix("http://") else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it must be unix:///path/to/socket or http://address:port",
            ));
        };
        let listener = TcpListener::bind(address.trim_end_matches('/')).await?;
        let address = listener.local_addr()?;
        Ok(Self::Tcp(listener, address))
    }
}

#[cfg(unix)]
async fn bind_unix(path: PathBuf) -> io::Result<WorkloadListener> {
    use tokio::net::{UnixListener, UnixStream};
    let listener = match UnixListener::bind(&path) {
        // What a hub that was killed left behind. One that runs is not disturbed.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(&path).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(&path)?;
                }
                _ => return Err(error),
            }
            UnixListener::bind(&path)?
        }
        bound => bound?,
    };
    Ok(WorkloadListener::Unix(listener, path))
}

#[cfg(not(unix))]
async fn bind_unix(_: PathBuf) -> io::Result<WorkloadListener> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there are no unix sockets on this system"))
}

impl fmt::Display for WorkloadListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "http://{address}"),
            #[cfg(unix)]
            Self::Unix(_, path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Serves until shutdown. A unix socket is taken away then.
pub(crate) fn serve(listener: WorkloadListener, hub: Hub, ca_pem: String, tasks: &Tasks) {
    let (api, all) = (Arc::new(Api { hub, ca_pem }), tasks.clone());
    let shutdown = tasks.shutdown.clone();
    tasks.tracker.spawn(async move {
        #[cfg(unix)]
        let _socket = match &listener {
            WorkloadListener::Unix(_, path) => Some(Socket(path.clone())),
            WorkloadListener::Tcp(..) => None,
        };
        shutdown.run_until_cancelled_owned(accept(&listener, api, all)).await;
    });
}

#[cfg(unix)]
struct Socket(PathBuf);

#[cfg(unix)]
impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have taken it away already.
        std::fs::remove_file(&self.0).ok();
    }
}

async fn accept(listener: &WorkloadListener, api: Arc<Api>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(LIMIT));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = match listener {
            WorkloadListener::Tcp(listener, _) => {
                listener.accept().await.map(|(stream, _)| start(stream, &api))
            }
            #[cfg(unix)]
            WorkloadListener::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| start(stream, &api))
            }
        };
        match accepted {
            Ok(serving) => {
                let kill = tasks.kill.clone();
                tasks.tracker.spawn(async move {
                    kill.run_until_cancelled_owned(serving).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "the workload API cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Serving = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn start<Io>(stream: Io, api: &Arc<Api>) -> Serving
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let api = Arc::clone(api);
    Box::pin(async move {
        let service = service_fn(move |request| {
            let api = Arc::clone(&api);
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        let mut server = http1::Builder::new();
        // Java reads until the connection ends (rest.md 12.1).
        server.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            debug!(%error, "workload connection ended");
        }
    })
}

struct Api {
    hub: Hub,
    ca_pem: String,
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match self.serve(request).await {
            Ok(body) => (200, body),
            Err((status, message)) => {
                debug!(status, message, "workload request refused");
                (status, json!({ "message": message }))
            }
        };
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = status.try_into().unwrap_or_default();
        // Node parses nothing else.
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Value, (u16, String)> {
        let refuse = |status: u16, text: &str| Err((status, text.to_owned()));
        let (head, body) = request.into_parts();
        let segments: Vec<_> = head
            .uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if !knows_version(head.uri.query().unwrap_or_default()) {
            return refuse(400, "the query needs an api-version, 2018-06-28 or later");
        }
        match (&head.method, segments.as_slice()) {
            (&Method::GET, ["trust-bundle"]) => Ok(json!({ "certificate": self.ca_pem })),
            (&Method::POST, ["modules", module, "genid", generation, "sign"]) => {
                // Python sends JSON without saying so.
                let read = Limited::new(body, LONGEST_BODY).collect();
                let Ok(Ok(body)) = tokio::time::timeout(HEADER_DEADLINE, read).await else {
                    return refuse(400, "the body cannot be read");
                };
                let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
                let data = body["data"].as_str().and_then(|data| STANDARD.decode(data).ok());
                let Some(text) = data.and_then(|data| String::from_utf8(data).ok()) else {
                    return refuse(400, "the body needs `data`, base64 of what is to be signed");
                };
                let refused = |error: HubError| (error.status, error.text);
                let digest = self.hub.sign_for_module(module, generation, &text).map_err(refused)?;
                Ok(json!({ "digest": digest }))
            }
            _ => refuse(404, "the workload API here signs and gives the trust bundle, nothing else"),
        }
    }
}

/// Versions are dates, so they compare as texts.
fn knows_version(query: &str) -> bool {
    let version = query.split('&').find_map(|pair| pair.strip_prefix("api-version="));
    version.is_some_and(|version| version >= FIRST_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_the_first_on_are_known() {
        for (query, known) in [
            ("api-version=2018-06-28", true),
            ("x=1&api-version=2020-07-07", true),
            ("api-version=2018-06-27", false),
            ("api-version=", false),
            ("", false),
        ] {
            assert_eq!(knows_version(query), known, "{query}");
        }
    }

    #[tokio::test]
    async fn addresses() {
        for uri in ["ftp://x", "unix://", "/path", "http://nowhere.invalid:1"] {
            assert!(WorkloadListener::bind(uri).await.is_err(), "{uri}");
        }
    }
}
