//! Where to connect and whom to trust, for both halves of the SDK.

use std::env;
use std::ffi::{OsStr, OsString};

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
        Ok(Self { https_port: port("IOTHUB_HTTPS_PORT")?, amqps_port: port("IOTHUB_AMQPS_PORT")?, tls })
    }
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
    fn a_missing_ca_file_names_the_variable_and_the_file() {
        let error = from(&[("IOTHUB_CA_FILE", "no/such/ca.pem")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("IOTHUB_CA_FILE"), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no/such/ca.pem"), "{source}");
    }
}
