#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use iothub_common::{SymmetricKey, identity::escape_id, sas};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::hub::{ClientCertificate, HubConfig};

/// dps.md 2.2
const GROUP: &str =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
const SCOPE: &str = "0ne00000001";
const ID: &str = "sensor-01";

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

fn service(config: ProvisioningConfig) -> (Provisioning, Hub) {
    let hub = Hub::new(HubConfig::new("myhub.azure-devices.net").unwrap());
    (Provisioning::new(config, hub.clone()), hub)
}

fn group() -> Enrollment {
    Enrollment::group("line-1", Attestation::keys(key(GROUP), SymmetricKey::generate().unwrap()))
}

fn token(key: &SymmetricKey, id: &str) -> String {
    let until = std::time::SystemTime::now() + Duration::from_secs(3600);
    let resource = format!("{SCOPE}/registrations/{id}");
    sas::sign(key, &resource, Some("registration"), until).reveal().to_owned()
}

fn register(service: &Provisioning, id: &str, token: &str) -> Result<Progress, HubError> {
    service.register(SCOPE, id, &Proof { token: Some(token), certificate: None })
}

/// Registers and asks once.
fn outcome(service: &Provisioning, id: &str, proof: &Proof<'_>) -> Result<Value, HubError> {
    let progress = service.register(SCOPE, id, proof)?;
    Ok(service.poll(SCOPE, id, &progress.operation, proof)?.body)
}

fn with_token(service: &Provisioning, id: &str, token: &str) -> Result<Value, HubError> {
    outcome(service, id, &Proof { token: Some(token), certificate: None })
}

fn refusal<T>(result: Result<T, HubError>, code: u32) -> String {
    let error = result.err().expect("a refusal");
    assert_eq!(error.code, code, "{error}");
    error.text
}

#[test]
fn a_registration_is_assigned_at_the_first_poll() {
    let (service, hub) = service(ProvisioningConfig::default());
    service.enroll(group());
    let token = token(&key(GROUP).derive(ID), ID);
    let proof = Proof { token: Some(&token), certificate: None };
    let started = service.register(SCOPE, ID, &proof).unwrap();
    assert_eq!(started.body, json!({ "operationId": started.operation, "status": "assigning" }));
    assert_eq!(started.retry_after, Some(Duration::from_secs(3)));
    assert_eq!(started.operation.len(), 55);

    let done = service.poll(SCOPE, ID, &started.operation, &proof).unwrap();
    assert_eq!(done.retry_after, None);
    let state = &done.body["registrationState"];
    assert_eq!(done.body["status"], "assigned");
    assert_eq!((&state["assignedHub"], &state["deviceId"]), (&json!("myhub.azure-devices.net"), &json!(ID)));
    assert_eq!(state["symmetricKey"]["enrollmentGroupId"], "line-1");
    let keys = &hub.get_device(ID).unwrap()["authentication"]["symmetricKey"];
    assert_eq!(keys["primaryKey"], "AjovQRagSicIHgvC+IaHN/oeUQcVO1iCiFB33IYSeJE=");

    // It stays so, and other operations are none.
    assert_eq!(service.poll(SCOPE, ID, &started.operation, &proof).unwrap().body, done.body);
    refusal(service.poll(SCOPE, ID, "5.0.0", &proof), 404_203);
}

/// The token vectors of dps.md 2.2: every client spells its resource in its own way.
#[test]
fn tokens_of_all_clients_are_taken() {
    let hub_clock_is_before_2030 = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
    assert!(std::time::SystemTime::now() < hub_clock_is_before_2030);
    let sr = [
        "0ne00000001%2Fregistrations%2Fsensor-01",
        "0ne00000001%2fregistrations%2fsensor-01",
        "0ne00000001/registrations/sensor-01",
    ];
    let sig = [
        "BhOkLx5Opc2AAbQZsPCn7w5ZVQUCqx5KlmNaxGGsXPg=",
        "bnDM5IMoZudURWVaWekf92KMupHxZN4YVBYWbiSOXZc=",
        "oMaTS4s6YKDa6aIX8YfLHAce+NVog1K2QVB3t4HwVBQ=",
    ];
    let (service, _) = service(ProvisioningConfig::default());
    service.enroll(group());
    for (sr, sig) in sr.into_iter().zip(sig) {
        let sig = escape_id(sig);
        for token in [
            format!("SharedAccessSignature sr={sr}&sig={sig}&skn=registration&se=1893456000"),
            format!("SharedAccessSignature sr={sr}&sig={sig}&se=1893456000&skn="),
            format!("SharedAccessSignature sr={sr}&sig={sig}&se=1893456000"),
        ] {
            assert_eq!(with_token(&service, ID, &token).unwrap()["status"], "assigned", "{token}");
        }
    }
}

#[test]
fn members_of_a_group_are_known_in_their_own_case_and_in_lower_case() {
    let (service, hub) = service(ProvisioningConfig::default());
    service.enroll(group());
    for derived_from in ["Sensor-01", "sensor-01"] {
        let token = token(&key(GROUP).derive(derived_from), "Sensor-01");
        let state = with_token(&service, "Sensor-01", &token).unwrap();
        assert_eq!(state["registrationState"]["deviceId"], "Sensor-01");
        let primary =
            hub.get_device("Sensor-01").unwrap()["authentication"]["symmetricKey"]["primaryKey"].clone();
        assert_eq!(primary, key(GROUP).derive(derived_from).to_base64().reveal());
    }
}

#[test]
fn who_is_not_enrolled_is_told_why() {
    let (service, hub) = service(ProvisioningConfig::default());
    service.enroll(group());
    service.enroll(Enrollment::individual("own", Attestation::symmetric_key().unwrap()));
    let wrong = SymmetricKey::generate().unwrap();
    for (id, token, says) in [
        (ID, token(&key(GROUP), ID), "group 'line-1' itself"),
        (ID, token(&wrong, ID), "no enrollment of 'sensor-01'"),
        ("own", token(&wrong, "own"), "not that of the enrollment of 'own'"),
        // The individual enrollment decides alone.
        ("own", token(&key(GROUP).derive("own"), "own"), "not that of the enrollment of 'own'"),
        (ID, token(&key(GROUP).derive(ID), "other"), "registrations/other"),
        (ID, "SharedAccessSignature sr=x".to_owned(), "sig"),
    ] {
        let text = refusal(register(&service, id, &token), 401_002);
        assert!(text.contains(says), "{text} has no {says}");
    }
    let good = token(&key(GROUP).derive(ID), ID);
    let proof = Proof { token: Some(&good), certificate: None };
    assert!(refusal(service.register("0ne00000002", ID, &proof), 401_002).contains("0ne00000002"));
    assert!(refusal(service.register(SCOPE, ID, &Proof::default()), 401_002).contains("neither"));
    for id in ["", "a b", "a_", &"a".repeat(129)] {
        refusal(register(&service, id, &good), 400_000);
    }
    hub.advance(Duration::from_secs(3601));
    assert!(refusal(register(&service, ID, &good), 401_002).contains("expired"));
    assert!(hub.list_devices(10).is_empty());
}

#[test]
fn a_disabled_enrollment_is_an_outcome_and_no_device() {
    let (service, hub) = service(ProvisioningConfig::default());
    service.enroll(group().enabled(false));
    let progress = register(&service, ID, &token(&key(GROUP).derive(ID), ID)).unwrap();
    assert_eq!((&progress.body["status"], progress.retry_after), (&json!("disabled"), None));
    assert_eq!(progress.body["registrationState"]["status"], "disabled");
    assert!(hub.list_devices(10).is_empty());
}

#[test]
fn an_individual_enrollment_names_the_device_and_fills_its_twin() {
    let (service, hub) = service(ProvisioningConfig { assigning_polls: 2, ..ProvisioningConfig::default() });
    let attestation = Attestation::symmetric_key().unwrap();
    let primary = attestation.primary_key().unwrap().clone();
    let enrollment = Enrollment::individual("MAC:00-11", attestation)
        .device_id("press-7")
        .iot_edge(true)
        .initial_twin(&json!({ "site": "north" }), &json!({ "interval": 5 }));
    service.enroll(enrollment);
    let token = token(&primary, "mac:00-11");
    let started = register(&service, "mac:00-11", &token).unwrap();
    let proof = Proof { token: Some(&token), certificate: None };
    let poll = || service.poll(SCOPE, "mac:00-11", &started.operation, &proof).unwrap().body;
    let state = json!({ "registrationId": "mac:00-11", "status": "assigning" });
    for _ in 0..2 {
        assert_eq!(poll()["registrationState"], state);
    }
    assert_eq!(poll()["registrationState"]["deviceId"], "press-7");
    let device = hub.get_device("press-7").unwrap();
    assert_eq!(device["capabilities"]["iotEdge"], true);
    let identity = iothub_common::Identity::device("press-7").unwrap();
    let twin = hub.get_twin(&identity).unwrap();
    assert_eq!(
        (&twin["tags"]["site"], &twin["properties"]["desired"]["interval"]),
        (&json!("north"), &json!(5))
    );

    // A second time the device is kept, with its twin and its generation.
    hub.patch_twin(&identity, &json!({ "tags": { "site": "south" } }), Precondition::None).unwrap();
    let again = register(&service, "mac:00-11", &token).unwrap();
    assert_ne!(again.operation, started.operation);
    assert_eq!(hub.get_twin(&identity).unwrap()["tags"]["site"], "south");
    assert_eq!(hub.get_device("press-7").unwrap(), device);
}

#[test]
fn what_the_hub_does_not_take_has_failed() {
    let (service, _) = service(ProvisioningConfig::default());
    // Too short for a hub (rest.md 3.3).
    let attestation = Attestation::keys(key("c2hvcnQ="), key("c2hvcnQ="));
    service.enroll(Enrollment::individual(ID, attestation));
    let body = with_token(&service, ID, &token(&key("c2hvcnQ="), ID)).unwrap();
    assert_eq!(body["status"], "failed");
    assert_eq!(body["registrationState"]["errorCode"], 400_209);
    assert!(body["registrationState"]["errorMessage"].as_str().unwrap().contains("16 to 64 bytes"));
}

fn leaf(name: &str, issuer: Option<&CertifiedIssuer<'_, KeyPair>>) -> (String, ClientCertificate) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (made.pem(), ClientCertificate::new(&[made.der().clone()]).unwrap())
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn certificates_prove_it_too() {
    let (service, hub) = service(ProvisioningConfig::default());
    let ((pem, own), (_, other)) = (leaf("own", None), leaf("own", None));
    service.enroll(Enrollment::individual("own", Attestation::x509(&pem).unwrap()));
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    service.enroll(Enrollment::group("line-2", Attestation::x509(ours.pem()).unwrap()));
    service.enroll(group());
    let outcome = |id: &str, certificate: &ClientCertificate| {
        outcome(&service, id, &Proof { token: None, certificate: Some(certificate) })
    };

    assert_eq!(outcome("own", &own).unwrap()["status"], "assigned");
    let authentication = hub.get_device("own").unwrap()["authentication"].clone();
    assert_eq!(authentication["type"], "selfSigned");
    assert_eq!(authentication["x509Thumbprint"]["primaryThumbprint"], own.thumbprints()[1].as_str());
    let (_, member) = leaf(ID, Some(&ours));
    let state = outcome(ID, &member).unwrap();
    assert_eq!(state["registrationState"]["deviceId"], ID);
    // Java cannot read an incomplete one.
    assert!(state["registrationState"].get("x509").is_none());

    for (id, certificate, says) in [
        ("own", &other, "not that of the enrollment"),
        ("own", &member, "that of 'sensor-01', not of 'own'"),
        (ID, &leaf(ID, Some(&theirs)).1, "no group's member"),
        (ID, &leaf(ID, None).1, "no group's member"),
    ] {
        let text = refusal(outcome(id, certificate), 401_002);
        assert!(text.contains(says), "{text} has no {says}");
    }
}
