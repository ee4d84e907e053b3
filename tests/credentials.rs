//! How devices and modules prove who they are: ready-made signatures and providers of them.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use iothub::{
    ConnectionStatus, DeviceClient, Error, ErrorKind, ModuleClient, Multiplexer, Registry, SasRequest,
    Secret, SymmetricKey, service::NewAuthentication,
};
use iothub_common::sas;
use serde_json::json;
use support::{Bench, Cable, DEVICE, MODULE, within};
use tokio::sync::mpsc;

fn in_seconds(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

/// What an error says with all its causes.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str("; ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn key_of(connection_string: &str) -> SymmetricKey {
    let (_, key) = connection_string.split_once("SharedAccessKey=").unwrap();
    SymmetricKey::from_base64(key).unwrap()
}

/// Signs as a key vault would.
#[derive(Clone)]
struct Vault(SymmetricKey);

impl Vault {
    fn of(bench: &Bench) -> Self {
        Self(key_of(&bench.module))
    }

    fn token(&self, request: &SasRequest, expires_at: SystemTime) -> Secret {
        sas::sign(&self.0, request.resource(), None, expires_at)
    }
}

// Ready-made signatures.

fn with_signature(bench: &Bench, expires_at: SystemTime) -> String {
    let resource = format!("localhost/devices/{DEVICE}/modules/{MODULE}");
    let token = sas::sign(&key_of(&bench.module), &resource, None, expires_at);
    format!("HostName=localhost;DeviceId={DEVICE};ModuleId={MODULE};SharedAccessSignature={}", token.reveal())
}

#[tokio::test]
async fn a_signature_is_good_until_it_expires() {
    let bench = Bench::start().await;
    let string = with_signature(&bench, in_seconds(3600));
    let client = within(ModuleClient::connect_with(&string, bench.options())).await.unwrap();
    within(client.twin().report(&json!({ "a": 1 }))).await.unwrap();

    // By the hub's clock it is over.
    bench.hub.advance(Duration::from_secs(3700));
    let error = within(client.closed()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(words(&error).contains("token is expired"), "{}", words(&error));
}

#[tokio::test]
async fn an_expired_signature_says_by_how_much_and_mentions_the_clock() {
    let bench = Bench::start().await;
    let ago = SystemTime::now() - Duration::from_secs(3 * 3600 + 60);
    let error = bench.connect_once(&with_signature(&bench, ago)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let text = error.to_string();
    assert!(text.contains("expired 3 h ago") && text.contains("clock"), "{text}");
    assert!(text.contains("SharedAccessSignature"), "{text}");
    assert!(!format!("{error:?}").contains("sig="), "{error:?}");
}

#[tokio::test]
async fn a_signature_for_somebody_else_is_refused() {
    let bench = Bench::start().await;
    let token = sas::sign(&key_of(&bench.module), "localhost/devices/other", None, in_seconds(600));
    let string = format!(
        "HostName=localhost;DeviceId={DEVICE};ModuleId={MODULE};SharedAccessSignature={}",
        token.reveal()
    );
    let error = bench.connect_once(&string).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::NotFound), "{error}");
}

// Providers.

#[tokio::test]
async fn a_provider_is_asked_for_the_module_and_again_before_the_token_ends() {
    let bench = Bench::start().await;
    let vault = Vault::of(&bench);
    let (asked, mut requests) = mpsc::unbounded_channel();
    let (in_flight, overlapped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let overlap = overlapped.clone();
    let client = ModuleClient::builder_for("localhost", DEVICE, MODULE)
        .unwrap()
        .options(bench.options())
        .sas_provider(move |request: SasRequest| {
            let (vault, asked) = (vault.clone(), asked.clone());
            let (in_flight, overlap) = (in_flight.clone(), overlap.clone());
            async move {
                if in_flight.fetch_add(1, Ordering::SeqCst) > 0 {
                    overlap.store(true, Ordering::SeqCst);
                }
                tokio::task::yield_now().await;
                let token = vault.token(&request, in_seconds(3));
                in_flight.fetch_sub(1, Ordering::SeqCst);
                asked.send((request.device_id().to_owned(), request.module_id().map(str::to_owned))).unwrap();
                Ok::<_, Error>(token)
            }
        });
    let client = within(client.connect()).await.unwrap();
    for _ in 0..3 {
        let request = within(requests.recv()).await.unwrap();
        assert_eq!(request, (DEVICE.to_owned(), Some(MODULE.to_owned())));
        within(client.twin().report(&json!({ "n": 1 }))).await.unwrap();
        assert!(client.status().is_connected());
    }
    assert!(!overlapped.load(Ordering::SeqCst), "one question at a time");
}

#[tokio::test]
async fn a_provider_that_hangs_holds_up_nothing() {
    let bench = Bench::start().await;
    let vault = Vault::of(&bench);
    let calls = AtomicU32::new(0);
    let (hangs, mut hanging) = mpsc::unbounded_channel();
    let builder = ModuleClient::builder_for("localhost", DEVICE, MODULE).unwrap().options(bench.options());
    let builder = builder.sas_provider(move |request: SasRequest| {
        let token = (calls.fetch_add(1, Ordering::SeqCst) == 0).then(|| vault.token(&request, in_seconds(5)));
        let hangs = hangs.clone();
        async move {
            match token {
                Some(token) => Ok::<_, Error>(token),
                None => {
                    hangs.send(()).unwrap();
                    std::future::pending().await
                }
            }
        }
    });
    let client = within(builder.connect()).await.unwrap();
    within(hanging.recv()).await.unwrap();
    for n in 0..10 {
        within(client.twin().report(&json!({ "n": n }))).await.unwrap();
    }
    within(client.close()).await;
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_will_not_ends_the_client() {
    let bench = Bench::start().await;
    let vault = Vault::of(&bench);
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let builder = ModuleClient::builder_for("localhost", DEVICE, MODULE).unwrap().options(bench.options());
    let flaky = builder.clone().sas_provider(move |request: SasRequest| {
        let token = vault.token(&request, in_seconds(600));
        let fails = count.fetch_add(1, Ordering::SeqCst) < 2;
        async move { if fails { Err(std::io::Error::other("the vault is closed")) } else { Ok(token) } }
    });
    let client = within(flaky.connect()).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    within(client.twin().get()).await.unwrap();

    let revoked = builder.clone().sas_provider(|_| async {
        Err::<Secret, _>(Error::new(ErrorKind::Unauthorized, "the vault does not know this device"))
    });
    let error = within(revoked.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("SAS provider"), "{error}");

    let wrong = builder.clone().sas_provider(|request: SasRequest| async move {
        let key = SymmetricKey::from_base64("d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXkh")?;
        Ok::<_, Error>(sas::sign(&key, request.resource(), None, in_seconds(600)))
    });
    let error = within(wrong.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);

    let expired = Vault::of(&bench);
    let old = builder.sas_provider(move |request: SasRequest| {
        let token = expired.token(&request, SystemTime::now() - Duration::from_secs(600));
        async move { Ok::<_, Error>(token) }
    });
    let error = within(old.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let text = error.to_string();
    assert!(text.contains("expired 10 min ago") && text.contains("clock"), "{text}");
}

#[tokio::test]
async fn a_reconnection_uses_the_token_there_is() {
    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let vault = Vault::of(&bench);
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let mut options = bench.options();
    options.amqps_port = Some(cable.port());
    let builder = ModuleClient::builder_for("localhost", DEVICE, MODULE).unwrap().options(options);
    let client = builder.sas_provider(move |request: SasRequest| {
        count.fetch_add(1, Ordering::SeqCst);
        let token = vault.token(&request, in_seconds(3600));
        async move { Ok::<_, Error>(token) }
    });
    let client = within(client.connect()).await.unwrap();
    let mut changes = client.status_changes();
    cable.cut();
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Retrying { .. }) {}
    cable.mend();
    within(client.twin().report(&json!({ "back": true }))).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_old_token_that_the_hub_refuses_is_replaced() {
    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let vault = Arc::new(Mutex::new(Vault::of(&bench)));
    let shared = vault.clone();
    let mut options = bench.options();
    options.amqps_port = Some(cable.port());
    let builder = ModuleClient::builder_for("localhost", DEVICE, MODULE).unwrap().options(options);
    let client = builder.sas_provider(move |request: SasRequest| {
        let token = shared.lock().unwrap().token(&request, in_seconds(3600));
        async move { Ok::<_, Error>(token) }
    });
    let client = within(client.connect()).await.unwrap();

    // Somebody rolls the keys, and the vault learns of it; the client holds a token of the old one.
    let mut module = within(bench.registry.get_module(DEVICE, MODULE)).await.unwrap();
    let keys = [SymmetricKey::generate().unwrap(), SymmetricKey::generate().unwrap()];
    let [primary, secondary] = keys.each_ref().map(SymmetricKey::to_base64);
    module.authentication.change_to(NewAuthentication::Keys { primary, secondary }).unwrap();
    within(bench.registry.update_module(&module)).await.unwrap();
    *vault.lock().unwrap() = Vault(keys[0].clone());

    let mut changes = client.status_changes();
    cable.cut();
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Retrying { .. }) {}
    cable.mend();
    within(client.twin().report(&json!({ "back": true }))).await.unwrap();
}

#[tokio::test]
async fn providers_share_a_connection() {
    let bench = Bench::start().await;
    let multiplexer = Multiplexer::new();
    let mut clients = Vec::new();
    for n in 0..20 {
        let id = format!("m{n}");
        let module = within(bench.registry.add_module(DEVICE, id.as_str())).await.unwrap();
        let vault = Vault(key_of(&module.connection_string("localhost").unwrap()));
        let builder = ModuleClient::builder_for("localhost", DEVICE, &id).unwrap().options(bench.options());
        let builder = builder.multiplexer(&multiplexer).sas_provider(move |request: SasRequest| {
            let token = vault.token(&request, in_seconds(600));
            async move { Ok::<_, Error>(token) }
        });
        clients.push(within(builder.connect()).await.unwrap());
    }
    for client in &clients {
        within(client.twin().report(&json!({ "id": client.module_id() }))).await.unwrap();
    }
    assert_eq!(multiplexer.connections(), 1);
}

// Wrong kinds of connection strings.

#[tokio::test]
async fn each_wrong_kind_of_connection_string_is_told_apart() {
    let bench = Bench::start().await;
    let device = within(bench.registry.get_device(DEVICE)).await.unwrap();
    let device = device.connection_string("localhost").unwrap();
    let hub = bench.hub.connection_string();
    let events =
        "Endpoint=sb://ns.example.net/;SharedAccessKeyName=owner;SharedAccessKey=QQ==;EntityPath=hub";
    let storage = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=QQ==;EndpointSuffix=example.net";
    let keyless = format!("HostName=localhost;DeviceId={DEVICE};ModuleId={MODULE}");
    for (string, says) in [
        (device.as_str(), "ModuleId is missing"),
        (hub.as_str(), "of the hub itself"),
        (events, "Endpoint is not a part"),
        (storage, "DefaultEndpointsProtocol is not a part"),
        (keyless.as_str(), "SharedAccessKey is missing"),
        ("", "empty"),
    ] {
        let error = within(ModuleClient::connect_with(string, bench.options())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error} has no `{says}`");
        assert!(!error.to_string().contains("QQ=="), "{error}");
    }
    let error = within(DeviceClient::connect_with(&bench.module, bench.options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(MODULE) && error.to_string().contains("ModuleClient"), "{error}");
    let error = Registry::from_connection_string(&device).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
