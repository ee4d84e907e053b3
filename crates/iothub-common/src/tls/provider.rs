//! The crypto providers that are compiled in.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::CryptoBackend;
use crate::error::{Error, ErrorKind, Result};

/// The wanted provider; without a wish ring, then AWS-LC. With neither feature on this crate still builds,
/// and says so here.
pub(super) fn provider(wanted: Option<CryptoBackend>) -> Result<Arc<CryptoProvider>> {
    let found = match wanted {
        Some(CryptoBackend::Ring) => ring(),
        Some(CryptoBackend::AwsLcRs) => aws_lc_rs(),
        None => ring().or_else(aws_lc_rs),
    };
    found.map(Arc::new).ok_or_else(|| {
        let feature = match wanted {
            Some(CryptoBackend::Ring) => "feature `tls-ring` is off",
            Some(CryptoBackend::AwsLcRs) => "feature `tls-aws-lc-rs` is off",
            None => "one of the features `tls-ring` and `tls-aws-lc-rs` must be on",
        };
        Error::new(
            ErrorKind::InvalidInput,
            format!("there is no crypto library for TLS in this program: {feature}"),
        )
    })
}

#[cfg(feature = "tls-ring")]
fn ring() -> Option<CryptoProvider> {
    Some(rustls::crypto::ring::default_provider())
}

#[cfg(not(feature = "tls-ring"))]
fn ring() -> Option<CryptoProvider> {
    None
}

#[cfg(feature = "tls-aws-lc-rs")]
fn aws_lc_rs() -> Option<CryptoProvider> {
    Some(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(not(feature = "tls-aws-lc-rs"))]
fn aws_lc_rs() -> Option<CryptoProvider> {
    None
}
