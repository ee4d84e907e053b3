//! The certificate a device shows in the TLS handshake.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::provider;
use crate::error::{Error, ErrorKind, Result};

/// A certificate with its chain and its private key: how X.509 devices and modules prove who they are.
///
/// Cheap to clone. `Debug` shows nothing of the key.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Inner>);

struct Inner {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientCertificate {
    /// Reads PEM texts: the certificate, followed by those between it and its authority if there are any, and the
    /// private key (PKCS#8, PKCS#1 or SEC1, not encrypted). Both may be the same text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], saying which of the two is wrong and how: no PEM, the other one's content, an
    /// encrypted key, a key of another certificate, a chain in the wrong order. The message does not repeat the key.
    pub fn from_pem(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let inner = Inner { chain: read_chain(certificate.as_ref())?, key: read_key(key.as_ref())? };
        // Without a crypto library the TLS configuration says so later.
        if let Ok(provider) = provider::provider(None) {
            inner.check(&provider)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The certificate itself, in DER.
    #[doc(hidden)]
    #[must_use]
    pub fn leaf_der(&self) -> &[u8] {
        // There is at least one: `read_chain` sees to it.
        self.0.chain.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// The last step of a TLS configuration.
    pub(super) fn finish(
        &self,
        config: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
        provider: &CryptoProvider,
    ) -> Result<ClientConfig> {
        self.0.check(provider)?;
        config
            .with_client_auth_cert(self.0.chain.clone(), self.0.key.clone_key())
            .map_err(|e| invalid("TLS does not take the client certificate").with_source(e))
    }
}

impl Inner {
    /// Whether the key is that of the first certificate.
    fn check(&self, provider: &CryptoProvider) -> Result<()> {
        let key = provider.key_provider.load_private_key(self.key.clone_key()).map_err(|e| {
            invalid(
                "the private key of the client certificate cannot be used; RSA keys of 2048 bits or more and \
                 the curves P-256, P-384 and Ed25519 can",
            )
            .with_source(e)
        })?;
        let matches = |certificate: &CertificateDer<'static>| {
            let pair = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key));
            match pair.keys_match() {
                Ok(()) => Ok(true),
                Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Ok(false),
                // Some keys do not tell.
                Err(rustls::Error::InconsistentKeys(_)) => Ok(true),
                Err(e) => Err(invalid("the client certificate cannot be read").with_source(e)),
            }
        };
        for (index, certificate) in self.chain.iter().enumerate() {
            match (matches(certificate)?, index) {
                (true, 0) => return Ok(()),
                (true, _) => {
                    return Err(invalid(format!(
                        "the private key belongs to certificate {} of the client certificate's chain; that one \
                         must come first, the ones that signed it after it",
                        index + 1
                    )));
                }
                (false, _) => {}
            }
        }
        Err(invalid("the private key is not that of the client certificate; they must be made together"))
    }
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| invalid("the client certificate is not valid PEM").with_source(e))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(invalid(match has(pem, b"PRIVATE KEY-----") {
        true => {
            "there is a private key where the client certificate belongs; the certificate comes first, then the key"
        }
        false => {
            "there is no client certificate in what was given for it: it must be PEM, `-----BEGIN CERTIFICATE-----`"
        }
    }))
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    if has(pem, b"ENCRYPTED PRIVATE KEY-----") || has(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(invalid(
            "the private key of the client certificate is encrypted; decrypt it first, for instance with \
             `openssl pkey`",
        ));
    }
    let error = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let message = match error {
        rustls_pki_types::pem::Error::NoItemsFound if has(pem, b"BEGIN CERTIFICATE-----") => {
            "there is a certificate where the private key belongs; the certificate comes first, then the key"
        }
        rustls_pki_types::pem::Error::NoItemsFound => {
            "there is no private key in what was given for it: it must be PEM, `-----BEGIN PRIVATE KEY-----`"
        }
        _ => "the private key of the client certificate is not valid PEM",
    };
    // The cause could quote what it could not read.
    Err(invalid(message))
}

fn has(pem: &[u8], text: &[u8]) -> bool {
    pem.windows(text.len()).any(|window| window == text)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("chain", &self.0.chain.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pair(name: &str) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    #[test]
    fn a_certificate_goes_into_the_tls_configuration() {
        let (certificate, key) = pair("device");
        let made = ClientCertificate::from_pem(&certificate, &key).unwrap();
        assert!(!format!("{made:?}").contains("KEY"));
        let tls = super::super::TlsConfig::default().ca_pem(certificate.as_bytes()).unwrap();
        assert!(!tls.client_config(&[]).unwrap().client_auth_cert_resolver.has_certs());
        assert!(
            tls.client_certificate(made).client_config(&[]).unwrap().client_auth_cert_resolver.has_certs()
        );
        // Both in one file, in either order.
        ClientCertificate::from_pem(format!("{key}{certificate}"), format!("{certificate}{key}")).unwrap();
    }

    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    #[test]
    fn a_key_of_another_certificate_is_told_from_a_chain_in_the_wrong_order() {
        let ((one, _), (two, key)) = (pair("one"), pair("two"));
        let error = ClientCertificate::from_pem(&one, &key).unwrap_err();
        assert!(error.to_string().contains("not that of the client certificate"), "{error}");
        let error = ClientCertificate::from_pem(format!("{one}{two}"), &key).unwrap_err();
        assert!(error.to_string().contains("certificate 2"), "{error}");
        ClientCertificate::from_pem(format!("{two}{one}"), &key).unwrap();
    }

    #[test]
    fn each_wrong_kind_of_text_is_told_apart() {
        let (certificate, key) = pair("device");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = key.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n");
        let cut = &certificate[..certificate.len() / 2];
        for (certificate, key, says) in [
            (&*key, &*key, "private key where the client certificate"),
            ("", &*key, "no client certificate"),
            ("HostName=h", &*key, "no client certificate"),
            (cut, &*key, "the client certificate is not valid PEM"),
            (&*certificate, &*certificate, "certificate where the private key"),
            (&*certificate, "", "no private key"),
            (&*certificate, encrypted, "encrypted"),
            (&*certificate, &*old, "encrypted"),
            (
                &*certificate,
                "-----BEGIN PRIVATE KEY-----\nAA",
                "the private key of the client certificate is",
            ),
            (&*certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "cannot be used"),
        ] {
            let result = ClientCertificate::from_pem(certificate, key);
            if says == "cannot be used" && provider::provider(None).is_err() {
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(says), "{error} has no `{says}`");
        }
    }
}
