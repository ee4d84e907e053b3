#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use super::*;

fn ca(name: &str) -> (rcgen::CertifiedIssuer<'static, rcgen::KeyPair>, String) {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let pem = ca.pem();
    (ca, pem)
}

#[test]
fn a_file_of_several_certificates_is_trusted_whole() {
    let pem = format!("some text\n{}{}", ca("one").1, ca("two").1);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    let tls = TlsConfig::default().platform_roots(false).ca_file(file.path()).unwrap();
    assert_eq!(tls.roots().unwrap().len(), 2);
    let tls = tls.ca_pem(ca("three").1.as_bytes()).unwrap();
    assert_eq!(tls.roots().unwrap().len(), 3);
}

#[test]
fn unusable_ca_files_are_refused_by_name() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let good = ca("good").1;
    let cut = &good[..good.len() / 2];
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in ["", "hello", key.as_str(), cut, no_certificate] {
        let mut file = tempfile::NamedTempFile::with_prefix("my-ca").unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let error = TlsConfig::default().ca_file(file.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{content}");
        assert!(error.to_string().contains("my-ca"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    let error = TlsConfig::default().ca_file("no/such/file.pem").unwrap_err();
    assert!(error.to_string().contains("no/such/file.pem cannot be read"), "{error}");
}

#[test]
fn debug_is_short() {
    let tls = TlsConfig::default().ca_pem(ca("one").1.as_bytes()).unwrap();
    assert_eq!(
        format!("{tls:?}"),
        "TlsConfig { extra_cas: 1, platform_roots: true, crypto: None, client_certificate: None }"
    );
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#[test]
fn without_a_crypto_library_it_says_which_features_bring_one() {
    let error = TlsConfig::default().client_config(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("tls-ring") && error.to_string().contains("tls-aws-lc-rs"), "{error}");
}

#[cfg(not(feature = "tls-aws-lc-rs"))]
#[test]
fn a_library_that_is_not_compiled_in_is_named() {
    let error = TlsConfig::default().crypto(CryptoBackend::AwsLcRs).client_config(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("tls-aws-lc-rs"), "{error}");
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod with_crypto {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;
    use crate::error::connect_error;

    #[test]
    fn nobody_to_trust_is_an_error_that_says_so() {
        let error = TlsConfig::default().platform_roots(false).client_config(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        let text = error.to_string();
        assert!(text.contains("TlsConfig::ca_file") && text.contains("IOTHUB_CA_FILE"), "{text}");
    }

    #[test]
    fn protocols_are_offered_as_given() {
        let tls = TlsConfig::default().platform_roots(false).ca_pem(ca("one").1.as_bytes()).unwrap();
        let config = tls.client_config(&[b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn every_compiled_library_can_be_asked_for() {
        let tls = TlsConfig::default().platform_roots(false).ca_pem(ca("one").1.as_bytes()).unwrap();
        if cfg!(feature = "tls-ring") {
            tls.clone().crypto(CryptoBackend::Ring).client_config(&[]).unwrap();
        }
        if cfg!(feature = "tls-aws-lc-rs") {
            tls.clone().crypto(CryptoBackend::AwsLcRs).client_config(&[]).unwrap();
        }
    }

    #[cfg(all(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    #[test]
    fn ring_comes_first_where_both_are_compiled_in() {
        let shown = |backend| format!("{:?}", provider::provider(backend).unwrap().key_provider);
        assert_eq!(shown(None), shown(Some(CryptoBackend::Ring)));
        assert_ne!(shown(None), shown(Some(CryptoBackend::AwsLcRs)));
    }

    /// A server with a certificate of `issuer` for `name`, as far as the client lets it come.
    fn handshake(
        client: &TlsConfig,
        issuer: &rcgen::Issuer<'_, rcgen::KeyPair>,
        name: &str,
    ) -> Result<(), Error> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider::provider(None).unwrap())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let asked = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(client.client_config(&[]).unwrap(), asked).unwrap();
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().map_err(|e| {
                connect_error("localhost", 8443, std::io::Error::new(std::io::ErrorKind::InvalidData, e))
            })?;
        }
        Ok(())
    }

    #[test]
    fn the_given_ca_is_trusted_and_others_get_a_clear_error() {
        let (issuer, pem) = ca("given");
        let client = TlsConfig::default().platform_roots(false).ca_pem(pem.as_bytes()).unwrap();
        handshake(&client, &issuer, "localhost").unwrap();

        let (stranger, _) = ca("stranger");
        let error = handshake(&client, &stranger, "localhost").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        let text = error.to_string();
        assert!(text.contains("localhost:8443 is not trusted") && text.contains("IOTHUB_CA_FILE"), "{text}");

        let error = handshake(&client, &issuer, "elsewhere.example.net").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        assert!(error.to_string().contains("not valid for the name localhost"), "{error}");
    }
}
