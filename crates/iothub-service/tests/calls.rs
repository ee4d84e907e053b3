//! What the calls beyond identities, twins and methods send, and what they make of the answers (rest.md 8 to 10).
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use iothub_service::{
    ConfigurationContent, ConfigurationQueries, DeviceJobStatus, DigitalTwinPatch, DirectMethod, ETag,
    ErrorKind, IfMatch, JobStatus, JobType, NewConfiguration, NewJob, NewTransferJob, TwinPatch,
};
use serde_json::{Value, json};
use support::{FakeHub, Request, Step, json, refusal};

/// Method and path with query, without the version.
fn line(request: &Request) -> String {
    let target = request.target.replace("api-version=2021-04-12", "");
    format!("{} {}", request.method, target.trim_end_matches(['?', '&']))
}

fn lines(hub: &FakeHub) -> Vec<String> {
    hub.requests().iter().map(line).collect()
}

fn job(id: &str, status: &str) -> Value {
    json!({
        "jobId": id, "type": "scheduleUpdateTwin", "status": status, "queryCondition": "*",
        "createdTime": "2026-11-25T08:00:00Z", "startTime": "2026-11-25T08:00:00Z", "futureField": [1],
        "maxExecutionTimeInSeconds": 3600,
        "deviceJobStatistics": { "deviceCount": 3, "failedCount": 1, "succeededCount": 2, "runningCount": 0, "pendingCount": 0 },
    })
}

#[tokio::test]
async fn jobs() {
    let hub = FakeHub::start([
        json(200, job("j 1", "queued")),
        json(200, job("j", "scheduled")),
        json(200, job("j", "running")),
        json(200, job("j", "completed")),
        json(200, job("j", "cancelled")),
        Step::Answer(200, &[("x-ms-continuation", "t1")], json!([job("a", "completed")]).to_string()),
        json(200, json!([job("b", "completed")])),
    ])
    .await;
    let registry = hub.registry();

    let patch = TwinPatch::new().desired(&json!({ "a": 1 }));
    let created = registry.create_job(NewJob::update_twins("j 1", "tags.x = 'y'", patch)).await.unwrap();
    assert_eq!((created.status, created.kind), (JobStatus::Queued, Some(JobType::UpdateTwin)));
    assert_eq!(created.unknown.get("futureField"), Some(&json!([1])));
    // 1700000000 s after 1970 = 2023-11-14 22:13:20 UTC.
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let method = DirectMethod::new("reboot").response_timeout(Duration::from_secs(10));
    let job =
        NewJob::invoke_method("j", "*", method).start_time(start).max_execution_time(Duration::from_secs(60));
    registry.create_job(job).await.unwrap();

    let ended = registry.wait_for_job("j").await.unwrap();
    assert_eq!(ended.status, JobStatus::Completed);
    let statistics = ended.device_job_statistics.unwrap();
    assert_eq!((statistics.device_count, statistics.succeeded_count, statistics.failed_count), (3, 2, 1));
    assert_eq!(registry.cancel_job("j").await.unwrap().status, JobStatus::Cancelled);
    let listed = registry.list_jobs(Some(JobType::UpdateTwin), Some(JobStatus::Completed)).page_size(1);
    let listed: Vec<_> = listed.map_ok(|job| job.job_id).try_collect().await.unwrap();
    assert_eq!(listed, ["a", "b"]);

    let query = "GET /jobs/v2/query?jobType=scheduleUpdateTwin&jobStatus=completed";
    let wanted = [
        "PUT /jobs/v2/j%201",
        "PUT /jobs/v2/j",
        "GET /jobs/v2/j",
        "GET /jobs/v2/j",
        "POST /jobs/v2/j/cancel",
        query,
        query,
    ];
    assert_eq!(lines(&hub), wanted);
    let requests = hub.requests();
    assert_eq!(
        requests[0].json(),
        json!({
            "jobId": "j 1", "type": "scheduleUpdateTwin", "queryCondition": "tags.x = 'y'", "startTime": null,
            "updateTwin": { "etag": "*", "properties": { "desired": { "a": 1 } } }, "maxExecutionTimeInSeconds": 3600,
        })
    );
    assert_eq!(
        requests[1].json(),
        json!({
            "jobId": "j", "type": "scheduleDeviceMethod", "queryCondition": "*", "startTime": "2023-11-14T22:13:20Z",
            "cloudToDeviceMethod": {
                "methodName": "reboot", "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 0, "payload": null,
            },
            "maxExecutionTimeInSeconds": 60,
        })
    );
    // A body-less POST still says how long it is (rest.md 1.1).
    assert_eq!((requests[4].header("Content-Length"), requests[4].body.as_str()), (Some("0"), ""));
    assert_eq!(requests[5].header("x-ms-max-item-count"), Some("1"));
    assert_eq!(
        (requests[5].header("x-ms-continuation"), requests[6].header("x-ms-continuation")),
        (None, Some("t1"))
    );
}

#[tokio::test]
async fn what_a_job_did_on_devices() {
    let rows = json!([{
        "deviceId": "d", "jobId": "it's", "jobType": "scheduleDeviceMethod", "status": "completed",
        "outcome": { "deviceMethodResponse": { "status": 200, "payload": { "b": 1, "a": 2 } } },
    }, {
        "deviceId": "e", "jobId": "it's", "jobType": "scheduleDeviceMethod", "status": "failed",
        "error": { "code": "404103", "description": "offline" },
    }]);
    let hub = FakeHub::start([json(200, rows)]).await;
    let jobs: Vec<_> = hub.registry().device_jobs("it's").try_collect().await.unwrap();
    assert_eq!(jobs[0].status, DeviceJobStatus::Completed);
    let response = jobs[0].outcome.as_ref().unwrap().device_method_response.as_ref().unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(jobs[1].error.as_ref().unwrap().description.as_deref(), Some("offline"));
    // The quote in the id does not end the text in the query.
    assert_eq!(
        hub.request().json()["query"],
        r"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'it\'s'"
    );
}

#[tokio::test]
async fn imports_and_exports() {
    let transfer = json!({
        "jobId": "t", "type": "export", "status": "running", "progress": 10,
        "outputBlobContainerUri": "https://blobs.example.net/c?sig=topsecret", "startTimeUtc": "2026-11-25T08:00:00Z",
    });
    let hub = FakeHub::start([
        json(200, &transfer),
        json(200, &transfer),
        json(200, &transfer),
        json(200, json!([transfer])),
        Step::Answer(204, &[], String::new()),
    ])
    .await;
    let registry = hub.registry();
    let export = NewTransferJob::export("https://blobs.example.net/c?sig=topsecret").without_keys();
    assert!(!format!("{export:?}").contains("topsecret"));
    let job = registry.create_transfer_job(&export).await.unwrap();
    assert_eq!(
        (job.kind.clone(), job.status.clone(), job.progress),
        (JobType::Export, JobStatus::Running, Some(10))
    );
    assert!(!format!("{job:?}").contains("topsecret"));
    let import = NewTransferJob::import("in", "out")
        .input_blob("some.txt")
        .with_identity(Some("/subscriptions/x".to_owned()))
        .with_configurations(None);
    registry.create_transfer_job(&import).await.unwrap();
    registry.get_transfer_job("t").await.unwrap();
    assert_eq!(registry.list_transfer_jobs().await.unwrap().len(), 1);
    registry.cancel_transfer_job("t").await.unwrap();

    assert_eq!(
        lines(&hub),
        ["POST /jobs/create", "POST /jobs/create", "GET /jobs/t", "GET /jobs", "DELETE /jobs/t"]
    );
    let requests = hub.requests();
    assert_eq!(
        requests[0].json(),
        json!({
            "type": "export", "outputBlobContainerUri": "https://blobs.example.net/c?sig=topsecret",
            "excludeKeysInExport": true, "storageAuthenticationType": "keyBased",
        })
    );
    assert_eq!(
        requests[1].json(),
        json!({
            "type": "import", "inputBlobContainerUri": "in", "outputBlobContainerUri": "out", "inputBlobName": "some.txt",
            "storageAuthenticationType": "identityBased", "identity": { "userAssignedIdentity": "/subscriptions/x" },
            "includeConfigurations": true,
        })
    );
}

fn configuration(id: &str) -> Value {
    json!({
        "id": id, "schemaVersion": "1.0", "labels": { "a": "b" },
        "content": { "deviceContent": { "properties.desired.x": { "z": 1, "a": 2 } } },
        "contentType": "assignment", "targetCondition": "*", "createdTimeUtc": "2026-11-25T08:00:00Z",
        "lastUpdatedTimeUtc": "2026-11-25T08:00:00Z", "priority": 7,
        "systemMetrics": { "results": { "targetedCount": 2 }, "queries": { "targetedCount": "select deviceId from devices" } },
        "metrics": { "results": {}, "queries": {} }, "etag": "MQ==",
    })
}

#[tokio::test]
async fn configurations() {
    let none = || Step::Answer(204, &[], String::new());
    let hub = FakeHub::start([
        json(200, configuration("c")),
        json(200, configuration("c")),
        json(200, configuration("c")),
        json(200, configuration("c")),
        json(200, json!([configuration("c"), configuration("e")])),
        none(),
        none(),
        json(200, r#"{"targetConditionError":"Line 1:5","customMetricQueryErrors":{"m":"bad"}}"#),
        json(200, r#"{"targetConditionError":"","customMetricQueryErrors":{}}"#),
        none(),
    ])
    .await;
    let registry = hub.registry();
    let content = ConfigurationContent::for_devices(&json!({ "properties.desired.x": { "a": 1 } })).unwrap();
    let new = NewConfiguration::new("c", content.clone()).target("tags.a = 1").priority(3).label("a", "b");
    registry.create_configuration(new.metric("all", "SELECT deviceId FROM devices")).await.unwrap();
    let mut read = registry.get_configuration("c").await.unwrap();
    assert_eq!((read.priority, read.system_metrics.as_ref().unwrap().results["targetedCount"]), (7, 2));
    let wanted = json!({ "properties.desired.x": { "z": 1, "a": 2 } });
    assert_eq!(read.content.device_content.as_ref().unwrap().to::<Value>().unwrap(), wanted);
    read.priority = 8;
    registry.update_configuration(&read).await.unwrap();
    registry.update_configuration_if_match(&read, &IfMatch::Any).await.unwrap();
    assert_eq!(registry.list_configurations().await.unwrap().len(), 2);
    registry.delete_configuration("c").await.unwrap();
    registry.delete_configuration_if_match("c", &ETag::new("MQ==").into()).await.unwrap();
    let queries = ConfigurationQueries { target_condition: "a".to_owned(), ..Default::default() };
    let test = registry.test_configuration_queries(&queries).await.unwrap();
    assert!(!test.is_ok());
    assert_eq!(test.target_condition_error.as_deref(), Some("Line 1:5"));
    assert!(registry.test_configuration_queries(&queries).await.unwrap().is_ok());
    let edge = ConfigurationContent::for_edge(&json!({ "m": { "properties.desired": {} } })).unwrap();
    registry.apply_configuration_content("d", &edge).await.unwrap();

    assert_eq!(
        lines(&hub),
        [
            "PUT /configurations/c",
            "GET /configurations/c",
            "PUT /configurations/c",
            "PUT /configurations/c",
            "GET /configurations?top=100",
            "DELETE /configurations/c",
            "DELETE /configurations/c",
            "POST /configurations/testQueries",
            "POST /configurations/testQueries",
            "POST /devices/d/applyConfigurationContent",
        ]
    );
    let requests = hub.requests();
    let conditions: Vec<_> = requests.iter().map(|request| request.header("If-Match")).collect();
    assert_eq!(conditions[..4], [None, None, Some("\"MQ==\""), Some("*")]);
    assert_eq!(conditions[5..7], [Some("*"), Some("\"MQ==\"")]);
    assert_eq!(
        requests[0].json(),
        json!({
            "id": "c", "schemaVersion": "1.0", "labels": { "a": "b" },
            "content": { "deviceContent": { "properties.desired.x": { "a": 1 } } }, "targetCondition": "tags.a = 1",
            "priority": 3, "metrics": { "results": {}, "queries": { "all": "SELECT deviceId FROM devices" } },
        })
    );
    // Everything that was read goes back, fields unknown to us too.
    let mut sent_back = configuration("c");
    sent_back["priority"] = json!(8);
    assert_eq!(requests[2].json(), sent_back);
    assert_eq!(requests[7].json(), json!({ "targetCondition": "a", "customMetricQueries": {} }));
    assert_eq!(requests[9].json(), json!({ "modulesContent": { "m": { "properties.desired": {} } } }));
}

#[tokio::test]
async fn missing_jobs_and_configurations_are_named() {
    let hub = FakeHub::start([
        refusal(404, "JobNotFound", "x"),
        refusal(404, "ConfigurationNotFound", "x"),
        refusal(409, "ConfigurationAlreadyExists", "x"),
    ])
    .await;
    let registry = hub.registry();
    let new = NewConfiguration::new("conf-7", ConfigurationContent::default());
    let errors = [
        (registry.get_job("job-7").await.unwrap_err(), ErrorKind::NotFound, "`job-7`"),
        (registry.get_configuration("conf-7").await.unwrap_err(), ErrorKind::NotFound, "`conf-7`"),
        (registry.create_configuration(new).await.unwrap_err(), ErrorKind::AlreadyExists, "`conf-7`"),
    ];
    for (error, kind, name) in errors {
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn statistics_and_purge() {
    let hub = FakeHub::start([
        json(200, r#"{"totalDeviceCount":3,"enabledDeviceCount":2,"disabledDeviceCount":1}"#),
        json(200, r#"{"connectedDeviceCount":1}"#),
        json(200, r#"{"totalMessagesPurged":4,"deviceId":"d","moduleId":null}"#),
    ])
    .await;
    let registry = hub.registry();
    let devices = registry.device_statistics().await.unwrap();
    let counts = (devices.total_device_count, devices.enabled_device_count, devices.disabled_device_count);
    assert_eq!(counts, (3, 2, 1));
    assert_eq!(registry.service_statistics().await.unwrap().connected_device_count, 1);
    assert_eq!(registry.purge_message_queue("d").await.unwrap().total_messages_purged, 4);
    assert_eq!(
        lines(&hub),
        ["GET /statistics/devices", "GET /statistics/service", "DELETE /devices/d/commands"]
    );
}

#[tokio::test]
async fn digital_twins() {
    let document = r#"{"$dtId":"d","z":1.0,"$metadata":{"$model":"dtmi:example:Thing;1"}}"#;
    let hub = FakeHub::start([
        Step::Answer(200, &[("ETag", "\"AAE=\"")], document.to_owned()),
        Step::Answer(202, &[("ETag", "\"AAI=\""), ("Location", "x")], String::new()),
        Step::Answer(202, &[], String::new()),
        Step::Answer(200, &[("x-ms-command-statuscode", "207")], r#"{"b":1,"a":2}"#.to_owned()),
        Step::Answer(200, &[("x-ms-command-statuscode", "500")], String::new()),
    ])
    .await;
    let registry = hub.registry();
    let twin = registry.get_digital_twin("d").await.unwrap();
    assert_eq!((twin.document.as_str(), twin.etag), (document, Some(ETag::new("AAE="))));
    let patch = DigitalTwinPatch::new().add("/t", &21.5).replace("/c/p", &json!({ "a": 1 })).remove("/old");
    assert_eq!(registry.update_digital_twin("d", &patch).await.unwrap(), Some(ETag::new("AAI=")));
    let if_match = ETag::new("AAI=").into();
    assert_eq!(registry.update_digital_twin_if_match("d", &patch, &if_match).await.unwrap(), None);
    let command = DirectMethod::new("get max").payload(&json!("now")).connect_timeout(Duration::from_secs(5));
    let response = registry.invoke_command("d", command).await.unwrap();
    assert_eq!((response.status, response.payload.as_str()), (207, r#"{"b":1,"a":2}"#));
    let response = registry.invoke_component_command("d", "thermostat1", "reset").await.unwrap();
    assert!(response.status == 500 && response.payload.is_null());

    let timeouts = |connect| format!("connectTimeoutInSeconds={connect}&responseTimeoutInSeconds=30");
    assert_eq!(
        lines(&hub),
        [
            "GET /digitaltwins/d".to_owned(),
            "PATCH /digitaltwins/d".to_owned(),
            "PATCH /digitaltwins/d".to_owned(),
            format!("POST /digitaltwins/d/commands/get%20max?{}", timeouts(5)),
            format!("POST /digitaltwins/d/components/thermostat1/commands/reset?{}", timeouts(0)),
        ]
    );
    let requests = hub.requests();
    assert_eq!(
        requests[1].json(),
        json!([
            { "op": "add", "path": "/t", "value": 21.5 }, { "op": "replace", "path": "/c/p", "value": { "a": 1 } },
            { "op": "remove", "path": "/old" },
        ])
    );
    assert_eq!(
        (requests[1].header("If-Match"), requests[2].header("If-Match")),
        (Some("*"), Some("\"AAI=\""))
    );
    assert_eq!((requests[3].body.as_str(), requests[4].body.as_str()), ("\"now\"", "null"));
}

#[tokio::test]
async fn ids_that_would_be_other_paths_are_refused() {
    let hub = FakeHub::start([]).await;
    let registry = hub.registry();
    let patch = TwinPatch::new();
    let errors = [
        registry.get_job("").await.unwrap_err(),
        registry.cancel_job("..").await.unwrap_err(),
        registry.create_job(NewJob::update_twins(".", "*", patch)).await.unwrap_err(),
        registry.get_configuration("").await.unwrap_err(),
        registry.cancel_transfer_job("..").await.unwrap_err(),
        registry.invoke_device_method("d", "").await.unwrap_err(),
        registry.invoke_component_command("d", "", "x").await.unwrap_err(),
        registry.invoke_command("d", "..").await.unwrap_err(),
        registry.purge_message_queue("a/b").await.unwrap_err(),
        registry.apply_configuration_content("a b", &ConfigurationContent::default()).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(hub.requests().is_empty());
}
