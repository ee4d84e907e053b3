//! Scheduled jobs through the hub's handle, with its task running (twins.md 6.2, rest.md 8.1).

#![allow(clippy::unwrap_used)]

use std::future::Future;

use iothub_common::Identity;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::hub::timestamp::Timestamp;
use crate::hub::{Claim, HubConfig, MethodResponse, Precondition, Push};

/// A hub at work; what runs ends with it.
struct Running {
    hub: Hub,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Devices `a`, `b`, `c` with the tags red, red, blue.
fn hub() -> Hub {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    for (id, color) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        hub.put_device(id, &json!({}), Precondition::None).unwrap();
        tag(&hub, id, color);
    }
    hub
}

fn running() -> Running {
    let hub = hub();
    let task = tokio::spawn({
        let hub = hub.clone();
        async move { hub.run().await }
    });
    Running { hub, task }
}

fn device(id: &str) -> Identity {
    Identity::device(id).unwrap()
}

fn tag(hub: &Hub, id: &str, color: &str) {
    hub.patch_twin(&device(id), &json!({ "tags": { "color": color } }), Precondition::None).unwrap();
}

fn twin_job(condition: &str) -> Value {
    json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": { "etag": "*", "properties": { "desired": { "x": 1 } } },
        "queryCondition": condition,
        "startTime": null,
        "maxExecutionTimeInSeconds": 3600,
    })
}

fn method_job(condition: &str, method: Value) -> Value {
    json!({ "type": "scheduleDeviceMethod", "cloudToDeviceMethod": method, "queryCondition": condition })
}

/// Waits under a limit that only a hang reaches.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("did not happen within a minute")
}

async fn until(hub: &Hub, id: &str, status: &str) -> Value {
    soon(async {
        loop {
            let job = hub.get_job(id).unwrap();
            if job["status"] == status {
                return job;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn rows(hub: &Hub, condition: &str) -> Vec<Value> {
    let query = format!("SELECT * FROM devices.jobs WHERE {condition}");
    hub.query(&query, &PageRequest::default()).await.unwrap().items
}

fn desired(hub: &Hub, id: &str) -> Value {
    hub.get_twin(&device(id)).unwrap()["properties"]["desired"]["x"].clone()
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> u32 {
    result.unwrap_err().code
}

#[tokio::test]
async fn a_twin_job_writes_to_those_that_match() {
    let Running { hub, .. } = &running();
    let created = hub.put_job("job", &twin_job("tags.color = 'red'")).unwrap();
    assert_eq!((&created["jobId"], &created["status"]), (&json!("job"), &json!("queued")));
    let job = until(hub, "job", "completed").await;
    let names: Vec<_> = job.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names.join(" "),
        "jobId createdTime startTime endTime maxExecutionTimeInSeconds type updateTwin queryCondition status \
         deviceJobStatistics"
    );
    assert_eq!(job["type"], "scheduleUpdateTwin");
    assert_eq!(
        job["deviceJobStatistics"],
        json!({ "deviceCount": 2, "failedCount": 0, "succeededCount": 2, "runningCount": 0, "pendingCount": 0 })
    );
    assert_eq!((desired(hub, "a"), desired(hub, "b"), desired(hub, "c")), (json!(1), json!(1), json!(null)));

    let rows = rows(hub, "devices.jobs.jobId = 'job'").await;
    assert_eq!(rows.len(), 2);
    let names: Vec<_> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names.join(" "),
        "deviceId jobId jobType status startTimeUtc endTimeUtc createdDateTimeUtc lastUpdatedDateTimeUtc"
    );
    assert_eq!((&rows[0]["deviceId"], &rows[1]["deviceId"]), (&json!("a"), &json!("b")));
    assert_eq!(
        (&rows[0]["jobType"], &rows[0]["status"]),
        (&json!("scheduleUpdateTwin"), &json!("completed"))
    );
}

/// Devices that fail do not make the job fail.
#[tokio::test]
async fn an_etag_is_compared_on_each_device() {
    let Running { hub, .. } = &running();
    tag(hub, "b", "red");
    let mut body = twin_job("tags.color = 'red'");
    // What a has after its creation and one write; b has one more.
    body["updateTwin"]["etag"] = json!("AAAAAAAAAAI=");
    hub.put_job("job", &body).unwrap();
    let job = until(hub, "job", "completed").await;
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 1);
    assert_eq!(job["deviceJobStatistics"]["failedCount"], 1);
    let failed = rows(hub, "jobId = 'job' AND status = 'failed'").await;
    assert_eq!((failed.len(), &failed[0]["deviceId"]), (1, &json!("b")));
    assert_eq!(failed[0]["error"]["code"], "PreconditionFailed");
}

#[tokio::test]
async fn a_method_job_calls_those_that_are_there() {
    let Running { hub, .. } = &running();
    let connected = hub.connect(&device("a")).unwrap();
    connected.claim(Claim::Methods);
    hub.put_job(
        "job",
        &method_job("tags.color = 'red'", json!({ "methodName": "reboot", "payload": { "in": 5 } })),
    )
    .unwrap();
    let Push::Method { id, name, payload } = soon(connected.recv()).await else { panic!("no method came") };
    assert_eq!((name.as_str(), &payload[..]), ("reboot", br#"{"in":5}"#.as_slice()));
    connected.respond(id, MethodResponse { status: 207, payload: "{\"ok\":true}".into() }).unwrap();
    let job = until(hub, "job", "completed").await;
    assert_eq!(job["cloudToDeviceMethod"], json!({ "methodName": "reboot", "payload": { "in": 5 } }));
    let rows = rows(hub, "jobType = 'scheduleDeviceMethod'").await;
    assert_eq!(
        rows[0]["outcome"],
        json!({ "deviceMethodResponse": { "status": 207, "payload": { "ok": true } } })
    );
    assert_eq!(
        (&rows[1]["status"], &rows[1]["error"]["code"]),
        (&json!("failed"), &json!("DeviceNotOnline"))
    );
}

#[tokio::test]
async fn a_later_job_runs_at_its_time_on_those_that_match_then() {
    let Running { hub, .. } = &running();
    let mut body = twin_job("tags.color = 'red'");
    let start: Timestamp = (hub.now() + Duration::from_secs(3600)).into();
    body["startTime"] = start.for_twin().into();
    assert_eq!(hub.put_job("job", &body).unwrap()["startTime"], start.for_twin());
    hub.advance(Duration::from_secs(1800));
    tag(hub, "a", "blue");
    tag(hub, "c", "red");
    tokio::task::yield_now().await;
    let waiting = hub.get_job("job").unwrap();
    assert_eq!(
        (&waiting["status"], &waiting["deviceJobStatistics"]["deviceCount"]),
        (&json!("queued"), &json!(0))
    );
    hub.advance(Duration::from_secs(1800));
    until(hub, "job", "completed").await;
    assert_eq!((desired(hub, "a"), desired(hub, "b"), desired(hub, "c")), (json!(null), json!(1), json!(1)));
}

#[tokio::test]
async fn a_waiting_job_can_be_cancelled() {
    let Running { hub, .. } = &running();
    let mut body = twin_job("*");
    body["startTime"] = json!("2999-01-01T00:00:00Z");
    hub.put_job("job", &body).unwrap();
    assert_eq!(hub.cancel_job("job").unwrap()["status"], "cancelled");
    assert_eq!(hub.get_job("job").unwrap()["status"], "cancelled");
    // A finished one stays as it is.
    hub.put_job("done", &twin_job("*")).unwrap();
    let done = until(hub, "done", "completed").await;
    assert_eq!(hub.cancel_job("done").unwrap(), done);
    assert_eq!(code(hub.cancel_job("nobody")), 404_002);
}

#[tokio::test]
async fn a_running_job_can_be_cancelled() {
    let Running { hub, .. } = &running();
    let connected = hub.connect(&device("a")).unwrap();
    connected.claim(Claim::Methods);
    hub.put_job("job", &method_job("deviceId = 'a'", json!({ "methodName": "slow" }))).unwrap();
    let Push::Method { id, .. } = soon(connected.recv()).await else { panic!("no method came") };
    assert_eq!(hub.get_job("job").unwrap()["deviceJobStatistics"]["runningCount"], 1);
    assert_eq!(hub.cancel_job("job").unwrap()["status"], "cancelled");
    let row = &rows(hub, "jobId = 'job'").await[0];
    assert_eq!(row["status"], "canceled");
    // Too late.
    connected.respond(id, MethodResponse { status: 200, payload: "1".into() }).unwrap();
    assert_eq!(rows(hub, "jobId = 'job'").await[0], *row);
}

#[tokio::test]
async fn time_can_run_out() {
    let Running { hub, .. } = &running();
    let connected = hub.connect(&device("a")).unwrap();
    connected.claim(Claim::Methods);
    let mut body =
        method_job("deviceId = 'a'", json!({ "methodName": "slow", "responseTimeoutInSeconds": 300 }));
    body["maxExecutionTimeInSeconds"] = json!(10);
    hub.put_job("job", &body).unwrap();
    soon(connected.recv()).await;
    hub.advance(Duration::from_secs(10));
    let job = until(hub, "job", "completed").await;
    assert_eq!(job["deviceJobStatistics"]["failedCount"], 1);
    assert_eq!(rows(hub, "jobId = 'job'").await[0]["error"]["code"], "JobRunTimedOut");
}

#[tokio::test]
async fn a_bad_condition_makes_the_job_fail() {
    let Running { hub, .. } = &running();
    hub.put_job("job", &twin_job("SELECT * FROM devices")).unwrap();
    let job = until(hub, "job", "failed").await;
    let reason = job["failureReason"].as_str().unwrap();
    let expected =
        "SQL query parse failed due to following errors: Line 1:29 Unexpected character at input 'SELECT'";
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(job["statusMessage"], reason);
    hub.put_job("modules", &twin_job("FROM devices.modules WHERE tags.a = 1")).unwrap();
    until(hub, "modules", "failed").await;
    hub.put_job("nobody", &twin_job("tags.color = 'green'")).unwrap();
    assert_eq!(until(hub, "nobody", "completed").await["deviceJobStatistics"]["deviceCount"], 0);
}

#[test]
fn bodies_are_checked() {
    let hub = hub();
    let with = |name: &str, value: Value| {
        let mut body = twin_job("*");
        body[name] = value;
        body
    };
    for (body, expected) in [
        (json!(null), 400_005),
        (json!([]), 400_000),
        (json!({}), 400_000),
        (with("jobId", json!("other")), 400_000),
        (with("type", json!("scheduleTwinUpdate")), 400_000),
        (with("type", json!(null)), 400_000),
        (with("queryCondition", json!("")), 400_000),
        (with("queryCondition", json!(null)), 400_000),
        (with("startTime", json!("tomorrow")), 400_000),
        (with("startTime", json!(5)), 400_000),
        (with("maxExecutionTimeInSeconds", json!(-1)), 400_000),
        (with("updateTwin", json!(null)), 400_000),
        (with("updateTwin", json!({ "tags": {} })), 400_000),
        (with("updateTwin", json!({ "etag": "*", "tags": { "$x": 1 } })), 400_004),
        (with("updateTwin", json!({ "etag": "*", "desired": {} })), 400_000),
        (method_job("*", json!(null)), 400_000),
        (method_job("*", json!({})), 400_004),
        (method_job("*", json!({ "methodName": "m", "responseTimeoutInSeconds": 4 })), 400_004),
    ] {
        assert_eq!(code(hub.put_job("job", &body)), expected, "{body}");
    }
    assert_eq!(code(hub.get_job("job")), 404_002);
    // As Node and C# send them.
    assert!(hub.put_job("1234", &with("jobId", json!(1234))).is_ok());
    let mut body = with("type", json!("ScheduleUpdateTwin"));
    body["updateTwin"] = json!({ "deviceId": null, "etag": "*", "version": null, "tags": {},
        "properties": { "desired": {}, "reported": {} } });
    body["startTime"] = json!("2023-01-31T10:37:08.4599400");
    let job = hub.put_job("c", &body).unwrap();
    assert_eq!(job["startTime"], "2023-01-31T10:37:08.45994Z");
    assert_eq!(code(hub.put_job("c", &body)), 409_104);
}

#[test]
fn only_so_many_may_run() {
    let hub = hub();
    for number in 0..MAX_RUNNING {
        hub.put_job(&number.to_string(), &twin_job("*")).unwrap();
    }
    let error = hub.put_job("more", &twin_job("*")).unwrap_err();
    assert_eq!((error.status, error.name), (429, "ThrottlingMaxActiveJobCountExceeded"));
    let mut later = twin_job("*");
    later["startTime"] = json!("2999-01-01T00:00:00Z");
    assert!(hub.put_job("later", &later).is_ok());
    hub.cancel_job("0").unwrap();
    assert!(hub.put_job("more", &twin_job("*")).is_ok());
}

#[test]
fn jobs_are_listed_by_type_and_status() {
    let hub = hub();
    for id in ["a", "b", "c"] {
        hub.put_job(id, &twin_job("*")).unwrap();
    }
    hub.put_job("m", &method_job("*", json!({ "methodName": "x" }))).unwrap();
    hub.cancel_job("b").unwrap();
    let list = |kind, status, size, continuation| {
        let page = hub.list_jobs(kind, status, &PageRequest { max_items: Some(size), continuation }).unwrap();
        let ids: Vec<_> = page.items.iter().map(|job| job["jobId"].as_str().unwrap().to_owned()).collect();
        (ids.join(" "), page.continuation)
    };
    for (kind, status, expected) in [
        (None, None, "a b c m"),
        (Some("ScheduleUpdateTwin"), None, "a b c"),
        (Some("scheduleDeviceMethod"), None, "m"),
        (None, Some("Cancelled"), "b"),
        (Some("scheduleUpdateTwin"), Some("queued"), "a c"),
        (Some("export"), None, ""),
    ] {
        assert_eq!(list(kind, status, 100, None), (expected.to_owned(), None));
    }
    let (first, token) = list(None, None, 3, None);
    assert_eq!(first, "a b c");
    assert_eq!(list(None, None, 3, token.clone()), ("m".to_owned(), None));
    let request = PageRequest { max_items: None, continuation: token };
    assert_eq!(code(hub.list_jobs(Some("x"), None, &request)), 400_004);
    assert_eq!(list(None, None, 4, None).1, None);
}

#[tokio::test]
async fn rows_of_jobs_have_pages() {
    let Running { hub, .. } = &running();
    for id in ["j1", "j2"] {
        hub.put_job(id, &twin_job("*")).unwrap();
        until(hub, id, "completed").await;
    }
    let (mut seen, mut continuation) = (Vec::new(), None);
    loop {
        let request = PageRequest { max_items: Some(1), continuation };
        let page = hub.query("SELECT * FROM devices.jobs", &request).await.unwrap();
        assert_eq!((page.items.len(), page.item_type), (1, "DeviceJob"));
        seen.push(format!(
            "{}/{}",
            page.items[0]["jobId"].as_str().unwrap(),
            page.items[0]["deviceId"].as_str().unwrap()
        ));
        continuation = page.continuation;
        if continuation.is_none() {
            break;
        }
    }
    assert_eq!(seen.join(" "), "j1/a j1/b j1/c j2/a j2/b j2/c");
}

#[tokio::test]
async fn finished_jobs_are_kept_for_thirty_days() {
    let Running { hub, .. } = &running();
    hub.put_job("old", &twin_job("*")).unwrap();
    until(hub, "old", "completed").await;
    let mut later = twin_job("*");
    later["startTime"] = json!("2999-01-01T00:00:00Z");
    hub.put_job("later", &later).unwrap();
    hub.advance(HISTORY - Duration::from_secs(3600));
    hub.put_job("new", &twin_job("*")).unwrap();
    assert!(hub.get_job("old").is_ok());
    hub.advance(Duration::from_secs(3601));
    until(hub, "new", "completed").await;
    hub.put_job("newer", &twin_job("*")).unwrap();
    assert_eq!(code(hub.get_job("old")), 404_002);
    assert!(hub.get_job("new").is_ok() && hub.get_job("later").is_ok());
}
