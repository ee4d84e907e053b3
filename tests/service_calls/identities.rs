//! Identities and twins, one at a time and many at once.

use futures_util::TryStreamExt;
use iothub::service::{AuthenticationType, BulkItem, DeviceStatus, KeySlot, NewAuthentication, TwinContent};
use iothub::{Device, ErrorKind, IfMatch, NewDevice, NewModule, TwinPatch};
use serde_json::{Value, json};

use crate::Drive;
use crate::support::within;

pub(crate) async fn devices(drive: &mut Drive) {
    let device = call!(drive.create_device("d")).unwrap();
    assert_eq!((device.device_id.as_str(), device.status.as_str()), ("d", "enabled"));
    let error = call!(drive.create_device("d")).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::AlreadyExists, Some("DeviceAlreadyExists")));

    let mut read = call!(drive.get_device("d")).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&device).unwrap());
    read.status_reason = Some("checked".to_owned());
    let updated = call!(drive.update_device(&read)).unwrap();
    assert_ne!(updated.etag, read.etag);
    let error = call!(drive.update_device(&read)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::PreconditionFailed, Some(412)));
    call!(drive.update_device_if_match(&read, &IfMatch::Any)).unwrap();

    assert!(!call!(drive.get_or_create_device("d")).unwrap().was_created());
    assert!(call!(drive.get_or_create_device("gone")).unwrap().was_created());
    let stale = IfMatch::ETag(device.etag);
    let error = call!(drive.delete_device_if_match("d", &stale)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    call!(drive.delete_device("gone")).unwrap();
    let error = call!(drive.get_device("gone")).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("DeviceNotFound")));

    every_authentication(drive).await;

    // Edge: a parent has a scope, its children carry it.
    let edge = call!(drive.create_device(NewDevice::new("edge").iot_edge(true))).unwrap();
    assert!(edge.capabilities.iot_edge);
    let scope = edge.device_scope.clone().unwrap();
    assert!(scope.starts_with("ms-azure-iot-edge://edge-"), "{scope}");
    let leaf = call!(drive.create_device(NewDevice::new("leaf").device_scope(scope.as_str()))).unwrap();
    assert_eq!((leaf.device_scope, leaf.parent_scopes), (Some(scope.clone()), Some(vec![scope.clone()])));
    let inner = NewDevice::new("inner").iot_edge(true).parent_scope(scope.as_str());
    assert_eq!(call!(drive.create_device(inner)).unwrap().parent_scopes, Some(vec![scope]));

    let listed: Vec<Device> = within(begin!(drive.list_devices()).try_collect()).await.unwrap();
    assert!(listed.iter().any(|device| device.device_id == "leaf"));
}

/// Created and read back, and changed into each other.
async fn every_authentication(drive: &mut Drive) {
    let (one, other) =
        ("0123456789abcdef0123456789abcdef01234567", "ABCDEF0123456789ABCDEF0123456789ABCDEF01");
    let key = iothub::SymmetricKey::generate().unwrap().to_base64();
    let kinds = || {
        [
            (NewAuthentication::GeneratedKeys, AuthenticationType::Sas),
            (
                NewAuthentication::Keys { primary: key.clone(), secondary: key.clone() },
                AuthenticationType::Sas,
            ),
            (
                NewAuthentication::Thumbprints { primary: one.to_owned(), secondary: Some(other.to_owned()) },
                AuthenticationType::SelfSigned,
            ),
            (NewAuthentication::CertificateAuthority, AuthenticationType::CertificateAuthority),
            (NewAuthentication::None, AuthenticationType::None),
        ]
    };
    for (n, (new, kind)) in kinds().into_iter().enumerate() {
        let id = format!("kind{n}");
        let device = NewDevice::new(id.as_str()).authentication(new);
        call!(drive.create_device(device)).unwrap();
        for (change, to) in kinds().into_iter().rev().chain([(kinds()[n].0.clone(), kind)]) {
            let read = call!(drive.get_device(&id)).unwrap();
            let mut changed = read.clone();
            changed.authentication.change_to(change).unwrap();
            call!(drive.update_device(&changed)).unwrap();
            let read = call!(drive.get_device(&id)).unwrap();
            assert_eq!(read.authentication.kind, to);
            let keys = &read.authentication.symmetric_key;
            assert_eq!(
                keys.primary_key.is_some() && keys.secondary_key.is_some(),
                to == AuthenticationType::Sas
            );
            let prints = &read.authentication.x509_thumbprint;
            assert_eq!(prints.primary_thumbprint.is_some(), to == AuthenticationType::SelfSigned);
            assert_eq!(read.connection_string("h").is_some(), to == AuthenticationType::Sas);
        }
        call!(drive.delete_device(&id)).unwrap();
    }
}

pub(crate) async fn modules(drive: &mut Drive) {
    let module = call!(drive.add_module("d", NewModule::new("m").managed_by("me"))).unwrap();
    assert_eq!(module.managed_by.as_deref(), Some("me"));
    let error = call!(drive.add_module("d", "m")).unwrap_err();
    assert_eq!(error.hub_code(), Some("ModuleAlreadyExistsOnDevice"));
    let error = call!(drive.add_module("nobody", "m")).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("DeviceNotFound")));
    let error = call!(drive.get_module("d", "nobody")).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("ModuleNotFound")));

    let mut read = call!(drive.get_module("d", "m")).unwrap();
    read.managed_by = None;
    let updated = call!(drive.update_module(&read)).unwrap();
    assert_eq!(updated.managed_by, None);
    assert_eq!(updated.connection_string("h"), module.connection_string("h"));
    let error = call!(drive.update_module(&read)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    call!(drive.update_module_if_match(&read, &IfMatch::Any)).unwrap();
    assert!(!call!(drive.get_or_add_module("d", "m")).unwrap().was_created());
    assert!(call!(drive.get_or_add_module("d", "n")).unwrap().was_created());
    let ids: Vec<_> = call!(drive.list_modules("d")).unwrap().into_iter().map(|m| m.module_id).collect();
    assert_eq!(ids, ["m", "n"]);
    let stale = IfMatch::ETag(module.etag);
    let error = call!(drive.delete_module_if_match("d", "m", &stale)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    call!(drive.delete_module("d", "n")).unwrap();
    assert_eq!(call!(drive.list_modules("d")).unwrap().len(), 1);
}

pub(crate) async fn changes(drive: &mut Drive) {
    let before = call!(drive.get_device("d")).unwrap();
    let device = call!(drive.set_device_status("d", DeviceStatus::Disabled, Some("lost"))).unwrap();
    assert_eq!((device.status, device.status_reason.as_deref()), (DeviceStatus::Disabled, Some("lost")));
    call!(drive.change_device("d", |device| device.status = DeviceStatus::Enabled)).unwrap();

    let rotated = call!(drive.rotate_device_key("d", KeySlot::Secondary)).unwrap();
    let (old, new) = (before.authentication.symmetric_key, rotated.authentication.symmetric_key);
    assert!(old.primary_key == new.primary_key && old.secondary_key != new.secondary_key);

    let before = call!(drive.get_module("d", "m")).unwrap();
    call!(drive.change_module("d", "m", |module| module.managed_by = Some("you".to_owned()))).unwrap();
    let rotated = call!(drive.rotate_module_key("d", "m", KeySlot::Primary)).unwrap();
    assert_eq!(rotated.managed_by.as_deref(), Some("you"));
    let (old, new) = (before.authentication.symmetric_key, rotated.authentication.symmetric_key);
    assert!(old.primary_key != new.primary_key && old.secondary_key == new.secondary_key);
}

pub(crate) async fn twins(drive: &mut Drive) {
    let patch =
        TwinPatch::new().tags(&json!({ "site": "north" })).desired(&json!({ "a": 1, "b": { "c": 2 } }));
    let twin = call!(drive.update_device_twin("d", &patch)).unwrap();
    assert_eq!(twin.tags::<Value>().unwrap(), json!({ "site": "north" }));
    let if_match = IfMatch::ETag(twin.etag.clone());
    let removal = TwinPatch::new().desired(&json!({ "b": { "c": null } }));
    let twin = call!(drive.update_device_twin_if_match("d", &removal, &if_match)).unwrap();
    assert_eq!(twin.properties.desired.get::<Value>("b").unwrap(), Some(json!({})));
    let error = call!(drive.update_device_twin_if_match("d", &removal, &if_match)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    let content = TwinContent::new().desired(&json!({ "x": 1 }));
    let twin = call!(drive.replace_device_twin("d", &content)).unwrap();
    assert_eq!((twin.properties.desired.get::<u8>("a").unwrap(), twin.tags.as_str()), (None, "{}"));
    let if_match = IfMatch::ETag(twin.etag.clone());
    call!(drive.replace_device_twin_if_match("d", &TwinContent::from(&twin), &if_match)).unwrap();
    call!(drive.update_device_tags("d", &json!({ "site": "south" }))).unwrap();
    let twin = call!(drive.get_device_twin("d")).unwrap();
    assert_eq!(twin.tags::<Value>().unwrap(), json!({ "site": "south" }));
    assert_eq!(twin.properties.desired.get::<u8>("x").unwrap(), Some(1));

    call!(drive.update_module_twin("d", "m", &patch)).unwrap();
    let twin = call!(drive.get_module_twin("d", "m")).unwrap();
    assert_eq!(twin.module_id.as_deref(), Some("m"));
    let if_match = IfMatch::ETag(twin.etag);
    call!(drive.update_module_twin_if_match("d", "m", &removal, &if_match)).unwrap();
    let twin = call!(drive.replace_module_twin("d", "m", &content)).unwrap();
    let if_match = IfMatch::ETag(twin.etag);
    call!(drive.replace_module_twin_if_match("d", "m", &content, &if_match)).unwrap();
    let twin = call!(drive.update_module_tags("d", "m", &json!({ "k": "v" }))).unwrap();
    assert_eq!(twin.tags::<Value>().unwrap(), json!({ "k": "v" }));
}

pub(crate) async fn bulks_and_queries(drive: &mut Drive) {
    let report = within(begin!(drive.create_devices(["b1", "b2"])).report()).await;
    assert_eq!(report.succeeded, 2);
    let patch = TwinPatch::new().tags(&json!({ "bulk": true }));
    let items = [BulkItem::update_device_twin("b1", &patch), BulkItem::add_module("b2", "m")];
    assert_eq!(within(begin!(drive.bulk(items)).report()).await.succeeded, 2);
    let query = begin!(drive.query("SELECT deviceId FROM devices WHERE tags.bulk = true")).typed::<Value>();
    assert_eq!(within(query.try_collect::<Vec<_>>()).await.unwrap(), [json!({ "deviceId": "b1" })]);
    assert_eq!(within(begin!(drive.delete_devices(["b1", "b2"])).report()).await.succeeded, 2);
}
