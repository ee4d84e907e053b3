//! What is said to a proxy and what its answer means. Whoever has the socket sends and reads it.

use super::Proxy;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

/// The longest head of an answer worth reading.
const LONGEST_HEAD: usize = 8 * 1024;

/// One request for a connection through a proxy.
#[doc(hidden)]
#[derive(Debug)]
pub struct Tunnel<'a> {
    proxy: &'a Proxy,
    target: String,
}

impl Proxy {
    /// A connection to `host:port` to be asked for.
    #[doc(hidden)]
    #[must_use]
    pub fn tunnel(&self, host: &str, port: u16) -> Tunnel<'_> {
        Tunnel { proxy: self, target: address(host, port) }
    }
}

impl Tunnel<'_> {
    /// What to send first. Has the password in it.
    #[must_use]
    pub fn request(&self) -> Secret {
        let target = &self.target;
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = self.proxy.authorization() {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization.reveal());
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        Secret::from(request)
    }

    /// Whether the head of the answer is complete. Nothing follows it before our first word of TLS, so a reader that
    /// takes whatever has come takes nothing too much.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] when it is longer than any proxy's.
    pub fn is_complete(&self, head: &[u8]) -> Result<bool> {
        if head.ends_with(b"\r\n\r\n") {
            return Ok(true);
        }
        if head.len() >= LONGEST_HEAD { Err(self.no_proxy()) } else { Ok(false) }
    }

    /// Whether the proxy made the connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthorized`] when it wants another user, [`ErrorKind::Connect`] for all else; both name the
    /// proxy.
    pub fn answer(&self, head: &[u8]) -> Result<()> {
        let (name, target) = (self.name(), &self.target);
        let status = status(head).ok_or_else(|| self.no_proxy())?;
        let (kind, message) = match status {
            200..300 => return Ok(()),
            407 => (
                ErrorKind::Unauthorized,
                format!(
                    "the proxy {name} does not accept the user and password, or wants some; they belong into its \
                     URL"
                ),
            ),
            _ => (
                ErrorKind::Connect,
                format!(
                    "the proxy {name} gave no connection to {target} (status {status}); does it allow that host?"
                ),
            ),
        };
        Err(Error::new(kind, message).with_status(status))
    }

    /// The error when the proxy itself could not be reached, or hung up.
    #[must_use]
    pub fn unreachable(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let (name, target) = (self.name(), &self.target);
        let message = format!("could not reach the proxy {name} on the way to {target}; check its address");
        Error::new(ErrorKind::Connect, message).with_source(cause)
    }

    fn no_proxy(&self) -> Error {
        let message = format!("the proxy {} did not answer as an HTTP proxy does", self.name());
        Error::new(ErrorKind::Connect, message)
    }

    fn name(&self) -> String {
        address(&self.proxy.host, self.proxy.port)
    }
}

/// The status of `HTTP/1.1 200 Connection established`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

/// `host:port`, with brackets around an IPv6 address.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_carry_the_user_where_there_is_one() {
        let plain = Proxy::new("proxy:8080").unwrap();
        assert_eq!(
            plain.tunnel("hub.example.net", 443).request().reveal(),
            "CONNECT hub.example.net:443 HTTP/1.1\r\nHost: hub.example.net:443\r\n\r\n"
        );
        let named = Proxy::new("http://user:p%40ss@proxy").unwrap();
        let request = named.tunnel("::1", 443).request();
        // printf 'user:p@ss' | base64
        assert!(request.reveal().contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n"));
        assert!(request.reveal().starts_with("CONNECT [::1]:443 HTTP/1.1\r\n"));
        assert!(!format!("{:?}", named.tunnel("h", 1)).contains("dXNl"));
    }

    #[test]
    fn answers_are_told_apart_and_name_the_proxy() {
        let proxy = Proxy::new("proxy:8080").unwrap();
        let tunnel = proxy.tunnel("hub", 443);
        for head in ["HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200\r\n\r\n"] {
            assert!(tunnel.is_complete(head.as_bytes()).unwrap());
            tunnel.answer(head.as_bytes()).unwrap();
        }
        for (head, kind, status, says) in [
            ("HTTP/1.0 407 No\r\nX: y\r\n\r\n", ErrorKind::Unauthorized, Some(407), "user and password"),
            ("HTTP/1.1 403 No\r\n\r\n", ErrorKind::Connect, Some(403), "hub:443"),
            ("SSH-2.0-OpenSSH\r\n\r\n", ErrorKind::Connect, None, "as an HTTP proxy"),
            ("HTTP/1.1 abc\r\n\r\n", ErrorKind::Connect, None, "as an HTTP proxy"),
            ("\r\n\r\n", ErrorKind::Connect, None, "as an HTTP proxy"),
        ] {
            let error = tunnel.answer(head.as_bytes()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (kind, status), "{head:?}");
            let text = error.to_string();
            assert!(text.contains("proxy:8080") && text.contains(says), "{text}");
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let proxy = Proxy::new("proxy:8080").unwrap();
        let tunnel = proxy.tunnel("hub", 443);
        assert!(!tunnel.is_complete(b"HTTP/1.1 200 OK\r\n").unwrap());
        assert!(tunnel.is_complete(&[b'a'; LONGEST_HEAD]).is_err());
    }
}
