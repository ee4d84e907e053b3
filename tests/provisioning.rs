//! The Device Provisioning Service: from a registration to a connected device, and each way in which it fails.
#![allow(clippy::unwrap_used)]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::{error::Error as _, time::Duration};

use certificates::{Authority, self_signed};
use iothub::{
    Error, ErrorKind, Registry, SymmetricKey,
    device::{Assignment, ProvisioningClient},
};
use iothub_emulator::{
    LocalHub,
    provisioning::{Attestation, Enrollment, ProvisioningConfig},
};
use serde_json::json;
use support::within;

/// The reference's group key and what follows from it for `sensor-01` (dps.md 2.2).
const GROUP_KEY: &str =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
const DERIVED_KEY: &str = "AjovQRagSicIHgvC+IaHN/oeUQcVO1iCiFB33IYSeJE=";
const SCOPE: &str = "0ne00000001";

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

/// A hub that decides at once unless `config` says otherwise.
async fn hub(config: ProvisioningConfig) -> LocalHub {
    let config = ProvisioningConfig { retry_after: Duration::ZERO, ..config };
    LocalHub::builder().provisioning(config).start().await.unwrap()
}

fn on(hub: &LocalHub, client: ProvisioningClient) -> ProvisioningClient {
    client.host_name(hub.host_name()).unwrap().options(hub.client_options())
}

async fn register(hub: &LocalHub, client: ProvisioningClient) -> iothub::Result<Assignment> {
    within(on(hub, client).register()).await
}

/// That the assignment is worth something: the device connects and reports.
async fn connects(hub: &LocalHub, assignment: &Assignment) {
    let client = within(assignment.device_client().unwrap().connect()).await.unwrap();
    within(client.twin().report(&json!({ "alive": true }))).await.unwrap();
    client.close().await;
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    let twin = within(registry.get_device_twin(assignment.device_id())).await.unwrap();
    assert_eq!(twin.properties.reported.get::<bool>("alive").unwrap(), Some(true));
}

fn enroll_group(hub: &LocalHub) {
    hub.provisioning().enroll(Enrollment::group("line-1", Attestation::keys(key(GROUP_KEY), key(GROUP_KEY))));
}

#[tokio::test]
async fn a_device_with_an_enrollment_of_its_own() {
    let hub = hub(ProvisioningConfig { assigning_polls: 3, ..ProvisioningConfig::default() }).await;
    let attestation = Attestation::symmetric_key().unwrap();
    let primary = attestation.primary_key().unwrap().to_base64();
    let enrollment = Enrollment::individual("mac:00-11", attestation)
        .device_id("press-7")
        .initial_twin(&json!({}), &json!({ "interval": 5 }));
    hub.provisioning().enroll(enrollment);
    let client = ProvisioningClient::with_symmetric_key(SCOPE, "mac:00-11", primary.reveal()).unwrap();
    let assignment = register(&hub, client.payload(&json!({ "model": "x" }))).await.unwrap();
    assert_eq!((assignment.hub(), assignment.device_id()), ("localhost", "press-7"));
    assert_eq!(assignment.substatus(), Some("initialAssignment"));
    assert!(!format!("{assignment:?}").contains(primary.reveal()));
    let string = format!("HostName=localhost;DeviceId=press-7;SharedAccessKey={}", primary.reveal());
    assert_eq!(assignment.connection_string().unwrap().reveal(), string);

    let device = within(assignment.device_client().unwrap().connect()).await.unwrap();
    let twin = within(device.twin().get()).await.unwrap();
    assert_eq!(twin.desired.get::<u32>("interval").unwrap(), Some(5));
    device.close().await;
    connects(&hub, &assignment).await;
}

#[tokio::test]
async fn members_of_a_group_with_its_key_or_their_own() {
    let hub = hub(ProvisioningConfig::default()).await;
    enroll_group(&hub);
    for client in [
        ProvisioningClient::with_group_key(SCOPE, "sensor-01", GROUP_KEY),
        ProvisioningClient::with_symmetric_key(SCOPE, "sensor-01", DERIVED_KEY),
        ProvisioningClient::with_group_key(SCOPE, "Sensor:02", GROUP_KEY),
    ] {
        connects(&hub, &register(&hub, client.unwrap()).await.unwrap()).await;
    }
    let ids: Vec<_> = hub
        .hub()
        .list_devices(10)
        .iter()
        .map(|device| device["deviceId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["Sensor:02", "sensor-01"]);
}

#[tokio::test]
async fn devices_with_certificates() {
    let hub = hub(ProvisioningConfig::default()).await;
    let (own, ours) = (self_signed("own"), Authority::new("ours"));
    let enroll = |enrollment| hub.provisioning().enroll(enrollment);
    enroll(Enrollment::individual("own", Attestation::x509(&own.certificate).unwrap()));
    enroll(Enrollment::group("line-2", Attestation::x509(ours.pem()).unwrap()));
    let (member, below) = (ours.sign("member"), ours.below("plant").sign("below"));
    for (id, shown) in [("own", &own), ("member", &member), ("below", &below)] {
        let client = ProvisioningClient::with_certificate(SCOPE, id, &shown.certificate, &shown.key).unwrap();
        let assignment = register(&hub, client).await.unwrap();
        assert!(assignment.connection_string().is_none());
        connects(&hub, &assignment).await;
    }

    let stranger = Authority::new("theirs").sign("member");
    for (id, shown, says) in [
        ("member", &stranger, "no group's member"),
        ("own", &self_signed("own"), "not that of the enrollment of 'own'"),
        ("other", &member, "that of 'member', not of 'other'"),
    ] {
        let client = ProvisioningClient::with_certificate(SCOPE, id, &shown.certificate, &shown.key).unwrap();
        let error = register(&hub, client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(said(&error).contains(says), "{error:?}");
    }
}

/// What the service said itself.
fn said(error: &Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn what_is_wrong_with_the_credentials_is_told_apart() {
    let hub = hub(ProvisioningConfig::default()).await;
    enroll_group(&hub);
    hub.provisioning().enroll(Enrollment::individual("own", Attestation::symmetric_key().unwrap()));
    for (scope, id, key, says) in [
        ("0ne99999999", "sensor-01", DERIVED_KEY, "no ID scope '0ne99999999'"),
        (SCOPE, "sensor-02", DERIVED_KEY, "no enrollment of 'sensor-02'"),
        (SCOPE, "sensor-01", GROUP_KEY, "a device's key is derived from it"),
        (SCOPE, "own", DERIVED_KEY, "not that of the enrollment of 'own'"),
    ] {
        let client = ProvisioningClient::with_symmetric_key(scope, id, key).unwrap();
        let error = register(&hub, client).await.unwrap_err();
        assert_eq!((error.kind(), error.hub_code()), (ErrorKind::Unauthorized, Some("401002")));
        assert!(error.to_string().contains(scope) && error.to_string().contains(id), "{error}");
        assert!(said(&error).contains(says), "{error:?}");
        assert!(!format!("{error:?}").contains(key));
    }
    hub.advance(Duration::from_secs(3601));
    let client = ProvisioningClient::with_group_key(SCOPE, "sensor-01", GROUP_KEY).unwrap();
    let error = register(&hub, client).await.unwrap_err();
    assert!(said(&error).contains("expired") && error.to_string().contains("clock"), "{error:?}");
    assert!(hub.hub().list_devices(10).is_empty());
}

#[tokio::test]
async fn a_disabled_enrollment_says_so() {
    let hub = hub(ProvisioningConfig::default()).await;
    let attestation = Attestation::keys(key(GROUP_KEY), key(GROUP_KEY));
    hub.provisioning().enroll(Enrollment::group("line-1", attestation).enabled(false));
    let client = ProvisioningClient::with_group_key(SCOPE, "sensor-01", GROUP_KEY).unwrap();
    let error = register(&hub, client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("`sensor-01`") && error.to_string().contains("disabled"), "{error}");
}

#[tokio::test]
async fn a_device_that_no_hub_takes_says_why() {
    let hub = hub(ProvisioningConfig::default()).await;
    // Too short for a hub, good enough for a signature.
    let attestation = Attestation::keys(key("c2hvcnQ="), key("c2hvcnQ="));
    hub.provisioning().enroll(Enrollment::individual("sensor-01", attestation));
    let client = ProvisioningClient::with_symmetric_key(SCOPE, "sensor-01", "c2hvcnQ=").unwrap();
    let error = register(&hub, client).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::Rejected, Some("400209")));
    assert!(said(&error).contains("16 to 64 bytes"), "{error:?}");
}

#[tokio::test]
async fn an_assignment_that_takes_too_long_is_given_up() {
    let hub = hub(ProvisioningConfig { assigning_polls: u32::MAX, ..ProvisioningConfig::default() }).await;
    enroll_group(&hub);
    let client = ProvisioningClient::with_group_key(SCOPE, "sensor-01", GROUP_KEY).unwrap();
    let client = on(&hub, client).timeout(Duration::from_secs(2));
    let error = within(client.register()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("still being assigned after 2s"), "{error}");
    assert!(error.may_have_been_applied());
}

#[tokio::test]
async fn a_service_that_is_not_there_or_not_trusted_is_told_apart() {
    let hub = hub(ProvisioningConfig::default()).await;
    let client = || ProvisioningClient::with_group_key(SCOPE, "sensor-01", GROUP_KEY).unwrap();
    let mut options = hub.client_options();
    options.https_port = Some(1);
    let elsewhere = client().host_name("localhost").unwrap().options(options);
    let error = within(elsewhere.register()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("localhost:1"), "{error}");

    let mut options = hub.client_options();
    options.tls = LocalHub::start().await.unwrap().client_options().tls;
    let error =
        within(client().host_name("localhost").unwrap().options(options).register()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
}
