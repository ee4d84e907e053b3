//! Where to connect and whom to trust, for both halves of the SDK.

use std::env;
use std::ffi::{OsStr, OsString};

use crate::error::{Error, ErrorKind, Result};
use crate::proxy::Proxy;
use crate::tls::TlsConfig;

/// Hosts of this machine: what a proxy is never asked for when the environment names it.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// What AMQP travels in.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TLS on port 5671.
    #[default]
    Amqp,
    /// A WebSocket on the HTTPS port, 443: for networks that let nothing else out, and for HTTP proxies. Needs the
    /// feature `websocket`.
    AmqpWebSocket,
}

/// Options every client takes. The defaults suit a hub in the cloud.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Port for HTTPS; 443 when not set.
    pub https_port: Option<u16>,
    /// Port for AMQP over TLS; 5671 when not set.
    pub amqps_port: Option<u16>,
    /// Whom to trust.
    pub tls: TlsConfig,
    /// The HTTP proxy on the way to the hub; none when not set. It carries HTTPS and [`Transport::AmqpWebSocket`]; a
    /// client with [`Transport::Amqp`] refuses it, since proxies seldom let port 5671 through.
    pub proxy: Option<Proxy>,
}

impl ClientOptions {
    /// Options from `IOTHUB_CA_FILE`, `IOTHUB_HTTPS_PORT` and `IOTHUB_AMQPS_PORT`, each only where set: a
    /// local hub writes them into its `hub.env`. A variable that is set but empty counts as not set.
    ///
    /// Also the proxy from `HTTPS_PROXY` (or `https_proxy`), with the hosts of `NO_PROXY` (or `no_proxy`) and of this
    /// machine as its exceptions. No other function reads these.
    ///
    /// Reads the CA file at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], naming the variable, when a port is no number from 1 to 65535, the file cannot
    /// be read or holds no certificate, or the proxy is none that is supported.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let get = |name| get(name).filter(|value| !value.is_empty());
        let port = |name| get(name).map(|value| parse_port(name, &value)).transpose();
        let tls = match get("IOTHUB_CA_FILE") {
            None => TlsConfig::default(),
            Some(path) => TlsConfig::default()
                .ca_file(path)
                .map_err(|e| e.context("IOTHUB_CA_FILE does not name a usable CA file"))?,
        };
        let either = |upper, lower| get(upper).map(|v| (upper, v)).or_else(|| get(lower).map(|v| (lower, v)));
        let proxy = match either("HTTPS_PROXY", "https_proxy") {
            None => None,
            Some((name, url)) => {
                let exceptions = either("NO_PROXY", "no_proxy").map(|(_, hosts)| hosts).unwrap_or_default();
                Some(parse_proxy(name, &url)?.except(&exceptions.to_string_lossy()).except(LOOPBACK))
            }
        };
        Ok(Self {
            https_port: port("IOTHUB_HTTPS_PORT")?,
            amqps_port: port("IOTHUB_AMQPS_PORT")?,
            tls,
            proxy,
        })
    }
}

fn parse_proxy(name: &str, url: &OsStr) -> Result<Proxy> {
    Proxy::new(&url.to_string_lossy()).map_err(|e| e.context(format!("{name} does not name a usable proxy")))
}

fn parse_port(name: &str, value: &OsStr) -> Result<u16> {
    match value.to_str().map(|text| text.trim().parse()) {
        Some(Ok(port)) if port > 0 => Ok(port),
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{name} is {value:?}; it must be a port from 1 to 65535"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<ClientOptions> {
        ClientOptions::from_variables(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn each_variable_counts_only_where_set() {
        let none = from(&[]).unwrap();
        assert_eq!((none.https_port, none.amqps_port), (None, None));
        let one = from(&[("IOTHUB_AMQPS_PORT", "5672"), ("IOTHUB_HTTPS_PORT", ""), ("IOTHUB_CA_FILE", "")]);
        let one = one.unwrap();
        assert_eq!((one.https_port, one.amqps_port), (None, Some(5672)));
        let both = from(&[("IOTHUB_AMQPS_PORT", "1"), ("IOTHUB_HTTPS_PORT", " 65535 ")]).unwrap();
        assert_eq!((both.https_port, both.amqps_port), (Some(65535), Some(1)));
    }

    #[test]
    fn bad_ports_name_the_variable_and_the_value() {
        for value in ["0", "65536", "-1", "https", "44 3"] {
            let error = from(&[("IOTHUB_HTTPS_PORT", value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains("IOTHUB_HTTPS_PORT") && text.contains(value), "{text}");
        }
    }

    #[test]
    fn the_proxy_is_that_of_the_environment_but_for_this_machine() {
        let read = |variables| from(variables).unwrap().proxy;
        assert!(read(&[("NO_PROXY", "x")]).is_none());
        let proxy = read(&[("https_proxy", "http://lower:1"), ("HTTPS_PROXY", "http://upper:2")]).unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("upper", 2));
        let proxy = read(&[("https_proxy", "lower:1"), ("no_proxy", "example.net")]).unwrap();
        assert_eq!(proxy.host(), "lower");
        for (host, through) in [("hub.example.org", true), ("hub.example.net", false), ("localhost", false)] {
            assert_eq!(proxy.is_for(host, 443), through, "{host}");
        }
        let error = from(&[("HTTPS_PROXY", "ftp://p")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
    }

    #[test]
    fn a_missing_ca_file_names_the_variable_and_the_file() {
        let error = from(&[("IOTHUB_CA_FILE", "no/such/ca.pem")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("IOTHUB_CA_FILE"), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no/such/ca.pem"), "{source}");
    }
}
