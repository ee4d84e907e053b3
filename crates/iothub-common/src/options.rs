//! Where to connect and whom to trust, for both halves of the SDK.

use std::env;

use crate::error::{Error, ErrorKind, Result};
use crate::tls::TlsConfig;

/// Options every client takes. The defaults suit a hub in the cloud.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Port for HTTPS; 443 when not set.
    pub https_port: Option<u16>,
    /// Port for AMQP over TLS; 5671 when not set.
    pub amqps_port: Option<u16>,
    /// Whom to trust.
    pub tls: TlsConfig,
}

impl ClientOptions {
    /// Options from `IOTHUB_CA_FILE`, `IOTHUB_HTTPS_PORT` and `IOTHUB_AMQPS_PORT`, each only where set: a
    /// local hub writes them into its `hub.env`. A variable that is set but empty counts as not set.
    ///
    /// Reads the CA file at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], naming the variable, when a port is no number from 1 to 65535 or the file
    /// cannot be read or holds no certificate.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name| get(name).filter(|value| !value.is_empty());
        let port = |name| get(name).map(|value| parse_port(name, &value)).transpose();
        let tls = match get("IOTHUB_CA_FILE") {
            None => TlsConfig::default(),
            Some(path) => TlsConfig::default()
                .ca_file(path)
                .map_err(|e| e.context("IOTHUB_CA_FILE does not name a usable CA file"))?,
        };
        Ok(Self { https_port: port("IOTHUB_HTTPS_PORT")?, amqps_port: port("IOTHUB_AMQPS_PORT")?, tls })
    }
}

fn parse_port(name: &str, value: &str) -> Result<u16> {
    match value.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{name} is {value:?}; it must be a port from 1 to 65535"),
        )),
    }
}
