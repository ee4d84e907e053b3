//! The hub's own certificate authority and the certificate it serves.
//!
//! Clients trust the authority (`ca.pem`); the server certificate is made anew at each start, so no private key
//! of it is ever stored and a changed list of names needs no bookkeeping. The details below are what the strictest
//! readers ask for: Python from 3.13 on verifies with `X509_V_FLAG_X509_STRICT`, which refuses an authority without
//! key usage or a leaf without an authority key identifier.

mod client_auth;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use self::client_auth::AnyCertificate;

/// How long the authority is valid. Users put it into trust stores, so it outlives most projects.
const AUTHORITY_LIFE: Duration = Duration::days(3650);
/// Apple's verifier refuses server certificates that live longer than 825 days.
const LEAF_LIFE: Duration = Duration::days(397);
/// Clocks of virtual machines and containers may lag behind.
const CLOCK_SKEW: Duration = Duration::days(1);

/// What goes wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("could not make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("TLS does not take the certificate")]
    Refused(#[from] rustls::Error),
    #[error("no private key and certificate in PEM form")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("the private key and the certificate do not belong together")]
    Mismatch(#[source] rustls::Error),
    #[error("`{0}` is neither a DNS name nor an IP address")]
    Name(String),
}

/// A certificate authority of one hub: its key and its certificate.
pub(crate) struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    ca_pem: String,
}

impl Authority {
    /// A fresh authority with a name of its own, so that several of them in one trust store are told apart.
    pub(crate) fn generate() -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = authority_params(&key)?;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + AUTHORITY_LIFE;
        let certificate = params.self_signed(&key)?;
        Ok(Self { ca_pem: certificate.pem(), certificate: certificate.der().clone(), key })
    }

    /// Reads back what [`Authority::to_pem`] wrote.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?;
        let start = pem.find("-----BEGIN CERTIFICATE-----").unwrap_or_default();
        let authority = Self { ca_pem: pem[start..].to_owned(), certificate, key };
        authority.check()?;
        Ok(authority)
    }

    /// The private key and then the certificate, in one text so that they can't part.
    pub(crate) fn to_pem(&self) -> String {
        format!("{}{}", self.key.serialize_pem(), self.ca_pem)
    }

    /// The certificate in PEM form: what clients trust.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A server configuration with a new certificate for `names`, offering `alpn` where the client asks. Clients may show
    /// a certificate.
    pub(crate) fn server_config(
        &self,
        names: &[ServerName<'static>],
        alpn: &[&[u8]],
    ) -> Result<rustls::ServerConfig, TlsError> {
        let (leaf, key) = self.issue(names)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(AnyCertificate(provider())))
            .with_single_cert(vec![leaf, self.certificate.clone()], key)?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    fn issue(
        &self,
        names: &[ServerName<'static>],
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("iothub local hub");
        params.subject_alt_names = names.iter().map(alternative_name).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = KeyIdMethod::Sha256;
        params.is_ca = IsCa::ExplicitNoCa;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + LEAF_LIFE;

        let issuer = Issuer::new(authority_params(&self.key)?, &self.key);
        let leaf = params.signed_by(&key, &issuer)?.der().clone();
        Ok((leaf, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    /// Whether the key made the certificate: issue something and verify it as a client would.
    fn check(&self) -> Result<(), TlsError> {
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (leaf, _) = self.issue(std::slice::from_ref(&name))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::Refused(rustls::Error::General(error.to_string())))?;
        match verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(error) => Err(TlsError::Mismatch(error)),
        }
    }
}

/// The names a hub's certificate carries: the host names given, and always the loopback ones.
pub(crate) fn certificate_names(
    host_names: &[String],
    addresses: &[IpAddr],
) -> Result<Vec<ServerName<'static>>, TlsError> {
    let mut names = Vec::new();
    for host in host_names {
        names.push(ServerName::try_from(host.clone()).map_err(|_| TlsError::Name(host.clone()))?);
    }
    // "localhost" is a valid DNS name.
    names.extend(ServerName::try_from("localhost"));
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let bound = addresses.iter().copied().filter(|address| !address.is_unspecified());
    names.extend(loopback.into_iter().chain(bound).map(ServerName::from));

    let mut unique: Vec<ServerName<'static>> = Vec::with_capacity(names.len());
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    Ok(unique)
}

/// The crypto provider, passed explicitly: a process-wide default may be absent or somebody else's.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Everything about an authority but its dates follows from its key; so a stored key is enough to issue with.
fn authority_params(key: &KeyPair) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.key_identifier_method = KeyIdMethod::Sha256;
    let id = params.key_identifier(key);
    let id: String = id.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = common_name(&format!("iothub local hub CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn alternative_name(name: &ServerName<'static>) -> Result<SanType, TlsError> {
    match name {
        ServerName::IpAddress(address) => Ok(SanType::IpAddress((*address).into())),
        other => {
            let text = other.to_str();
            let dns = text.as_ref().try_into().map_err(|_| TlsError::Name(text.to_string()))?;
            Ok(SanType::DnsName(dns))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(hosts: &[&str]) -> Result<Vec<String>, TlsError> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let names = certificate_names(&hosts, &[])?;
        Ok(names.iter().map(|name| name.to_str().into_owned()).collect())
    }

    #[test]
    fn certificate_carries_given_and_loopback_names_once() {
        assert_eq!(names(&["hub.test"]).unwrap(), ["hub.test", "localhost", "127.0.0.1", "::1"]);
        assert_eq!(names(&["localhost"]).unwrap(), ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(names(&["10.1.2.3"]).unwrap(), ["10.1.2.3", "localhost", "127.0.0.1", "::1"]);
    }

    #[test]
    fn bad_names_are_named() {
        let error = names(&["no such name"]).unwrap_err();
        assert_eq!(error.to_string(), "`no such name` is neither a DNS name nor an IP address");
    }

    #[test]
    fn authority_survives_a_round_trip() {
        let made = Authority::generate().unwrap();
        let read = Authority::from_pem(&made.to_pem()).unwrap();
        assert_eq!(read.ca_pem(), made.ca_pem());
        assert!(!read.ca_pem().contains("PRIVATE"));
    }

    #[test]
    fn key_of_another_authority_is_noticed() {
        let (one, two) = (Authority::generate().unwrap(), Authority::generate().unwrap());
        let mixed = format!("{}{}", one.key.serialize_pem(), two.ca_pem());
        assert!(matches!(Authority::from_pem(&mixed), Err(TlsError::Mismatch(_))));
    }
}
