//! Scheduled jobs and configurations over the wire (rest.md 8.1, 9).
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use serde_json::{Value, json};
use support::{call, raw, request, soon};

async fn hub() -> LocalHub {
    let hub = LocalHub::start().await.unwrap();
    for id in ["a", "b"] {
        hub.hub().put_device(id, &json!({}), Precondition::None).unwrap();
    }
    hub
}

async fn finished(hub: &LocalHub, id: &str) -> Value {
    soon(async {
        loop {
            let job = call(hub, "GET", &format!("/jobs/v2/{id}"), &[], "").await.json();
            if job["status"] != "queued" && job["status"] != "running" {
                return job;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_job_runs_and_is_found_again() {
    let hub = hub().await;
    let body = json!({
        "jobId": "job-1", "type": "scheduleUpdateTwin", "queryCondition": "deviceId IN ['a', 'b', 'c']",
        "updateTwin": { "etag": "*", "tags": { "done": true } }, "startTime": null, "maxExecutionTimeInSeconds": 3600,
    })
    .to_string();
    let created = call(&hub, "PUT", "/jobs/v2/job-1", &[], &body).await;
    assert_eq!((created.status, &created.json()["status"]), (200, &json!("queued")));
    call(&hub, "PUT", "/jobs/v2/job-1", &[], &body).await.refusal(409, "JobAlreadyExists");
    let job = finished(&hub, "job-1").await;
    assert_eq!(job["status"], "completed");
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 2);
    assert_eq!(call(&hub, "GET", "/twins/a", &[], "").await.json()["tags"], json!({ "done": true }));

    let list = call(&hub, "GET", "/jobs/v2/query", &[], "").await;
    assert_eq!(list.header("x-ms-item-type"), Some("JobResponse"));
    assert_eq!(list.json(), json!([job]));
    let rows =
        json!({ "query": "SELECT * FROM devices.jobs WHERE devices.jobs.status = 'completed'" }).to_string();
    let rows = call(&hub, "POST", "/devices/query", &[], &rows).await;
    assert_eq!(rows.header("x-ms-item-type"), Some("DeviceJob"));
    assert_eq!(rows.json().as_array().unwrap().len(), 2);

    call(&hub, "GET", "/jobs/v2/other", &[], "").await.refusal(404, "JobNotFound");
    call(&hub, "PUT", "/jobs/v2/other", &[], "{}").await.refusal(400, "GenericBadRequest");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_job_waits_for_the_clock_or_is_cancelled() {
    let hub = hub().await;
    // Not a date that the machine's clock could reach.
    let job = |id: &str, start: &str| {
        json!({ "jobId": id, "type": "scheduleUpdateTwin", "queryCondition": "*", "startTime": start,
            "updateTwin": { "etag": "*", "tags": { id: 1 } } })
        .to_string()
    };
    let start = "2100-06-01T12:00:00.000Z";
    for id in ["one", "two"] {
        let created = call(&hub, "PUT", &format!("/jobs/v2/{id}"), &[], &job(id, start)).await;
        assert_eq!((created.status, &created.json()["status"]), (200, &json!("queued")));
    }
    let cancelled = call(&hub, "POST", "/jobs/v2/one/cancel", &[], "").await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    hub.advance(Duration::from_secs(100 * 365 * 24 * 3600));
    // Tokens have ended by now.
    soon(async {
        while hub.hub().get_job("two").unwrap()["status"] != "completed" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let twin = hub.hub().get_twin(&iothub_common::Identity::device("a").unwrap()).unwrap();
    assert_eq!(twin["tags"], json!({ "two": 1 }));
    hub.shutdown().await;
}

#[tokio::test]
async fn configurations_are_made_changed_and_deleted() {
    let hub = hub().await;
    let body = json!({ "id": "conf", "schemaVersion": "1.0", "priority": 3, "targetCondition": "deviceId = 'a'",
        "content": { "deviceContent": { "properties.desired.x": 1 } } });
    let created = call(&hub, "PUT", "/configurations/conf", &[], &body.to_string()).await;
    assert_eq!(created.status, 200);
    let mut shown = created.json();
    assert_eq!(created.header("etag"), Some(format!("\"{}\"", shown["etag"].as_str().unwrap()).as_str()));
    assert_eq!(call(&hub, "GET", "/configurations/conf", &[], "").await.json(), shown);
    // C# lists with a trailing slash.
    let list = call(&hub, "GET", "/configurations/", &[], "").await.json();
    assert_eq!(list, json!([shown]));
    assert_eq!(call(&hub, "GET", "/twins/a", &[], "").await.json()["properties"]["desired"]["x"], 1);

    call(&hub, "PUT", "/configurations/conf", &[], &body.to_string())
        .await
        .refusal(409, "ConfigurationAlreadyExists");
    shown["targetCondition"] = json!("deviceId = 'b'");
    let if_match = format!("If-Match: \"{}\"", shown["etag"].as_str().unwrap());
    let updated = call(&hub, "PUT", "/configurations/conf", &[&if_match], &shown.to_string()).await;
    assert_eq!(updated.status, 200);
    assert_eq!(call(&hub, "GET", "/twins/a", &[], "").await.json()["properties"]["desired"].get("x"), None);
    assert_eq!(call(&hub, "GET", "/twins/b", &[], "").await.json()["properties"]["desired"]["x"], 1);
    call(&hub, "PUT", "/configurations/conf", &[&if_match], &shown.to_string())
        .await
        .refusal(412, "PreconditionFailed");

    // Node deletes without If-Match.
    assert_eq!(call(&hub, "DELETE", "/configurations/conf", &[], "").await.status, 204);
    call(&hub, "GET", "/configurations/conf", &[], "").await.refusal(404, "ConfigurationNotFound");
    assert_eq!(call(&hub, "GET", "/twins/b", &[], "").await.json()["properties"]["desired"].get("x"), None);
    hub.shutdown().await;
}

/// A new device is targeted by the next run, which the hub does by itself.
#[tokio::test]
async fn configurations_run_as_time_passes() {
    let hub = hub().await;
    let body =
        json!({ "targetCondition": "*", "content": { "deviceContent": { "properties.desired.x": 1 } } });
    call(&hub, "PUT", "/configurations/conf", &[], &body.to_string()).await;
    hub.hub().put_device("new", &json!({}), Precondition::None).unwrap();
    let x =
        async || call(&hub, "GET", "/twins/new", &[], "").await.json()["properties"]["desired"]["x"].clone();
    assert_eq!(x().await, Value::Null);
    // Past the hub's own handle: its task has to notice.
    hub.hub().clock().advance(Duration::from_secs(5 * 60));
    soon(async { while x().await != 1 {} }).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn queries_are_tested_and_content_applied() {
    let hub = hub().await;
    let body =
        json!({ "targetCondition": "tags.a ==", "customMetricQueries": { "m": "SELECT * FROM devices" } });
    let reply = call(&hub, "POST", "/configurations/testQueries", &[], &body.to_string()).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.json()["targetConditionError"].as_str().unwrap().contains("Line 1:37"),
        "{:?}",
        reply.json()
    );
    assert_eq!(reply.json()["customMetricQueryErrors"], json!({}));

    let content = json!({ "modulesContent": { "m": { "properties.desired": { "x": 1 } } } }).to_string();
    let path = "/devices/a/applyConfigurationContent";
    assert_eq!(call(&hub, "POST", path, &[], &content).await.status, 400);
    let edge = json!({ "capabilities": { "iotEdge": true } });
    hub.hub().put_device("a", &edge, Precondition::IfMatch(None)).unwrap();
    assert_eq!(call(&hub, "POST", path, &[], &content).await.status, 204);
    let twin = call(&hub, "GET", "/twins/a/modules/m", &[], "").await.json();
    assert_eq!(twin["properties"]["desired"]["x"], 1);
    hub.shutdown().await;
}

#[tokio::test]
async fn nobody_without_the_right_gets_in() {
    let hub = hub().await;
    let key = hub.hub().policy("registryRead").unwrap().primary.clone();
    let token = support::token(&key, hub.host_name(), Some("registryRead"), 3600);
    let header = format!("Authorization: {token}");
    let device = "/devices/a/applyConfigurationContent";
    for (method, path) in [
        ("PUT", "/configurations/x"),
        ("DELETE", "/configurations/x"),
        ("POST", "/configurations/testQueries"),
        ("POST", device),
        ("POST", "/devices"),
        ("POST", "/devices/query"),
        ("PUT", "/jobs/v2/x"),
        ("GET", "/jobs/v2/x"),
        ("GET", "/jobs/v2/query"),
        ("POST", "/jobs/v2/x/cancel"),
    ] {
        let reply = raw(&hub, request(method, path, &[&header], "{}").as_bytes()).await;
        reply.refusal(401, "IotHubUnauthorizedAccess");
    }
    let reply = raw(&hub, request("GET", "/configurations", &[&header], "").as_bytes()).await;
    assert_eq!(reply.status, 200);
    hub.shutdown().await;
}

/// The container's token opens its blobs to any HTTP client, and the jobs use them.
#[tokio::test]
async fn identities_are_imported_and_exported() {
    let hub = hub().await;
    let uri = hub.hub().container_uri(Duration::from_secs(600)).unwrap();
    let (_, token) = uri.split_once('?').unwrap();
    let blob = |method: &str, name: &str, body: &str| {
        let length = body.len();
        format!(
            "{method} /uploads/{name}?{token} HTTP/1.1\r\nHost: localhost\r\nx-ms-blob-type: BlockBlob\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let lines = "{\"id\":\"new\",\"importMode\":\"create\",\"tags\":{\"t\":1}}\n{\"id\":\"a\",\"importMode\":\"create\"}\n";
    assert_eq!(raw(&hub, blob("PUT", "devices.txt", lines).as_bytes()).await.status, 201);

    let finished = async |body: Value| {
        let created = call(&hub, "POST", "/jobs/create", &[], &body.to_string()).await;
        assert_eq!(created.status, 200, "{}", String::from_utf8_lossy(&created.body));
        let id = created.json()["jobId"].as_str().unwrap().to_owned();
        soon(async {
            loop {
                let job = call(&hub, "GET", &format!("/jobs/{id}"), &[], "").await.json();
                if job.get("endTimeUtc").is_some() {
                    return job;
                }
            }
        })
        .await
    };
    let job =
        finished(json!({ "type": "import", "inputBlobContainerUri": uri, "outputBlobContainerUri": uri }))
            .await;
    assert_eq!(job["status"], "completed");
    assert_eq!(call(&hub, "GET", "/twins/new", &[], "").await.json()["tags"], json!({ "t": 1 }));
    let log = raw(&hub, blob("GET", "importErrors.log", "").as_bytes()).await;
    let logged: Value = serde_json::from_slice(&log.body).unwrap();
    assert_eq!((&logged["deviceId"], &logged["errorCode"]), (&json!("a"), &json!(409_001)));

    let job = finished(json!({ "type": "export", "outputBlobContainerUri": uri })).await;
    let exported = raw(&hub, blob("GET", "devices.txt", "").as_bytes()).await;
    assert_eq!(String::from_utf8(exported.body).unwrap().lines().count(), 3);
    assert_eq!(call(&hub, "GET", "/jobs", &[], "").await.json().as_array().unwrap().len(), 2);
    let path = format!("/jobs/{}", job["jobId"].as_str().unwrap());
    assert_eq!(call(&hub, "DELETE", &path, &["If-Match: \"x\""], "").await.status, 204);
    call(&hub, "GET", "/jobs/x", &[], "").await.refusal(404, "JobNotFound");
    hub.shutdown().await;
}
