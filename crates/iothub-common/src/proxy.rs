//! An HTTP proxy on the way to the hub, and which hosts are reached without it. Nothing here connects.

mod tunnel;

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

#[doc(hidden)]
pub use tunnel::Tunnel;

/// The port of a proxy whose URL names none: that of its scheme, `http`.
const DEFAULT_PORT: u16 = 80;

/// An HTTP proxy that connections to the hub go through, by `CONNECT`: TLS is spoken with the hub, so the proxy sees
/// its host name and nothing else.
///
/// `Debug` shows no password.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    /// `Basic …`
    authorization: Option<Secret>,
    exceptions: Vec<Exception>,
}

impl Proxy {
    /// A proxy by its URL, `http://[user:password@]host[:port]`; the scheme may be left out, the port is 80 then.
    /// What is special in a URL is percent-encoded in user and password.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it is no such URL. Proxies that speak TLS (`https://`) or SOCKS are not
    /// supported.
    pub fn new(url: &str) -> Result<Self> {
        let url = url.trim();
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                return Err(invalid(format!(
                    "a proxy with `{scheme}://` is not supported; it must be http://host:port"
                )));
            }
        };
        // Only a slash may follow the authority.
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address);
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(invalid("the port of the proxy is no number from 1 to 65535")),
            },
        };
        if host.is_empty()
            || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c))
        {
            return Err(invalid("the proxy has no host name; it must be http://host:port"));
        }
        let authorization = user.map(basic);
        Ok(Self { host: host.to_owned(), port, authorization, exceptions: Vec::new() })
    }

    /// Adds hosts that are reached without the proxy, separated by commas, as `NO_PROXY` has them: `example.net` (and
    /// what is below it), `.example.net` (only that), `10.1.2.3`, `10.0.0.0/8`, each with a `:port` or without;
    /// `*` is every host.
    #[must_use]
    pub fn except(mut self, hosts: &str) -> Self {
        self.exceptions
            .extend(hosts.split([',', ' ']).map(str::trim).filter(|h| !h.is_empty()).map(Exception::new));
        self
    }

    /// The proxy's host name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the header `Proxy-Authorization`, when the URL has a user.
    #[doc(hidden)]
    #[must_use]
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }

    /// Whether a connection to this host and port goes through the proxy.
    #[must_use]
    pub fn is_for(&self, host: &str, port: u16) -> bool {
        !self.exceptions.iter().any(|exception| exception.matches(host, port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("authorization", &self.authorization)
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

#[derive(Clone, Debug)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    All,
    /// Addresses that begin with the first bits of this one.
    Network(IpAddr, u8),
    /// A name and what is below it.
    Domain(String),
    /// What is below a name.
    Below(String),
}

impl Exception {
    fn new(text: &str) -> Self {
        let (host, port) = split_port(text);
        // A port that is no number: a host name nobody has.
        let (host, port) = match port.map(str::parse) {
            None => (host, None),
            Some(Ok(port)) => (host, Some(port)),
            Some(Err(_)) => (text, None),
        };
        let name = host.to_ascii_lowercase();
        let hosts = if host == "*" {
            Hosts::All
        } else if let Some((address, bits)) = network(host) {
            Hosts::Network(address, bits)
        } else if let Some(name) = name.strip_prefix('.') {
            Hosts::Below(name.to_owned())
        } else {
            Hosts::Domain(name)
        };
        Self { hosts, port }
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match &self.hosts {
            Hosts::All => true,
            Hosts::Network(network, bits) => {
                host.parse().is_ok_and(|address| same_start(*network, address, *bits))
            }
            Hosts::Domain(name) => host == *name || is_below(&host, name),
            Hosts::Below(name) => is_below(&host, name),
        }
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// An address alone is a network of one.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(all), |bits| bits.parse().ok())?;
    (bits <= all).then_some((address, bits))
}

fn same_start(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differ = u32::from(one) ^ u32::from(other);
            differ.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differ = u128::from(one) ^ u128::from(other);
            differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Host and port of `host:port`, `[::1]:port`, `::1` or a host alone; the brackets are taken off.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((host, rest)) = rest.split_once(']')
    {
        return (host, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

/// The header of basic authentication for `user[:password]`, percent-encoded.
fn basic(user: &str) -> Secret {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    Secret::from(format!("Basic {}", STANDARD.encode(plain)))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parts(url: &str) -> (String, u16, Option<String>) {
        let proxy = Proxy::new(url).unwrap();
        let authorization = proxy.authorization().map(|secret| secret.reveal().to_owned());
        (proxy.host().to_owned(), proxy.port(), authorization)
    }

    #[test]
    fn urls_as_people_write_them() {
        for (url, host, port) in [
            ("http://proxy.example.net:3128", "proxy.example.net", 3128),
            ("http://proxy.example.net:3128/", "proxy.example.net", 3128),
            ("HTTP://proxy.example.net", "proxy.example.net", 80),
            ("proxy:8080", "proxy", 8080),
            (" 10.0.0.1:8080 ", "10.0.0.1", 8080),
            ("http://[::1]:3128", "::1", 3128),
            ("[::1]", "::1", 80),
        ] {
            assert_eq!(parts(url), (host.to_owned(), port, None), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_not_shown() {
        // base64 of `me@work:p:w/1`, made elsewhere.
        let url = "http://me%40work:p%3Aw%2F1@proxy:3128";
        assert_eq!(parts(url).2.as_deref(), Some("Basic bWVAd29yazpwOncvMQ=="));
        // base64 of `me:`
        assert_eq!(parts("http://me@proxy").2.as_deref(), Some("Basic bWU6"));
        let shown = format!("{:?}", Proxy::new(url).unwrap());
        assert!(!shown.contains("bWVA") && !shown.contains("p%3Aw"), "{shown}");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for url in [
            "",
            "http://",
            "http://me:topsecret@",
            "http://proxy:0",
            "http://proxy:65536",
            "http://proxy:x",
            "https://me:topsecret@proxy:1",
            "socks5://proxy:1080",
            "http://pro xy:1",
            "http://proxy:1/path",
        ] {
            let error = Proxy::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
            assert!(!format!("{error} {error:?}").contains("topsecret"), "{error}");
        }
    }

    #[test]
    fn exceptions() {
        let proxy = Proxy::new("proxy:1").unwrap();
        assert!(proxy.is_for("hub.example.net", 443));
        for (exceptions, host, through) in [
            ("example.net", "example.net", false),
            ("example.net", "hub.Example.NET", false),
            ("example.net", "notexample.net", true),
            (".example.net", "hub.example.net", false),
            (".example.net", "example.net", true),
            ("other, hub.example.net", "hub.example.net", false),
            ("hub.example.net:443", "hub.example.net", false),
            ("hub.example.net:8443", "hub.example.net", true),
            ("*", "hub.example.net", false),
            ("10.0.0.0/8", "10.1.2.3", false),
            ("10.0.0.0/8", "11.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", false),
            ("10.1.2.3", "10.1.2.4", true),
            ("0.0.0.0/0", "10.1.2.4", false),
            ("fd00::/8", "fd12::1", false),
            ("::1", "::1", false),
            ("[::1]:443", "::1", false),
            ("::/0", "10.1.2.4", true),
            (" ,, ", "hub.example.net", true),
        ] {
            let proxy = proxy.clone().except(exceptions);
            assert_eq!(proxy.is_for(host, 443), through, "{exceptions} {host}");
        }
    }
}
