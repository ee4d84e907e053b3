//! Whom to trust, and which crypto library to use.

mod client_certificate;
mod provider;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::{Error, ErrorKind, Result};

pub use client_certificate::ClientCertificate;

/// TLS settings of a client. The default trusts what the operating system trusts.
///
/// Cheap to clone. The crypto provider is always passed explicitly; a process-wide default is neither used nor
/// set.
#[derive(Clone)]
pub struct TlsConfig {
    extra: Vec<CertificateDer<'static>>,
    platform_roots: bool,
    crypto: Option<CryptoBackend>,
    client_certificate: Option<ClientCertificate>,
}

/// Which crypto library does the work.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CryptoBackend {
    /// ring, feature `tls-ring`.
    Ring,
    /// AWS-LC, feature `tls-aws-lc-rs`.
    AwsLcRs,
}

impl TlsConfig {
    /// Trusts the certificates of a PEM file too, beside the platform's. Reads the file now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], naming the file, when it cannot be read or as for [`ca_pem`](Self::ca_pem).
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let pem = std::fs::read(path).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, format!("the CA file {} cannot be read", path.display()))
                .with_source(e)
        })?;
        self.ca_pem(&pem).map_err(|e| e.context(format!("the CA file {} cannot be used", path.display())))
    }

    /// Trusts the certificates in this PEM text too, beside the platform's. Other PEM items are skipped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when there is no certificate in it, or one that cannot be read.
    pub fn ca_pem(mut self, pem: &[u8]) -> Result<Self> {
        let before = self.extra.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|e| invalid("the CA certificate is not valid PEM").with_source(e))?;
            // Only to see that it can be read.
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|e| invalid("the CA certificate cannot be used as a root").with_source(e))?;
            self.extra.push(certificate);
        }
        if self.extra.len() == before {
            return Err(invalid(
                "there is no certificate in the CA file: it must be PEM, `-----BEGIN CERTIFICATE-----`",
            ));
        }
        Ok(self)
    }

    /// Whether to trust what the operating system trusts; `true` unless set. Needs feature `platform-roots`.
    #[must_use]
    pub fn platform_roots(mut self, trust: bool) -> Self {
        self.platform_roots = trust;
        self
    }

    /// Which crypto library to use. Unless set: ring if it is compiled in, else AWS-LC.
    #[must_use]
    pub fn crypto(mut self, backend: CryptoBackend) -> Self {
        self.crypto = Some(backend);
        self
    }

    /// The certificate to show where the server asks for one; none unless set.
    #[must_use]
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.client_certificate = Some(certificate);
        self
    }

    /// The same without a client certificate: for servers that have no business with it.
    #[doc(hidden)]
    #[must_use]
    pub fn without_client_certificate(mut self) -> Self {
        self.client_certificate = None;
        self
    }

    /// Whether there is a certificate to show.
    #[doc(hidden)]
    #[must_use]
    pub fn has_client_certificate(&self) -> bool {
        self.client_certificate.is_some()
    }

    /// What rustls needs. Reads the platform's store each time: make it once per client and keep it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the crypto library is not compiled in or cannot use the client
    /// certificate, [`ErrorKind::Certificate`] when there would be nobody to trust.
    #[doc(hidden)]
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
        let provider = provider::provider(self.crypto)?;
        let roots = self.roots()?;
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| invalid("the crypto library supports no usable TLS version").with_source(e))?
            .with_root_certificates(roots);
        let mut config = match &self.client_certificate {
            None => config.with_no_client_auth(),
            Some(certificate) => certificate.finish(config, &provider)?,
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let mut why = "the platform's were not asked for".to_owned();
        if self.platform_roots {
            why = add_platform_roots(&mut roots);
        }
        roots.add_parsable_certificates(self.extra.iter().cloned());
        if roots.is_empty() {
            return Err(Error::new(
                ErrorKind::Certificate,
                format!(
                    "there are no root certificates to check the hub against ({why}); give its CA with \
                     TlsConfig::ca_file or IOTHUB_CA_FILE"
                ),
            ));
        }
        Ok(roots)
    }
}

/// Adds what there is; the answer says why that may be nothing.
#[cfg(feature = "platform-roots")]
fn add_platform_roots(roots: &mut RootCertStore) -> String {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "part of the platform's certificate store could not be read");
    }
    // Stores hold oddities; one unusable certificate must not cost the others.
    roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) => format!("the platform's store could not be read: {error}"),
        None => "the platform's store is empty".to_owned(),
    }
}

#[cfg(not(feature = "platform-roots"))]
fn add_platform_roots(_roots: &mut RootCertStore) -> String {
    "the feature `platform-roots` is off".to_owned()
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { extra: Vec::new(), platform_roots: true, crypto: None, client_certificate: None }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("extra_cas", &self.extra.len())
            .field("platform_roots", &self.platform_roots)
            .field("crypto", &self.crypto)
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}

#[cfg(test)]
mod tests;
