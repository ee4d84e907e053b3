//! Why a connection could not be made.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use super::{Error, ErrorKind};

/// The error for a connection to `host:port` that failed, in TCP or in TLS.
///
/// [`ErrorKind::Certificate`] when rustls, anywhere among the causes, did not accept the certificate; else
/// [`ErrorKind::Connect`]. The cause becomes the source.
pub fn connect_error(host: &str, port: u16, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    let cause = cause.into();
    let address = format!("{host}:{port}");
    let (kind, message) = match find_rustls(&*cause) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            (ErrorKind::Certificate, certificate_message(&address, host, why))
        }
        Some(rustls::Error::InvalidMessage(_)) => (
            ErrorKind::Connect,
            format!("{address} was reached but does not speak TLS; check that the port is right"),
        ),
        Some(_) => (ErrorKind::Connect, format!("the TLS handshake with {address} failed")),
        None => (
            ErrorKind::Connect,
            format!("could not reach {address}; check the host name, the port and that the hub is up"),
        ),
    };
    Error::new(kind, message).with_source(cause)
}

fn certificate_message(address: &str, host: &str, why: &CertificateError) -> String {
    use CertificateError as E;
    match why {
        E::NotValidForName | E::NotValidForNameContext { .. } => format!(
            "the certificate of {address} is not valid for the name {host}; check the host name, or what \
             answers there"
        ),
        E::Expired | E::ExpiredContext { .. } => {
            format!("the certificate of {address} has expired; check this machine's clock, or renew it")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("the certificate of {address} is not valid yet; check this machine's clock")
        }
        _ => format!(
            "the certificate of {address} is not trusted; give the CA that signed it with TlsConfig::ca_file \
             or IOTHUB_CA_FILE"
        ),
    }
}

/// Looks through the causes. `io::Error` hides what it wraps from `source`, so that is unpacked too.
fn find_rustls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
