//! Small changes of identities: read, change, write back, and nothing of others is lost.
#![allow(clippy::unwrap_used)]

mod support;

use iothub_service::{
    Authentication, AuthenticationType, DeviceStatus, ETag, ErrorKind, KeySlot, NewAuthentication,
};
use serde_json::json;
use support::{FakeHub, KEY, device, json, module, refusal, twin};

#[tokio::test]
async fn a_change_begins_anew_when_somebody_else_was_faster() {
    let hub = FakeHub::start([
        json(200, device("d", "MA==")),
        refusal(412, "PreconditionFailed", "x"),
        json(200, device("d", "MQ==")),
        json(200, device("d", "Mg==")),
    ])
    .await;
    let changed =
        hub.registry().set_device_status("d", DeviceStatus::Disabled, Some("stolen")).await.unwrap();
    assert_eq!(changed.etag, ETag::new("Mg=="));
    let requests = hub.requests();
    assert_eq!(requests[1].header("If-Match"), Some("\"MA==\""));
    assert_eq!(requests[3].header("If-Match"), Some("\"MQ==\""));
    let mut wanted = device("d", "MQ==");
    wanted["status"] = json!("disabled");
    wanted["statusReason"] = json!("stolen");
    assert_eq!(requests[3].json(), wanted);
}

#[tokio::test]
async fn a_change_that_is_always_overtaken_gives_up() {
    let round = [json(200, module("d", "m", "MA==")), refusal(412, "PreconditionFailed", "x")];
    let hub = FakeHub::start(std::iter::repeat_n(round, 10).flatten()).await;
    let error = hub.registry().change_module("d", "m", |m| m.managed_by = None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(hub.requests().len(), 10);
}

#[tokio::test]
async fn keys_are_rotated_one_at_a_time() {
    let hub = FakeHub::start([
        json(200, device("d", "MA==")),
        json(200, device("d", "MQ==")),
        json(200, module("d", "m", "MA==")),
        json(200, module("d", "m", "MQ==")),
    ])
    .await;
    let registry = hub.registry();
    registry.rotate_device_key("d", KeySlot::Secondary).await.unwrap();
    registry.rotate_module_key("d", "m", KeySlot::Primary).await.unwrap();
    let keys = |n: usize| {
        let keys = hub.requests()[n].json()["authentication"]["symmetricKey"].clone();
        (keys["primaryKey"].as_str().unwrap().to_owned(), keys["secondaryKey"].as_str().unwrap().to_owned())
    };
    let (primary, secondary) = keys(1);
    assert!(primary == KEY && secondary != KEY && secondary.len() == 44, "{secondary}");
    let (primary, secondary) = keys(3);
    assert!(primary != KEY && primary.len() == 44 && secondary == KEY);
}

#[tokio::test]
async fn keys_of_a_device_without_keys_are_not_rotated() {
    let mut by_certificate = device("d", "MA==");
    by_certificate["authentication"] = json!({ "type": "certificateAuthority" });
    let hub = FakeHub::start([json(200, by_certificate)]).await;
    let error = hub.registry().rotate_device_key("d", KeySlot::Primary).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn authentication_changes_to_every_kind() {
    let mut authentication: Authentication =
        serde_json::from_value(device("d", "MA==")["authentication"].clone()).unwrap();
    let thumbprint = "0123456789012345678901234567890123456789";
    let keys = NewAuthentication::Keys { primary: KEY.into(), secondary: KEY.into() };
    let thumbprints = NewAuthentication::Thumbprints { primary: thumbprint.to_owned(), secondary: None };
    for (new, kind, has_keys, has_thumbprint) in [
        (thumbprints, AuthenticationType::SelfSigned, false, true),
        (NewAuthentication::GeneratedKeys, AuthenticationType::Sas, true, false),
        (NewAuthentication::CertificateAuthority, AuthenticationType::CertificateAuthority, false, false),
        (keys, AuthenticationType::Sas, true, false),
        (NewAuthentication::None, AuthenticationType::None, false, false),
    ] {
        authentication.change_to(new).unwrap();
        assert_eq!(authentication.kind, kind);
        let keys = &authentication.symmetric_key;
        assert_eq!((keys.primary_key.is_some(), keys.secondary_key.is_some()), (has_keys, has_keys));
        assert_eq!(authentication.x509_thumbprint.primary_thumbprint.is_some(), has_thumbprint);
    }
}

#[tokio::test]
async fn tags_are_merged_alone() {
    let hub = FakeHub::start([json(200, twin("d")), json(200, twin("d"))]).await;
    let registry = hub.registry();
    registry.update_device_tags("d", &json!({ "site": "north", "old": null })).await.unwrap();
    registry.update_module_tags("d", "m", &json!({ "a": 1 })).await.unwrap();
    let requests = hub.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target.split('?').next().unwrap()).collect();
    assert_eq!(targets, ["/twins/d", "/twins/d/modules/m"]);
    assert!(requests.iter().all(|request| request.method == "PATCH"));
    assert_eq!(requests[0].json(), json!({ "tags": { "old": null, "site": "north" } }));
}
