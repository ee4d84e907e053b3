//! Answers and notifications of twins that are lost, late or out of order on purpose.
#![allow(clippy::unwrap_used, missing_docs)]

mod amqp_client;
mod support;

use std::time::Duration;

use amqp_client::{Client, REPORTED, Twin, create_device, data};
use fe2o3_amqp::types::messaging::MessageId;
use futures_util::FutureExt;
use iothub_common::Identity;
use iothub_emulator::LocalHub;
use iothub_emulator::hub::{Effect, Faults, Portion, Precondition, Rule};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

async fn start() -> (LocalHub, Faults, Identity, Client, Twin) {
    let hub = LocalHub::start().await.unwrap();
    let device = create_device(&hub, "d");
    let mut client = Client::owner(&hub).await;
    // The owner's token lasts for an hour only.
    let mut twin = client.twin(&device).await;
    twin.subscribe().await;
    let faults = hub.hub().faults();
    (hub, faults, device, client, twin)
}

fn patch(hub: &LocalHub, identity: &Identity, n: u64) {
    let body = json!({ "properties": { "desired": { "n": n } } });
    hub.hub().patch_twin(identity, &body, Precondition::None).unwrap();
}

async fn faults_done(hub: &LocalHub, name: &str, count: u64) {
    while hub.hub().counters().faults.get(name) != Some(&count) {
        tokio::task::yield_now().await;
    }
}

async fn report(twin: &mut Twin, id: &str, n: u64) {
    let body = format!("{{\"n\":{n}}}");
    let id = Some(MessageId::String(id.to_owned()));
    twin.send(id, "PATCH", Some(REPORTED), data(body.as_bytes()), true).await.unwrap();
}

#[tokio::test]
async fn a_swallowed_answer_is_to_a_request_that_was_carried_out() {
    let (hub, faults, device, _client, mut twin) = start().await;
    let other = create_device(&hub, "other");
    faults.add(Rule::new(Effect::SwallowTwinReplies).only_for(other).times(1));
    faults.add(Rule::new(Effect::SwallowTwinReplies).only_for(device.clone()).times(1));
    report(&mut twin, "lost", 7).await;
    // The next message is the answer to the next request.
    let answer = twin.get().await;
    assert_eq!(answer.json()["reported"]["n"], 7);
    let counters = hub.hub().counters();
    assert_eq!((counters.twin_gets, counters.reported_patches), (1, 1));
    assert_eq!(counters.faults["swallowTwinReplies"], 1);
}

#[tokio::test]
async fn a_late_answer_comes_by_the_hubs_clock_and_keeps_nobody_else() {
    let (hub, faults, _device, _client, mut twin) = start().await;
    faults.add(Rule::new(Effect::DelayTwinReplies(SECOND * 1000)).times(1));
    report(&mut twin, "late", 1).await;
    twin.get().await;
    assert!(
        twin.receiver
            .recv::<fe2o3_amqp::types::messaging::Body<fe2o3_amqp::types::primitives::Value>>()
            .now_or_never()
            .is_none()
    );
    hub.advance(SECOND * 1000);
    let late = twin.next().await;
    assert_eq!((late.id.as_ref(), late.version()), (Some(&MessageId::String("late".into())), 2));
}

#[tokio::test]
async fn late_notifications_are_overtaken_and_come() {
    let (hub, faults, device, _client, mut twin) = start().await;
    let rule = Rule::new(Effect::DelayNotifications(SECOND * 1000)).portion(Portion::EveryNth(2)).times(2);
    faults.add(rule);
    for n in 1..=4 {
        patch(&hub, &device, n);
    }
    assert_eq!([twin.next().await.version(), twin.next().await.version()], [2, 4]);
    faults_done(&hub, "delayNotifications", 2).await;
    hub.advance(SECOND * 1000);
    assert_eq!([twin.next().await.version(), twin.next().await.version()], [3, 5]);
    assert_eq!(hub.hub().counters().notifications_sent, 4);
}

#[tokio::test]
async fn a_notification_comes_after_the_next_one_or_alone_in_the_end() {
    let (hub, faults, device, _client, mut twin) = start().await;
    faults.add(Rule::new(Effect::ReorderNotifications));
    for n in 1..=5 {
        patch(&hub, &device, n);
    }
    let mut versions = Vec::new();
    for _ in 0..4 {
        versions.push(twin.next().await.version());
    }
    assert_eq!(versions, [3, 2, 5, 4]);
    faults_done(&hub, "reorderNotifications", 5).await;
    // Nothing overtakes the last one.
    hub.advance(SECOND);
    assert_eq!(twin.next().await.version(), 6);
}

#[tokio::test]
async fn what_is_late_dies_with_its_link() {
    let (hub, faults, device, mut client, mut twin) = start().await;
    faults.add(Rule::new(Effect::DelayNotifications(SECOND)).times(1));
    patch(&hub, &device, 1);
    faults_done(&hub, "delayNotifications", 1).await;
    let mut again = client.twin(&device).await;
    twin.detached().await;
    again.subscribe().await;
    hub.advance(SECOND);
    patch(&hub, &device, 2);
    assert_eq!(again.next().await.version(), 3);
}

#[tokio::test]
async fn queries_lag_behind_and_catch_up() {
    let (hub, faults, device, _client, _twin) = start().await;
    let hub = hub.hub();
    let seen = || async {
        let text = "SELECT properties.desired.n AS n FROM devices";
        hub.query(text, &iothub_emulator::hub::PageRequest::default()).await.unwrap().items[0]["n"].clone()
    };
    let write = |n: u64| {
        let body = json!({ "properties": { "desired": { "n": n } } });
        hub.patch_twin(&device, &body, Precondition::None).unwrap();
    };
    write(1);
    faults.add(Rule::new(Effect::QueryLag(HOUR / 2)));
    assert_eq!(seen().await, 1);
    write(2);
    assert_eq!(seen().await, 1);
    hub.advance(HOUR / 2);
    assert_eq!(seen().await, 2);
    write(3);
    assert_eq!(seen().await, 2);
    faults.clear();
    assert_eq!(seen().await, 3);
}
