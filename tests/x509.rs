//! Devices and modules that show a certificate.
#![allow(clippy::unwrap_used)]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use certificates::{Authority, Identity, self_signed};
use iothub::{
    ConnectionStatus, DeviceClient, ErrorKind, Message, ModuleClient, Multiplexer, NewDevice, NewModule,
    Registry, RetryPolicy, Transport, service::NewAuthentication,
};
use iothub_emulator::LocalHub;
use serde_json::json;
use support::{Bench, Cable, DEVICE, MODULE, within};

/// What an error says with all its causes.
fn words(error: &iothub::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str("; ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn registry(hub: &LocalHub) -> Registry {
    Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap()
}

fn thumbprint(primary: &str) -> NewAuthentication {
    NewAuthentication::Thumbprints { primary: primary.to_owned(), secondary: None }
}

async fn connect(
    hub: &LocalHub,
    device: &str,
    shown: &Identity,
    transport: Transport,
) -> iothub::Result<DeviceClient> {
    let builder = DeviceClient::builder(&format!("HostName=localhost;DeviceId={device};x509=true"))?;
    let builder = builder.options(hub.client_options()).retry(RetryPolicy::never()).transport(transport);
    within(builder.x509(&shown.certificate, &shown.key)?.connect()).await
}

#[tokio::test]
async fn a_self_signed_certificate_is_known_by_its_thumbprint() {
    let hub = LocalHub::start().await.unwrap();
    let registry = registry(&hub).await;
    let (one, two) = (self_signed("whoever"), self_signed("whoever"));
    for (device, thumbprint) in [("sha1", thumbprint(&one.sha1)), ("sha256", thumbprint(&one.sha256))] {
        within(registry.create_device(NewDevice::new(device).authentication(thumbprint))).await.unwrap();
        for transport in [Transport::Amqp, Transport::AmqpWebSocket] {
            let client = connect(&hub, device, &one, transport).await.unwrap();
            within(client.twin().report(&json!({ "a": 1 }))).await.unwrap();
            within(client.send(Message::new("hello"))).await.unwrap();
            within(client.close()).await;

            let error = connect(&hub, device, &two, transport).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized);
            assert!(
                error.to_string().contains("thumbprint") && error.to_string().contains(device),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_module_has_a_certificate_of_its_own() {
    let hub = LocalHub::start().await.unwrap();
    let registry = registry(&hub).await;
    let (mine, device) = (self_signed("module"), self_signed("device"));
    let new = NewDevice::new(DEVICE).authentication(thumbprint(&device.sha256));
    within(registry.create_device(new)).await.unwrap();
    let new = NewModule::new(MODULE).authentication(thumbprint(&mine.sha256));
    within(registry.add_module(DEVICE, new)).await.unwrap();

    let builder = ModuleClient::builder_for("localhost", DEVICE, MODULE).unwrap();
    let builder = builder.options(hub.client_options()).retry(RetryPolicy::never());
    let client = within(builder.clone().x509(&mine.certificate, &mine.key).unwrap().connect()).await.unwrap();
    let mut desired = within(client.twin().desired()).await.unwrap();
    within(desired.next()).await.unwrap();
    within(client.close()).await;

    let shown = builder.x509(&device.certificate, &device.key).unwrap();
    let error = within(shown.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[tokio::test]
async fn an_authority_stands_for_the_devices_it_signed() {
    let root = Authority::new("factory root");
    let line = root.below("factory line 1");
    let hub = LocalHub::builder().device_authority(root.pem()).start().await.unwrap();
    let registry = registry(&hub).await;
    for device in ["one", "two"] {
        let new = NewDevice::new(device).authentication(NewAuthentication::CertificateAuthority);
        within(registry.create_device(new)).await.unwrap();
    }
    let one = line.sign("one");
    let client = connect(&hub, "one", &one, Transport::Amqp).await.unwrap();
    within(client.twin().get()).await.unwrap();

    let strangers = Authority::new("factory root").sign("one");
    for (device, shown, why) in [("two", &one, "'one'"), ("one", &strangers, "not good")] {
        let error = connect(&hub, device, shown, Transport::Amqp).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let text = words(&error);
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_survives_a_cut_and_gives_way_to_a_disabled_device() {
    let hub = LocalHub::start().await.unwrap();
    let registry = registry(&hub).await;
    let shown = self_signed("d");
    let new = NewDevice::new(DEVICE).authentication(thumbprint(&shown.sha1));
    let mut device = within(registry.create_device(new)).await.unwrap();
    let cable = Cable::to(hub.amqps_port()).await;
    let mut options = hub.client_options();
    options.amqps_port = Some(cable.port());
    let builder = DeviceClient::builder_for("localhost", DEVICE).unwrap().options(options);
    let client = within(builder.x509(&shown.certificate, &shown.key).unwrap().connect()).await.unwrap();
    let mut changes = client.status_changes();
    cable.cut();
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Retrying { .. }) {}
    cable.mend();
    within(client.twin().report(&json!({ "back": true }))).await.unwrap();

    device = within(registry.get_device(DEVICE)).await.unwrap_or(device);
    device.status = iothub::service::DeviceStatus::Disabled;
    within(registry.update_device(&device)).await.unwrap();
    let error = within(client.closed()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("disabled"), "{error}");
}

#[tokio::test]
async fn keys_and_certificates_are_not_taken_for_each_other() {
    let bench = Bench::start().await;
    let shown = self_signed(DEVICE);
    // A device with keys.
    let error = connect(&bench.hub, DEVICE, &shown, Transport::Amqp).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(words(&error).contains("authentication type is 'sas'"), "{}", words(&error));

    // A device with a certificate.
    let new = NewDevice::new("certified").authentication(thumbprint(&shown.sha1));
    within(bench.registry.create_device(new)).await.unwrap();
    let key = "HostName=localhost;DeviceId=certified;SharedAccessKey=bm90IGEgcmVhbCBrZXk=";
    let builder = DeviceClient::builder(key).unwrap().options(bench.options()).retry(RetryPolicy::never());
    let error = within(builder.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(words(&error).contains("authentication type is 'selfSigned'"), "{}", words(&error));

    // x509=true without a certificate, and a certificate beside a key: known before anything is dialled.
    let x509 = "HostName=localhost;DeviceId=certified;x509=true";
    let error = within(DeviceClient::connect_with(x509, bench.options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(".x509(certificate, key)"), "{error}");
    let both = DeviceClient::builder(key).unwrap().x509(&shown.certificate, &shown.key).unwrap();
    let error = within(both.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("SharedAccessKey"), "{error}");

    // One identity a connection.
    let shared = DeviceClient::builder(x509).unwrap().x509(&shown.certificate, &shown.key).unwrap();
    let error = within(shared.multiplexer(&Multiplexer::new()).connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("one identity"), "{error}");

    // A key of something else.
    let error =
        DeviceClient::builder(x509).unwrap().x509(&shown.certificate, &self_signed("x").key).unwrap_err();
    assert!(error.to_string().contains("not that of the client certificate"), "{error}");
}
