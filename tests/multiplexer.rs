//! Many identities on one connection, and what goes wrong with one of them.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use iothub::{ErrorKind, ModuleClient, Multiplexer, SymmetricKey, TwinPatch};
use iothub_common::{Identity, sas};
use serde_json::json;
use support::{Bench, within};

/// Connection strings of `devices` × `modules` modules; module `m0` of device `d0` is `d0/m0`.
async fn fleet(bench: &Bench, devices: usize, modules: usize) -> Vec<String> {
    let host = bench.registry.host_name().to_owned();
    let ids = (0..devices).flat_map(|d| (0..modules).map(move |m| (d, m)));
    for d in 0..devices {
        within(bench.registry.create_device(format!("d{d}"))).await.unwrap();
    }
    stream::iter(ids)
        .map(|(d, m)| {
            let (registry, host) = (bench.registry.clone(), host.clone());
            async move {
                let module = registry.add_module(&format!("d{d}"), format!("m{m}")).await.unwrap();
                module.connection_string(&host).unwrap()
            }
        })
        .buffered(8)
        .collect()
        .await
}

async fn connect_all(bench: &Bench, strings: &[String], multiplexer: &Multiplexer) -> Vec<ModuleClient> {
    stream::iter(strings)
        .map(|string| async move {
            let builder = ModuleClient::builder(string).unwrap().options(bench.options());
            within(builder.multiplexer(multiplexer).connect()).await.unwrap()
        })
        .buffered(50)
        .collect()
        .await
}

#[tokio::test]
async fn a_thousand_modules_of_which_three_fail_and_the_others_go_on() {
    let bench = Bench::start().await;
    let mut strings = fleet(&bench, 20, 50).await;
    // Two more, on devices of their own, in place of the last two.
    strings.truncate(998);
    let alone = bench.module.clone();
    strings.push(alone);
    within(bench.registry.create_device("brief")).await.unwrap();
    let brief = within(bench.registry.add_module("brief", "m")).await.unwrap();
    strings.push(brief_string(&brief, Duration::from_secs(600)));

    let multiplexer = Multiplexer::new();
    let mut clients = connect_all(&bench, &strings[..995], &multiplexer).await;
    assert_eq!(multiplexer.connections(), 1);
    clients.extend(connect_all(&bench, &strings[995..], &multiplexer).await);
    assert_eq!(multiplexer.connections(), 2, "995 fit on one connection");
    let failing = [0, 998, 999];
    for n in failing {
        within(clients[n].twin().get()).await.unwrap();
    }

    // One is deleted, another one's device is disabled, a third one's token ends.
    within(bench.registry.delete_module("d0", "m0")).await.unwrap();
    let mut device = within(bench.registry.get_device(support::DEVICE)).await.unwrap();
    device.status = iothub::service::DeviceStatus::Disabled;
    within(bench.registry.update_device(&device)).await.unwrap();
    bench.hub.advance(Duration::from_secs(601));

    let kinds = [ErrorKind::NotFound, ErrorKind::NotFound, ErrorKind::Unauthorized];
    for (n, kind) in failing.into_iter().zip(kinds) {
        assert_eq!(within(clients[n].closed()).await.unwrap().kind(), kind, "{n}");
    }
    let alive = (0..1_000).filter(|n| !failing.contains(n)).map(|n| &clients[n]);
    let versions: Vec<_> = stream::iter(alive)
        .map(|client| async move { within(client.twin().report(&json!({ "alive": true }))).await.unwrap() })
        .buffer_unordered(100)
        .collect()
        .await;
    assert_eq!(versions.len(), 997);
    assert!(versions.iter().all(|version| *version == 2));

    within(multiplexer.close()).await;
    assert!(clients[5].status().is_closed());
}

/// A connection string with a token in place of the key, which ends after `life`.
fn brief_string(module: &iothub::Module, life: Duration) -> String {
    let identity = Identity::module(&module.device_id, &module.module_id).unwrap();
    let key = module.authentication.symmetric_key.primary_key.as_ref().unwrap();
    let key = SymmetricKey::from_base64(key.reveal()).unwrap();
    let token = sas::sign(&key, &identity.resource_uri("localhost"), None, SystemTime::now() + life);
    format!(
        "HostName=localhost;DeviceId={};ModuleId={};SharedAccessSignature={}",
        module.device_id,
        module.module_id,
        token.reveal()
    )
}

#[tokio::test]
async fn identities_come_and_go_while_the_connection_stays() {
    let bench = Bench::start().await;
    let strings = fleet(&bench, 1, 3).await;
    let multiplexer = Multiplexer::new();
    let clients = connect_all(&bench, &strings[..2], &multiplexer).await;
    let mut desired = within(clients[1].twin().desired()).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 1);

    within(clients[0].close()).await;
    assert!(clients[0].status().is_closed());
    let third = connect_all(&bench, &strings[2..], &multiplexer).await.remove(0);
    within(third.twin().report(&json!({ "third": 3 }))).await.unwrap();
    let again = connect_all(&bench, &strings[..1], &multiplexer).await.remove(0);
    within(again.twin().report(&json!({ "again": 1 }))).await.unwrap();

    let patch = TwinPatch::new().desired(&json!({ "n": 2 }));
    within(bench.registry.update_module_twin("d0", "m1", &patch)).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 2);
    assert_eq!(multiplexer.connections(), 1);
}

#[tokio::test]
async fn a_wrong_key_concerns_only_its_owner() {
    let bench = Bench::start().await;
    let strings = fleet(&bench, 1, 1).await;
    let multiplexer = Multiplexer::new();
    let good = connect_all(&bench, &strings, &multiplexer).await.remove(0);
    let wrong = bench.module_with("SharedAccessKey", "d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXkh");
    let builder = ModuleClient::builder(&wrong).unwrap().options(bench.options());
    let error = within(builder.multiplexer(&multiplexer).connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    within(good.twin().report(&json!({ "fine": true }))).await.unwrap();
    assert!(good.status().is_connected());
}
