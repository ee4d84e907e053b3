//! The workload API of the Edge runtime: it has the module's key and signs with it (rest.md 12.1).

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use iothub_common::{Error, ErrorKind, Result, RetryPolicy, Secret, identity::escape_id};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::credentials::SasRequest;

/// What every SDK asks for; newer runtimes know it too.
const API_VERSION: &str = "2018-06-28";
/// How long a token made with it lives.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// One request and its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// The longest answer that is read: a trust bundle is some certificates.
const LONGEST_ANSWER: usize = 1 << 20;
/// The runtime restarts now and then; C# tries as often.
const RETRIES: u32 = 2;

/// The workload API, for one module.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    address: Address,
    /// `/modules/{m}/genid/{g}`
    module: String,
}

#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    Http { host: String, port: u16 },
}

impl Workload {
    /// `uri` is `unix:///path/to/socket` or `http://host:port`.
    pub(super) fn new(uri: &str, module: &str, generation: &str) -> Result<Self> {
        let module = format!("/modules/{}/genid/{}", escape_id(module), escape_id(generation));
        Ok(Self { address: Address::parse(uri)?, module })
    }

    /// A token for the module, signed by the runtime.
    pub(super) async fn token(&self, request: &SasRequest) -> Result<Secret> {
        let expires_at = SystemTime::now() + TOKEN_LIFE;
        let data = base64(request.to_sign(expires_at).as_bytes());
        let body = json!({ "keyId": "primary", "algo": "HMACSHA256", "data": data });
        let path = format!("{}/sign", self.module);
        let digest = self.text(Method::POST, &path, body.to_string().into(), "digest").await?;
        Ok(request.token(expires_at, &digest))
    }

    /// The certificates, in PEM, that a gateway's may be signed with.
    pub(crate) async fn trust_bundle(&self) -> Result<String> {
        self.text(Method::GET, "/trust-bundle", Bytes::new(), "certificate").await
    }

    /// A member of the answer. Tries again what may pass.
    async fn text(&self, method: Method, path: &str, body: Bytes, member: &str) -> Result<String> {
        let mut backoff = RetryPolicy { max_retries: Some(RETRIES), ..RetryPolicy::default() }.backoff();
        loop {
            let error = match self.once(&method, path, body.clone(), member).await {
                Ok(text) => return Ok(text),
                Err(error) => error,
            };
            let wait = backoff.next().filter(|_| error.is_retryable());
            let Some(wait) = wait else { return Err(error) };
            sleep(wait).await;
        }
    }

    async fn once(&self, method: &Method, path: &str, body: Bytes, member: &str) -> Result<String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version={API_VERSION}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, crate::USER_AGENT)
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|e| self.error(ErrorKind::InvalidInput, "cannot be asked").with_source(e))?;
        let (status, body) = timeout(REQUEST_LIMIT, self.exchange(request))
            .await
            .map_err(|_| self.error(ErrorKind::Timeout, "does not answer"))??;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 {
            return Err(self.refusal(status, answer["message"].as_str().unwrap_or("no reason given")));
        }
        answer[member]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.error(ErrorKind::Protocol, &format!("gave an answer without `{member}`")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        match &self.address {
            Address::Http { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|e| self.unreachable(e))?;
                self.exchange_on(stream, request).await
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                let stream = stream.map_err(|e| self.unreachable(e))?;
                self.exchange_on(stream, request).await
            }
            #[cfg(not(unix))]
            Address::Unix(_) => {
                Err(self.error(ErrorKind::InvalidInput, "needs unix sockets, which are not here"))
            }
        }
    }

    /// One connection for each request: the runtime closes it after the answer.
    async fn exchange_on<Io>(&self, stream: Io, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |e: hyper::Error| self.error(ErrorKind::Connect, "broke off").with_source(e);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await.map_err(|e| {
                self.error(ErrorKind::Protocol, "gave an answer that cannot be read").with_source(e)
            })?;
            Ok((status, body.to_bytes()))
        };
        // The connection works as long as it is polled; what ends it shows in the answer.
        let mut answering = std::pin::pin!(answering);
        tokio::select! {
            biased;
            answer = &mut answering => answer,
            _ = connection => answering.await,
        }
    }

    fn refusal(&self, status: u16, reason: &str) -> Error {
        let kind = match status {
            404 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::Unauthorized,
            429 => ErrorKind::Throttled,
            500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Rejected,
        };
        self.error(kind, &format!("refuses with status {status}: {reason}")).with_status(status)
    }

    fn unreachable(&self, cause: std::io::Error) -> Error {
        let what = "cannot be reached; is the Edge runtime up, and its socket mounted into the container?";
        self.error(ErrorKind::Connect, what).with_source(cause)
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("the Edge workload API at {} {what}", self.address))
    }
}

impl Address {
    fn parse(uri: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                ErrorKind::InvalidInput,
                "a workload URI is unix:///path/to/workload.sock or http://host:port",
            )
        };
        if let Some(path) = uri.strip_prefix("unix://") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        let uri: Uri = uri.parse().map_err(|_| wrong())?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => Ok(Self::Http {
                host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
                port: uri.port_u16().unwrap_or(80),
            }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http { host, port } => write!(f, "http://{host}:{port}"),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::error::Error as _;

    use iothub_common::{Identity, SasToken, SymmetricKey};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;

    /// Gives one answer to each of the requests, and the requests.
    async fn serve(answers: Vec<String>) -> (Workload, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                while !request.contains("\r\n\r\n")
                    || (request.starts_with("POST") && !request.ends_with('}'))
                {
                    let mut part = [0; 1024];
                    let count = stream.read(&mut part).await.unwrap();
                    request.push_str(std::str::from_utf8(&part[..count]).unwrap());
                }
                requests.push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (Workload::new(&uri, "m@1", "63720").unwrap(), served)
    }

    fn answer(status: u16, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn tokens_are_signed_by_the_runtime() {
        let (workload, served) = serve(vec![answer(200, r#"{"digest":"AAEC"}"#)]).await;
        let request = SasRequest::new(Identity::module("d", "m@1").unwrap(), "hub");
        let token = workload.token(&request).await.unwrap();
        let requests = served.await.unwrap();
        let head = "POST /modules/m%401/genid/63720/sign?api-version=2018-06-28 HTTP/1.1\r\n";
        assert!(requests[0].starts_with(head), "{}", requests[0]);

        // What was to be signed is what the token says.
        let body: Value = serde_json::from_str(requests[0].split("\r\n\r\n").nth(1).unwrap()).unwrap();
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.decode(body["data"].as_str().unwrap()).unwrap();
        let parsed = SasToken::parse(token.reveal()).unwrap();
        let seconds = parsed.expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(data, format!("hub%2Fdevices%2Fd%2Fmodules%2Fm%401\n{seconds}").into_bytes());
        assert_eq!((&body["keyId"], &body["algo"]), (&json!("primary"), &json!("HMACSHA256")));
        assert!(token.reveal().contains("sig=AAEC&"));
        assert!(!parsed.verify(&SymmetricKey::from_base64("QQ==").unwrap()));
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again() {
        let (workload, served) =
            serve(vec![answer(500, "{}"), String::new(), answer(200, r#"{"certificate":"PEM"}"#)]).await;
        assert_eq!(workload.trust_bundle().await.unwrap(), "PEM");
        let requests = served.await.unwrap();
        assert!(requests[2].starts_with("GET /trust-bundle?api-version=2018-06-28 "), "{}", requests[2]);
    }

    #[tokio::test]
    async fn refusals_keep_their_reason() {
        for (status, body, kind, says) in [
            (404, r#"{"message":"Module not found"}"#, ErrorKind::NotFound, "Module not found"),
            (401, "", ErrorKind::Unauthorized, "no reason given"),
            (400, r#"{"message":"bad"}"#, ErrorKind::Rejected, "bad"),
            (200, r#"{"wrong":1}"#, ErrorKind::Protocol, "`certificate`"),
            (200, "no json", ErrorKind::Protocol, "`certificate`"),
        ] {
            let (workload, _served) = serve(vec![answer(status, body)]).await;
            let error = workload.trust_bundle().await.unwrap_err();
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named() {
        let workload = Workload::new("unix:///no/such/workload.sock", "m", "1").unwrap();
        let error = workload.trust_bundle().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("unix:///no/such/workload.sock"), "{error}");
        assert!(error.source().is_some());
    }

    #[test]
    fn addresses() {
        for (uri, shown) in [
            ("unix:///var/run/w.sock", Some("unix:///var/run/w.sock")),
            ("http://localhost:15580", Some("http://localhost:15580")),
            ("http://[::1]:80/", Some("http://::1:80")),
            ("http://edge", Some("http://edge:80")),
            ("unix://", None),
            ("https://edge", None),
            ("/var/run/w.sock", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(uri).ok().map(|a| a.to_string()).as_deref(), shown, "{uri}");
        }
    }
}
