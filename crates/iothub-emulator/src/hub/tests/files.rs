//! File uploads, without sockets.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::hub::{Inbox, Verdict};
use crate::storage::{Storage, StorageConfig};

fn hub() -> (Hub, Storage) {
    let clock = Clock::new();
    let storage = Storage::new(StorageConfig::new("localhost:8443"), clock.clone()).unwrap();
    let hub = Hub::new(HubConfig { clock, storage: Some(storage.clone()), ..HubConfig::default() });
    for id in ["d", "other"] {
        hub.put_device(id, &serde_json::json!({ "deviceId": id }), Precondition::None).unwrap();
    }
    (hub, storage)
}

fn start(hub: &Hub, name: &str) -> String {
    hub.start_upload("d", name).unwrap()["correlationId"].as_str().unwrap().to_owned()
}

fn code<T>(result: Result<T, HubError>) -> u32 {
    result.err().expect("a refusal").code
}

#[test]
fn the_answer_has_what_clients_paste_together() {
    let (hub, _) = hub();
    let answer = hub.start_upload("d", "dir/a b.txt").unwrap();
    let text = |name: &str| answer[name].as_str().unwrap();
    assert_eq!(text("hostName"), "localhost:8443");
    assert_eq!(text("containerName"), "uploads");
    assert_eq!(text("blobName"), "d/dir/a b.txt");
    assert!(text("sasToken").starts_with("?sv="));
}

#[test]
fn a_finished_upload_is_told_to_services_once() {
    let (hub, storage) = hub();
    let id = start(&hub, "dir/a b.txt");
    storage.put_blob("d/dir/a b.txt", None, "hello".into()).unwrap();
    hub.finish_upload("d", &id, true).unwrap();
    let notice = hub.receive_notice(Inbox::FileNotifications).unwrap();
    let body: Value = serde_json::from_slice(&notice.item.body).unwrap();
    assert_eq!(body["deviceId"], "d");
    assert_eq!(body["blobName"], "d/dir/a b.txt");
    assert_eq!(body["blobUri"], "https://localhost:8443/uploads/d/dir/a%20b.txt");
    assert_eq!(body["blobSizeInBytes"], 5);
    hub.settle_notice(Inbox::FileNotifications, notice.lock, Verdict::Complete).unwrap();
    assert_eq!(code(hub.finish_upload("d", &id, true)), 400_015);
    assert!(hub.receive_notice(Inbox::FileNotifications).is_none());
}

#[test]
fn a_failed_upload_is_told_to_nobody_and_a_lie_is_noticed() {
    let (hub, storage) = hub();
    let id = start(&hub, "a");
    storage.put_block("d/a", "YQ==", "half".into()).unwrap();
    hub.finish_upload("d", &id, false).unwrap();
    let id = start(&hub, "a");
    assert_eq!(code(hub.finish_upload("d", &id, true)), 400_020);
    assert!(hub.receive_notice(Inbox::FileNotifications).is_none());
}

#[test]
fn ten_are_open_at_a_time_per_device_and_an_hour_each() {
    let (hub, _) = hub();
    let ids: Vec<_> = (0..10).map(|n| start(&hub, &n.to_string())).collect();
    assert_eq!(code(hub.start_upload("d", "x")), 403_006);
    hub.start_upload("other", "x").unwrap();
    hub.finish_upload("d", &ids[0], false).unwrap();
    start(&hub, "x");
    assert_eq!(code(hub.start_upload("d", "y")), 403_006);

    hub.advance(Duration::from_secs(3601));
    assert_eq!(code(hub.finish_upload("d", &ids[1], true)), 400_016);
    assert_eq!(code(hub.finish_upload("other", &ids[1], true)), 400_015);
    start(&hub, "y");
}

#[test]
fn bad_names_and_ids_are_refused() {
    let (hub, _) = hub();
    for name in ["", "/", "a.", "a/", &"n".repeat(1023)] {
        assert_eq!(code(hub.start_upload("d", name)), 400_004, "{name}");
    }
    assert_eq!(code(hub.start_upload("nobody", "a")), 404_001);
    assert_eq!(code(hub.finish_upload("d", "no such id", true)), 400_015);
    let without = Hub::new(HubConfig::default());
    assert_eq!(code(without.start_upload("d", "a")), 400_014);
}

#[test]
fn uploads_go_with_their_device() {
    let (hub, _) = hub();
    let id = start(&hub, "a");
    hub.delete_device("d", Precondition::None).unwrap();
    hub.put_device("d", &serde_json::json!({ "deviceId": "d" }), Precondition::None).unwrap();
    assert_eq!(code(hub.finish_upload("d", &id, false)), 400_015);
}
