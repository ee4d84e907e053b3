#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use serde_json::json;

use super::*;
use crate::hub::{HubConfig, Precondition};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "somebody");
    for name in names {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    params
}

fn authority(name: &str) -> Issuer {
    let mut params = params(&[name]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn intermediate(name: &str, signer: &Issuer) -> Issuer {
    let mut params = params(&[name]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), signer).unwrap()
}

fn leaf(names: &[&str], signer: Option<&Issuer>) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    match signer {
        Some(signer) => params(names).signed_by(&key, signer).unwrap().der().clone(),
        None => params(names).self_signed(&key).unwrap().der().clone(),
    }
}

fn shown(chain: &[CertificateDer<'_>]) -> ClientCertificate {
    ClientCertificate::new(chain).unwrap()
}

/// A hub that knows an authority, and device `d` with this authentication.
fn hub(authority: &Issuer, authentication: serde_json::Value) -> (Hub, Identity) {
    let mut config = HubConfig::default();
    config.device_authorities.add_pem(authority.pem().as_bytes()).unwrap();
    let hub = Hub::new(config);
    hub.put_device("d", &json!({ "deviceId": "d", "authentication": authentication }), Precondition::None)
        .unwrap();
    (hub, Identity::device("d").unwrap())
}

fn refusal(hub: &Hub, identity: &Identity, certificate: &ClientCertificate) -> String {
    let error = hub.check_certificate(identity, certificate).unwrap_err();
    assert_eq!(error.code, 401_003, "{error:?}");
    error.text
}

#[test]
fn either_thumbprint_of_either_kind_in_any_case_is_enough() {
    let certificate = shown(&[leaf(&["whoever"], None)]);
    let [sha1, sha256] = certificate.thumbprints();
    assert_eq!((sha1.len(), sha256.len()), (40, 64));
    let other = "ab".repeat(20);
    for thumbprints in [
        json!({ "primaryThumbprint": sha1 }),
        json!({ "primaryThumbprint": sha256.to_lowercase() }),
        json!({ "primaryThumbprint": other, "secondaryThumbprint": sha1.to_lowercase() }),
    ] {
        let (hub, d) = hub(&authority("ca"), json!({ "type": "selfSigned", "x509Thumbprint": thumbprints }));
        hub.check_certificate(&d, &certificate).unwrap();
        let text = refusal(&hub, &d, &shown(&[leaf(&["whoever"], None)]));
        assert!(text.contains("thumbprint"), "{text}");
    }
}

#[test]
fn thumbprints_are_those_of_other_tools() {
    // sha1sum and sha256sum of the three bytes `abc` (FIPS 180).
    let certificate = shown(&[CertificateDer::from(b"abc".to_vec())]);
    assert_eq!(
        certificate.thumbprints(),
        [
            "A9993E364706816ABA3E25717850C26C9CD0D89D",
            "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"
        ]
    );
    assert_eq!(certificate.common_name(), None);
}

#[test]
fn an_authority_signs_for_the_id_in_the_common_name() {
    let ca = authority("ca");
    let middle = intermediate("middle", &ca);
    let (hub, d) = hub(&ca, json!({ "type": "certificateAuthority" }));
    hub.check_certificate(&d, &shown(&[leaf(&["d"], Some(&ca))])).unwrap();
    let chain = [leaf(&["d"], Some(&middle)), middle.der().clone()];
    hub.check_certificate(&d, &shown(&chain)).unwrap();

    let text = refusal(&hub, &d, &shown(&chain[..1]));
    assert!(text.contains("not good"), "{text}");
    let text = refusal(&hub, &d, &shown(&[leaf(&["d"], Some(&authority("ca")))]));
    assert!(text.contains("not good"), "{text}");
    let text = refusal(&hub, &d, &shown(&[leaf(&["d"], None)]));
    assert!(text.contains("not good"), "{text}");
    let text = refusal(&hub, &d, &shown(&[leaf(&["D"], Some(&ca))]));
    assert!(text.contains("for 'D', not for d"), "{text}");
    let text = refusal(&hub, &d, &shown(&[leaf(&[], Some(&ca))]));
    assert!(text.contains("no common name"), "{text}");

    hub.put_module(
        "d",
        "m",
        &json!({ "authentication": { "type": "certificateAuthority" } }),
        Precondition::None,
    )
    .unwrap();
    let module = Identity::module("d", "m").unwrap();
    hub.check_certificate(&module, &shown(&[leaf(&["d/m"], Some(&ca))])).unwrap();
    refusal(&hub, &module, &shown(&[leaf(&["d"], Some(&ca))]));
}

#[test]
fn time_is_the_hubs() {
    let ca = authority("ca");
    let (hub, d) = hub(&ca, json!({ "type": "certificateAuthority" }));
    let mut short = params(&["d"]);
    short.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(1);
    let short = short.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
    let certificate = shown(&[short.der().clone()]);
    hub.check_certificate(&d, &certificate).unwrap();
    hub.advance(Duration::from_secs(2 * 24 * 3600));
    let text = refusal(&hub, &d, &certificate);
    assert!(text.contains("expired"), "{text}");
}

#[test]
fn who_has_keys_or_is_disabled_gets_nothing_for_a_certificate() {
    let ca = authority("ca");
    let certificate = shown(&[leaf(&["d"], Some(&ca))]);
    let (hub, d) = hub(&ca, json!({ "type": "sas" }));
    let text = refusal(&hub, &d, &certificate);
    assert!(text.contains("'sas'"), "{text}");

    let body = json!({ "status": "disabled", "authentication": { "type": "certificateAuthority" } });
    hub.put_device("d", &body, Precondition::IfMatch(None)).unwrap();
    assert_eq!(hub.check_certificate(&d, &certificate).unwrap_err().code, 404_001);
    let nobody = Identity::device("nobody").unwrap();
    assert_eq!(hub.check_certificate(&nobody, &certificate).unwrap_err().code, 404_001);
}

#[test]
fn without_an_authority_nobody_is_signed_for() {
    let hub = Hub::new(HubConfig::default());
    let body = json!({ "authentication": { "type": "certificateAuthority" } });
    hub.put_device("d", &body, Precondition::None).unwrap();
    let text =
        refusal(&hub, &Identity::device("d").unwrap(), &shown(&[leaf(&["d"], Some(&authority("ca")))]));
    assert!(text.contains("no authority"), "{text}");
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(DeviceAuthorities::default().add_pem(pem.as_bytes()).is_err(), "{pem}");
    }
}

#[test]
fn common_names_are_read_from_any_bytes_without_a_panic() {
    let certificate = leaf(&["d", "dev+1@x"], None);
    assert_eq!(subject::common_name(&certificate).as_deref(), Some("dev+1@x"));
    for end in 0..certificate.len() {
        assert_eq!(subject::common_name(&certificate[..end]), None);
    }
    let mut changed = certificate.to_vec();
    for at in 0..changed.len().min(400) {
        let before = changed[at];
        for byte in [0, 0x30, 0x7f, 0x80, 0x83, 0xff] {
            changed[at] = byte;
            let _ = subject::common_name(&changed);
        }
        changed[at] = before;
    }
}
