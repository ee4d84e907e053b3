//! Certificates of devices, and of who signs them.
#![allow(dead_code)] // Each test file uses its part.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// A certificate with its chain, and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) sha1: String,
    pub(crate) sha256: String,
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn identity(certificate: &rcgen::Certificate, key: &KeyPair, chain: &str) -> Identity {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    Identity {
        certificate: format!("{}{chain}", certificate.pem()),
        key: key.serialize_pem(),
        sha1: hex(&Sha1::digest(certificate.der())),
        sha256: hex(&Sha256::digest(certificate.der())),
    }
}

/// A certificate nobody else signed.
pub(crate) fn self_signed(name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    identity(&params(name).self_signed(&key).unwrap(), &key, "")
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Another authority below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with the signer's own after it.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        identity(&params(name).signed_by(&key, &self.0).unwrap(), &key, &self.pem())
    }
}
