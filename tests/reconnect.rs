//! What an application sees of a hub that goes away and comes back.
#![allow(clippy::unwrap_used)]

mod support;

use iothub::{ClientOptions, ConnectionStatus, DesiredUpdate, ModuleClient, StatusChanges, TwinPatch};
use serde_json::{Value, json};
use support::{Bench, Cable, DEVICE, MODULE, within};

async fn until(changes: &mut StatusChanges, wanted: impl Fn(&ConnectionStatus) -> bool) {
    while !wanted(&within(changes.next()).await.expect("the client gave up")) {}
}

/// A module behind a cable.
async fn connect(bench: &Bench) -> (ModuleClient, Cable) {
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    (within(ModuleClient::connect_with(&bench.module, options)).await.unwrap(), cable)
}

fn is_retrying(status: &ConnectionStatus) -> bool {
    matches!(status, ConnectionStatus::Retrying { .. })
}

#[tokio::test]
async fn changes_made_while_disconnected_arrive_as_one_snapshot() {
    let bench = Bench::start().await;
    let (client, cable) = connect(&bench).await;
    let mut desired = within(client.twin().desired()).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 1);
    let mut changes = client.status_changes();
    cable.cut();
    until(&mut changes, is_retrying).await;
    for n in 2..=5 {
        let patch = TwinPatch::new().desired(&json!({ (format!("k{n}")): n }));
        within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
    }
    cable.mend();
    let update = within(desired.next()).await.unwrap();
    assert!(matches!(update, DesiredUpdate::Snapshot(_)));
    let content: Value = update.properties().to().unwrap();
    assert_eq!(content, json!({ "k2": 2, "k3": 3, "k4": 4, "k5": 5, "$version": 5 }));
    // From here on single patches again.
    let patch = TwinPatch::new().desired(&json!({ "k2": null }));
    within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
    let update = within(desired.next()).await.unwrap();
    assert!(
        matches!(&update, DesiredUpdate::Patch(p) if p.as_str() == r#"{"k2":null,"$version":6}"#),
        "{update:?}"
    );
}

#[tokio::test]
async fn versions_only_rise_over_many_cuts_and_end_at_the_hubs() {
    let bench = Bench::start().await;
    let (client, cable) = connect(&bench).await;
    let mut desired = within(client.twin().desired()).await.unwrap();
    let writes = async {
        for n in 2..=60 {
            let patch = TwinPatch::new().desired(&json!({ "n": n }));
            within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
            match n % 6 {
                2 => cable.cut(),
                4 => cable.mend(),
                _ => {}
            }
        }
        cable.mend();
    };
    let reads = async {
        let mut last = 0;
        while last < 60 {
            let version = within(desired.next()).await.unwrap().version();
            assert!(version > last, "{version} after {last}");
            last = version;
        }
    };
    tokio::join!(writes, reads);
}

#[tokio::test]
async fn reports_and_messages_made_while_disconnected_arrive_afterwards() {
    let bench = Bench::start().await;
    let (client, cable) = connect(&bench).await;
    within(client.twin().get()).await.unwrap();
    let mut changes = client.status_changes();
    cable.cut();
    until(&mut changes, is_retrying).await;
    let twin = client.twin();
    let patch = json!({ "made": "offline" });
    let calls = async { tokio::join!(twin.report(&patch), client.send("hello"), twin.get()) };
    let mend = async { cable.mend() };
    let ((report, send, get), ()) = within(async { tokio::join!(calls, mend) }).await;
    assert_eq!(report.unwrap(), 2);
    send.unwrap();
    assert_eq!(get.unwrap().reported.version(), 2, "calls keep their order");
    assert!(client.status().is_connected());
}
