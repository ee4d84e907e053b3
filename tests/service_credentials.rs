//! Who may do what: policies with fewer rights, signatures that are ready, and such that have expired.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use iothub::service::RawJson;
use iothub::{ErrorKind, Registry, TwinPatch};
use iothub_emulator::LocalHub;
use support::within;

fn policy(hub: &LocalHub, name: &str) -> Registry {
    let key = hub.hub().policy(name).unwrap().primary.to_base64();
    let string = format!("HostName=localhost;SharedAccessKeyName={name};SharedAccessKey={}", key.reveal());
    Registry::from_connection_string_with(&string, hub.client_options()).unwrap()
}

fn signature(hub: &LocalHub, name: &str, expires_at: SystemTime) -> Registry {
    let token = iothub_common::sas::sign(
        &hub.hub().policy(name).unwrap().primary,
        "localhost",
        Some(name),
        expires_at,
    );
    let string = format!("HostName=localhost;SharedAccessSignature={}", token.reveal());
    Registry::from_connection_string_with(&string, hub.client_options()).unwrap()
}

#[tokio::test]
async fn each_policy_does_what_its_rights_allow() {
    let hub = LocalHub::start().await.unwrap();
    let writer = policy(&hub, "registryReadWrite");
    within(writer.create_device("d")).await.unwrap();
    within(writer.get_device("d")).await.unwrap();
    let reader = policy(&hub, "registryRead");
    within(reader.get_device("d")).await.unwrap();
    let service = policy(&hub, "service");
    within(service.update_device_twin("d", &TwinPatch::new())).await.unwrap();
    within(service.query("SELECT * FROM devices").try_collect::<Vec<RawJson>>()).await.unwrap();

    for error in [
        within(reader.create_device("e")).await.unwrap_err(),
        within(writer.get_device_twin("d")).await.unwrap_err(),
        within(service.get_device("d")).await.unwrap_err(),
        within(policy(&hub, "device").get_device("d")).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unauthorized, Some(401)));
        assert!(error.to_string().contains("rights"), "{error}");
    }
}

#[tokio::test]
async fn a_signature_that_is_ready_works_until_it_expires() {
    let hub = LocalHub::start().await.unwrap();
    let now = SystemTime::now();
    within(signature(&hub, "iothubowner", now + Duration::from_secs(600)).create_device("d")).await.unwrap();
    let registry = signature(&hub, "iothubowner", now - Duration::from_secs(600));
    let error = within(registry.get_device("d")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unauthorized, None));
    assert!(error.to_string().contains("expired 10 min ago"), "{error}");
    assert!(error.to_string().contains("clock"), "{error}");
}
