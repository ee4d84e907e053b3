//! The twin through both halves: read, report, desired properties, order, reconnection.
#![allow(clippy::unwrap_used)]

mod support;

use futures_util::{StreamExt, future::join_all, stream::FuturesOrdered};
use iothub::{DesiredUpdate, ModuleClient, TwinPatch};
use serde_json::{Value, json};
use support::{Bench, DEVICE, MODULE, within};

#[tokio::test]
async fn a_fresh_twin_is_empty_and_shows_versions_only() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let twin = within(client.twin().get()).await.unwrap();
    assert_eq!(twin.desired.as_str(), r#"{"$version":1}"#);
    assert_eq!(twin.reported.as_str(), r#"{"$version":1}"#);
    client.close().await;
}

#[tokio::test]
async fn what_the_module_reports_the_service_reads() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let twin = client.twin();
    assert_eq!(within(twin.report(&json!({ "a": { "b": 1 }, "c": "x" }))).await.unwrap(), 2);
    assert_eq!(within(twin.report(&json!({ "a": { "b": null }, "d": [1, 2.5] }))).await.unwrap(), 3);
    let seen = within(bench.registry.get_module_twin(DEVICE, MODULE)).await.unwrap();
    let mut reported: Value = seen.reported().unwrap();
    reported.as_object_mut().unwrap().remove("$metadata");
    assert_eq!(reported, json!({ "a": {}, "c": "x", "d": [1, 2.5], "$version": 3 }));
}

#[tokio::test]
async fn the_desired_stream_begins_with_the_state_and_follows_every_patch() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut desired = within(client.twin().desired()).await.unwrap();
    let first = within(desired.next()).await.unwrap();
    assert!(matches!(&first, DesiredUpdate::Snapshot(p) if p.as_str() == r#"{"$version":1}"#), "{first:?}");
    for n in 2..=20 {
        let patch = TwinPatch::new().desired(&json!({ "n": n, "gone": null }));
        within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
    }
    for n in 2..=20 {
        let update = within(desired.next()).await.unwrap();
        assert!(matches!(update, DesiredUpdate::Patch(_)));
        let content: Value = update.properties().to().unwrap();
        assert_eq!(content, json!({ "n": n, "gone": null, "$version": n }));
    }
    client.close().await;
    assert!(within(desired.next()).await.is_none());
}

#[tokio::test]
async fn reports_in_flight_keep_their_order() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let twin = client.twin();
    // More than the command queue holds, and more than Tokio polls without a pause.
    let patches: Vec<_> = (0..1_000).map(|n| json!({ "n": n })).collect();
    let mut reports: FuturesOrdered<_> = patches.iter().map(|patch| twin.report(patch)).collect();
    let mut version = 1;
    while let Some(result) = within(reports.next()).await {
        version += 1;
        assert_eq!(result.unwrap(), version);
    }
    assert_eq!(version, 1_001);
    let seen = within(bench.registry.get_module_twin(DEVICE, MODULE)).await.unwrap();
    assert_eq!(seen.properties.reported.get::<u64>("n").unwrap(), Some(999));
}

#[tokio::test]
async fn many_modules_share_a_hub_and_see_only_their_own() {
    let bench = Bench::start().await;
    let modules = join_all((0..10).map(|n| {
        let registry = bench.registry.clone();
        async move { registry.add_module(DEVICE, format!("m{n}")).await.unwrap() }
    }));
    let modules = within(modules).await;
    let host = bench.registry.host_name();
    let strings: Vec<_> = modules.iter().map(|m| m.connection_string(host).unwrap()).collect();
    let clients = join_all(strings.iter().map(|s| ModuleClient::connect_with(s, bench.options())));
    let clients: Vec<_> = within(clients).await.into_iter().map(Result::unwrap).collect();
    for (n, client) in clients.iter().enumerate() {
        within(client.twin().report(&json!({ "n": n }))).await.unwrap();
    }
    for n in 0..10 {
        let twin = within(bench.registry.get_module_twin(DEVICE, &format!("m{n}"))).await.unwrap();
        assert_eq!(twin.properties.reported.get::<usize>("n").unwrap(), Some(n));
    }
}

#[tokio::test]
async fn odd_ids_work_everywhere() {
    let bench = Bench::start().await;
    let ids = ["dev+1", "dev%2b", "$edgy", "a:b.c", "x#y?z", "(p),q=r@s;t$u'v!w*", "-_."];
    for id in ids {
        within(bench.registry.create_device(id)).await.unwrap();
        let module = within(bench.registry.add_module(id, id)).await.unwrap();
        let Some(string) = module.connection_string(bench.registry.host_name()) else {
            assert!(id.contains(';'), "only a `;` cannot stand in a connection string: {id}");
            continue;
        };
        let client = within(ModuleClient::connect_with(&string, bench.options())).await.unwrap();
        within(client.twin().report(&json!({ "id": id }))).await.unwrap();
        let twin = within(bench.registry.get_module_twin(id, id)).await.unwrap();
        assert_eq!(twin.properties.reported.get::<String>("id").unwrap().as_deref(), Some(id));
        client.close().await;
    }
}

#[tokio::test]
async fn a_token_that_ends_is_replaced_by_a_new_connection_and_nothing_is_missed() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut desired = within(client.twin().desired()).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 1);
    // Only the hub's clock moves, so the module cannot have renewed in time: the hub ends the link.
    let mut changes = client.status_changes();
    assert!(within(changes.next()).await.unwrap().is_connected());
    bench.hub.advance(std::time::Duration::from_secs(3590));
    let patch = TwinPatch::new().desired(&json!({ "n": 2 }));
    within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 2);
    client.close().await;
}
