//! Client certificates: by thumbprint, or by the authority that signed them (rest.md 3.3, amqp.md 1.2).

mod subject;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use iothub_common::Identity;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::Hub;
use super::error::{ErrorCode, HubError};
use super::token::hub_name;

/// What a client showed in the TLS handshake, which proves that it has the key of the first certificate and nothing
/// else.
#[derive(Clone)]
pub struct ClientCertificate(Arc<[CertificateDer<'static>]>);

/// The authorities that may sign certificates of devices.
#[derive(Clone, Debug, Default)]
pub struct DeviceAuthorities(Vec<CertificateDer<'static>>);

impl ClientCertificate {
    /// The certificate and what the client sent with it; `None` without any.
    pub fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        (!chain.is_empty()).then(|| Self(chain.iter().map(|one| one.clone().into_owned()).collect()))
    }

    /// SHA-1 and SHA-256 of the certificate, in hex.
    pub(crate) fn thumbprints(&self) -> [String; 2] {
        let leaf = self.leaf();
        [hex(&Sha1::digest(leaf)), hex(&Sha256::digest(leaf))]
    }

    /// The common name of its subject.
    pub(crate) fn common_name(&self) -> Option<String> {
        subject::common_name(self.leaf())
    }

    fn leaf(&self) -> &CertificateDer<'static> {
        // It is never empty: `new` sees to it.
        &self.0[0]
    }

    /// Whether a chain leads from the certificate to one of these, and all of it is valid now.
    pub(crate) fn is_signed_by(
        &self,
        authorities: &DeviceAuthorities,
        now: SystemTime,
    ) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.0.iter().cloned());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::tls::provider())
            .build()
            .map_err(|_| "no authority for devices is registered with this hub".to_owned())?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let verified = verifier.verify_client_cert(self.leaf(), &self.0[1..], now);
        verified.map(|_| ()).map_err(|error| error.to_string())
    }
}

impl DeviceAuthorities {
    /// Adds the certificates of a PEM text.
    ///
    /// # Errors
    ///
    /// When there is none in it, or one that cannot be an authority.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let before = self.0.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate?;
            RootCertStore::empty().add(certificate.clone())?;
            self.0.push(certificate);
        }
        if self.0.len() == before { Err("there is no certificate in it".into()) } else { Ok(()) }
    }
}

impl Hub {
    /// Checks whether a certificate is that of a device or module, which exists and may connect.
    ///
    /// A thumbprint is compared and nothing else about the certificate matters, as in the cloud. With an authority
    /// the chain must lead to one of the hub's, and the common name be the id, `device/module` for a module.
    ///
    /// # Errors
    ///
    /// 404001, 404010, and 401003 saying what is wrong with it.
    pub fn check_certificate(
        &self,
        identity: &Identity,
        certificate: &ClientCertificate,
    ) -> Result<(), HubError> {
        let refused = |text: String| Err(HubError::new(ErrorCode::IotHubUnauthorized, text));
        let inner = self.lock();
        inner.state.check_usable(identity, hub_name(self.host_name()))?;
        let authentication = inner.state.record(identity)?.authentication.clone();
        drop(inner);

        if let Some(registered) = authentication.thumbprints() {
            let shown = certificate.thumbprints();
            if registered.iter().any(|known| shown.iter().any(|shown| shown.eq_ignore_ascii_case(known))) {
                return Ok(());
            }
            return refused(format!("The thumbprint of the certificate is not that of {identity}."));
        }
        if !authentication.is_certificate_authority() {
            return refused(format!(
                "{identity} does not authenticate with certificates, its authentication type is '{}'.",
                authentication.kind()
            ));
        }
        if let Err(why) = certificate.is_signed_by(&self.shared.config.device_authorities, self.now()) {
            return refused(format!("The certificate of {identity} is not good: {why}."));
        }
        match certificate.common_name() {
            Some(name) if name == identity.to_string() => Ok(()),
            Some(name) => refused(format!("The certificate is for '{name}', not for {identity}.")),
            None => refused(format!("The certificate has no common name; it must be '{identity}'.")),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate").field(&self.common_name()).finish()
    }
}

#[cfg(test)]
mod tests;
