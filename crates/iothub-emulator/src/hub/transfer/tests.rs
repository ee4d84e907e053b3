//! Imports and exports through the hub's handle (rest.md 8.2).

#![allow(clippy::unwrap_used)]

use iothub_common::Identity;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::hub::{HubConfig, Precondition};
use crate::storage::{Storage, StorageConfig};

/// A hub at work, with a storage; what runs ends with it.
struct Running {
    hub: Hub,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn hub() -> Hub {
    let config = HubConfig::new("h.example").unwrap();
    let storage = Storage::new(StorageConfig::new("h.example"), config.clock.clone()).unwrap();
    Hub::new(HubConfig { storage: Some(storage), ..config })
}

fn running() -> Running {
    let hub = hub();
    let task = tokio::spawn({
        let hub = hub.clone();
        async move { hub.run().await }
    });
    Running { hub, task }
}

fn uri(hub: &Hub) -> String {
    hub.container_uri(Duration::from_secs(3600)).unwrap()
}

fn import(hub: &Hub) -> Value {
    json!({ "type": "import", "inputBlobContainerUri": uri(hub), "outputBlobContainerUri": uri(hub) })
}

fn export(hub: &Hub) -> Value {
    json!({ "type": "export", "outputBlobContainerUri": uri(hub), "excludeKeysInExport": false })
}

/// Starts a job and waits until it is over, under a limit that only a hang reaches.
async fn transfer(hub: &Hub, body: &Value) -> Value {
    let id = hub.create_transfer(body).unwrap()["jobId"].as_str().unwrap().to_owned();
    let over = async {
        loop {
            let job = hub.get_transfer(&id).unwrap();
            if job.get("endTimeUtc").is_some() {
                return job;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("did not end within a minute")
}

fn lines(hub: &Hub, blob: &str) -> Vec<Value> {
    let content = hub.storage().unwrap().blob(blob).unwrap().content();
    let text = String::from_utf8(content.to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn put_blob(hub: &Hub, blob: &str, text: &str) {
    hub.storage().unwrap().put_blob(blob, None, text.to_owned().into()).unwrap();
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> u32 {
    result.unwrap_err().code
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let Running { hub: from, .. } = &running();
    let sha1 = "0123456789abcdef0123456789ABCDEF01234567";
    for (id, body) in [
        ("a", json!({ "status": "disabled", "statusReason": "broken" })),
        ("b", json!({ "authentication": { "x509Thumbprint": { "primaryThumbprint": sha1 } } })),
    ] {
        from.put_device(id, &body, Precondition::None).unwrap();
    }
    from.put_module("b", "m", &json!({ "managedBy": "me" }), Precondition::None).unwrap();
    let twin = json!({ "tags": { "t": 1 }, "properties": { "desired": { "x": { "y": [1, 2.5] } } } });
    from.patch_twin(&Identity::device("b").unwrap(), &twin, Precondition::None).unwrap();
    let body = json!({ "content": { "deviceContent": { "properties.desired.c": 1 } }, "priority": 4 });
    from.put_configuration("conf", &body, Precondition::None).unwrap();

    let mut job = export(from);
    job["includeConfigurations"] = json!(true);
    let done = transfer(from, &job).await;
    assert_eq!(
        (&done["status"], &done["progress"], &done["failureReason"]),
        (&json!("completed"), &json!(100), &json!(null))
    );
    let exported = lines(from, "devices.txt");
    let names: Vec<_> = exported[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names.join(" "),
        "id eTag status statusReason authentication twinETag tags properties capabilities"
    );
    let ids: Vec<_> =
        exported.iter().map(|line| (line["id"].clone(), line.get("moduleId").cloned())).collect();
    assert_eq!(ids, [(json!("a"), None), (json!("b"), None), (json!("b"), Some(json!("m")))]);
    assert_eq!(exported[1]["properties"], json!({ "desired": { "x": { "y": [1, 2.5] } }, "reported": {} }));

    let Running { hub: to, .. } = &running();
    for blob in ["devices.txt", "configurations.txt"] {
        let content = from.storage().unwrap().blob(blob).unwrap().content();
        to.storage().unwrap().put_blob(blob, None, content).unwrap();
    }
    let mut job = import(to);
    job["includeConfigurations"] = json!(true);
    assert_eq!(transfer(to, &job).await["status"], "completed");
    assert_eq!(lines(to, "importErrors.log"), Vec::<Value>::new());
    let authentication = |hub: &Hub, id: &str| hub.get_device(id).unwrap()["authentication"].clone();
    for id in ["a", "b"] {
        assert_eq!(authentication(to, id), authentication(from, id));
    }
    assert_eq!(to.get_device("a").unwrap()["status"], "disabled");
    assert_eq!(to.get_module("b", "m").unwrap()["managedBy"], "me");
    let twin = to.get_twin(&Identity::device("b").unwrap()).unwrap();
    assert_eq!(
        (&twin["tags"], &twin["properties"]["desired"]["x"]),
        (&json!({ "t": 1 }), &json!({ "y": [1, 2.5] }))
    );
    assert_eq!(to.get_configuration("conf").unwrap()["priority"], 4);
}

#[tokio::test]
async fn keys_can_be_left_out() {
    let Running { hub, .. } = &running();
    hub.put_device("a", &json!({}), Precondition::None).unwrap();
    let mut job = export(hub);
    job["excludeKeysInExport"] = json!(true);
    job["outputBlobName"] = json!("dir/all.txt");
    transfer(hub, &job).await;
    assert_eq!(lines(hub, "dir/all.txt")[0]["authentication"], json!(null));
}

#[tokio::test]
async fn lines_that_fail_are_logged() {
    let Running { hub, .. } = &running();
    hub.put_device("old", &json!({}), Precondition::None).unwrap();
    let text = "\u{feff}{\"id\":\"new\"}\r\n\n{\"id\":\"old\",\"importMode\":\"create\"}\nnonsense\n{\"id\":\"x\",\"importMode\":\"delete\"}\n{\"id\":\"old\",\"importMode\":\"update\",\"status\":\"disabled\"}";
    put_blob(hub, "in.txt", text);
    let mut job = import(hub);
    job["inputBlobName"] = json!("in.txt");
    assert_eq!(transfer(hub, &job).await["status"], "completed");
    let log = lines(hub, "importErrors.log");
    let shown: Vec<_> =
        log.iter().map(|line| (line["deviceId"].clone(), line["errorCode"].clone())).collect();
    assert_eq!(
        shown,
        [(json!("old"), json!(409_001)), (json!(""), json!(400_004)), (json!("x"), json!(404_001))]
    );
    assert!(hub.get_device("new").is_ok());
    assert_eq!(hub.get_device("old").unwrap()["status"], "disabled");
}

#[tokio::test]
async fn a_blob_that_is_not_there_makes_it_fail() {
    let Running { hub, .. } = &running();
    let failed = transfer(hub, &import(hub)).await;
    assert_eq!(
        (&failed["status"], &failed["failureReason"]),
        (&json!("failed"), &json!("the blob devices.txt does not exist"))
    );
    assert_eq!(hub.list_transfers(), [failed]);
}

/// More than one page of devices and one chunk of lines.
#[tokio::test]
async fn fleets_are_moved_completely() {
    let Running { hub, .. } = &running();
    let text: String = (0..1234).map(|number| format!("{{\"id\":\"d{number:04}\"}}\n")).collect();
    put_blob(hub, "devices.txt", &text);
    transfer(hub, &import(hub)).await;
    assert_eq!(hub.statistics().devices, 1234);
    transfer(hub, &export(hub)).await;
    assert_eq!(lines(hub, "devices.txt").len(), 1234);
}

#[test]
fn one_at_a_time() {
    let hub = hub();
    let first = hub.create_transfer(&export(&hub)).unwrap();
    assert_eq!(first["status"], "enqueued");
    assert_eq!(code(hub.create_transfer(&export(&hub))), 403_003);
    let id = first["jobId"].as_str().unwrap();
    hub.cancel_transfer(id).unwrap();
    assert_eq!(hub.get_transfer(id).unwrap()["status"], "cancelled");
    hub.cancel_transfer(id).unwrap();
    assert!(hub.create_transfer(&export(&hub)).is_ok());
    assert_eq!(hub.list_transfers().len(), 2);
    assert_eq!(code(hub.get_transfer("x")), 404_002);
    assert_eq!(code(hub.cancel_transfer("x")), 404_002);
}

#[test]
fn bodies_are_checked() {
    let hub = hub();
    let with = |name: &str, value: Value| {
        let mut body = import(&hub);
        body[name] = value;
        body
    };
    let (place, token) = uri(&hub).split_once('?').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for (body, expected) in [
        (json!([]), 400_004),
        (with("type", json!("backup")), 400_004),
        (with("type", json!(null)), 400_004),
        (with("inputBlobContainerUri", json!(null)), 400_004),
        (with("inputBlobContainerUri", json!(5)), 400_004),
        (with("inputBlobName", json!("dir/")), 400_004),
        (with("includeConfigurations", json!("yes")), 400_004),
        (with("outputBlobContainerUri", json!("https://account.blob.core.windows.net/c?sig=x")), 400_020),
        (with("outputBlobContainerUri", json!(format!("https://h.example/other?{token}"))), 400_020),
        (with("outputBlobContainerUri", json!(place)), 400_020),
        (
            with("outputBlobContainerUri", json!(format!("{place}?{}x", token.replace("sig=", "sig=A")))),
            400_020,
        ),
    ] {
        assert_eq!(code(hub.create_transfer(&body)), expected, "{body}");
    }
    // The hub's identity needs no token; Node spells it with a capital.
    let mut body = with("storageAuthenticationType", json!("IdentityBased"));
    body["inputBlobContainerUri"] = json!(place);
    body["outputBlobContainerUri"] = json!(format!("{place}/"));
    assert!(hub.create_transfer(&body).is_ok());
    let expired = import(&hub);
    hub.advance(Duration::from_secs(3601));
    assert_eq!(code(hub.create_transfer(&expired)), 400_020);
    let without = Hub::new(HubConfig::new("h.example").unwrap());
    assert_eq!(code(without.create_transfer(&json!({}))), 400_014);
    assert_eq!(without.container_uri(Duration::from_secs(1)), None);
}
