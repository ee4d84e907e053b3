//! What the calls beyond identities and twins send, and what they make of the answers (rest.md 7 to 10).
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use iothub_service::{
    Authentication, AuthenticationType, ConfigurationContent, ConfigurationQueries, DeviceJobStatus,
    DeviceStatus, DigitalTwinPatch, DirectMethod, ETag, ErrorKind, IfMatch, JobStatus, JobType, KeySlot,
    NewAuthentication, NewConfiguration, NewJob, NewTransferJob, TwinPatch,
};
use serde_json::{Value, json};
use support::{FakeHub, KEY, Request, Step, device, json, module, refusal, twin};

/// Method and path with query, without the version.
fn line(request: &Request) -> String {
    let target = request.target.replace("api-version=2021-04-12", "");
    format!("{} {}", request.method, target.trim_end_matches(['?', '&']))
}

fn lines(hub: &FakeHub) -> Vec<String> {
    hub.requests().iter().map(line).collect()
}

#[tokio::test]
async fn methods_are_sent_with_their_timeouts_and_payload() {
    let answer = r#"{"status":404,"payload":{"z":1.50,"n":123456789012345678901234567890}}"#;
    let hub = FakeHub::start([json(200, answer), json(200, r#"{"status":200,"payload":null}"#)]).await;
    let registry = hub.registry();
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str(r#"{"b":1.0,"a":[]}"#).unwrap();
    let method = DirectMethod::new("set")
        .payload(&raw)
        .connect_timeout(Duration::from_millis(1))
        .response_timeout(Duration::from_secs(7));
    let response = registry.invoke_device_method("d+1", method).await.unwrap();
    // The device's status, whatever it is, and its payload as it wrote it.
    assert_eq!((response.status, response.is_success()), (404, false));
    assert_eq!(response.payload.as_str(), r#"{"z":1.50,"n":123456789012345678901234567890}"#);

    let response = registry.invoke_module_method("d", "m", "reboot").await.unwrap();
    assert!(response.is_success() && response.payload.is_null());
    response.to::<()>().unwrap();

    assert_eq!(lines(&hub), ["POST /twins/d%2B1/methods", "POST /twins/d/modules/m/methods"]);
    let bodies: Vec<_> = hub.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(
        bodies,
        [
            r#"{"methodName":"set","responseTimeoutInSeconds":7,"connectTimeoutInSeconds":1,"payload":{"b":1.0,"a":[]}}"#,
            r#"{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0,"payload":null}"#,
        ]
    );
}

/// Shape B (rest.md 2.1).
fn method_refusal(status: u16, number: u32, name: &'static str) -> Step {
    let inner = json!({ "errorCode": number, "trackingId": "ab-G:0", "message": "text", "info": {} });
    let body = json!({ "Message": inner.to_string(), "ExceptionMessage": "" });
    Step::Answer(status, Box::leak(Box::new([("iothub-errorcode", name)])), body.to_string())
}

#[tokio::test]
async fn method_failures_are_told_apart_and_not_repeated() {
    let cases = [
        (404, 404_001, "DeviceNotFound", ErrorKind::NotFound, false),
        (404, 404_010, "ModuleNotFound", ErrorKind::NotFound, false),
        (404, 404_103, "DeviceNotOnline", ErrorKind::Unavailable, false),
        (404, 404_104, "DeviceConnectionClosedRemotely", ErrorKind::Unavailable, true),
        (504, 504_101, "GatewayTimeout", ErrorKind::Timeout, true),
        (400, 400_004, "ArgumentInvalid", ErrorKind::InvalidInput, false),
    ];
    for (status, number, name, kind, applied) in cases {
        let hub = FakeHub::start([method_refusal(status, number, name)]).await;
        let error = hub.registry().invoke_module_method("d", "m", "x").await.unwrap_err();
        assert_eq!((error.kind(), error.hub_code()), (kind, Some(name)), "{error}");
        assert_eq!(error.may_have_been_applied(), applied, "{name}");
        assert_eq!(hub.requests().len(), 1, "{name}");
    }
    for lost in [Step::Close, refusal(502, "BadGateway", "x"), refusal(500, "ServerError", "x")] {
        let hub = FakeHub::start([lost, json(200, r#"{"status":200}"#)]).await;
        let error = hub.registry().invoke_device_method("d", "x").await.unwrap_err();
        assert!(error.may_have_been_applied(), "{error:?}");
        assert_eq!(hub.requests().len(), 1);
    }
}

#[tokio::test]
async fn throttled_methods_never_reached_the_device_and_are_sent_again() {
    let hub =
        FakeHub::start([refusal(429, "ThrottlingException", "x"), json(200, r#"{"status":200}"#)]).await;
    assert!(hub.registry().invoke_device_method("d", "x").await.unwrap().is_success());
}

#[tokio::test]
async fn the_time_for_a_method_exceeds_its_own_timeouts() {
    let hub = FakeHub::start([json(200, device("d", "MA==")), Step::Hang]).await;
    let registry = hub.builder().call_timeout(Duration::from_secs(1)).build().unwrap();
    registry.get_device("d").await.unwrap();
    // The connection is there and the hub never answers: the clock can jump.
    tokio::time::pause();
    let method = DirectMethod::new("slow")
        .connect_timeout(Duration::from_secs(200))
        .response_timeout(Duration::from_secs(300));
    let begun = tokio::time::Instant::now();
    let error = registry.invoke_device_method("d", method).await.unwrap_err();
    assert!(begun.elapsed() > Duration::from_secs(500), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.may_have_been_applied());
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
async fn a_change_begins_anew_when_somebody_else_was_faster() {
    let hub = FakeHub::start([
        json(200, device("d", "MA==")),
        refusal(412, "PreconditionFailed", "x"),
        json(200, device("d", "MQ==")),
        json(200, device("d", "Mg==")),
    ])
    .await;
    let changed =
        hub.registry().set_device_status("d", DeviceStatus::Disabled, Some("stolen")).await.unwrap();
    assert_eq!(changed.etag, ETag::new("Mg=="));
    let requests = hub.requests();
    assert_eq!(requests[1].header("If-Match"), Some("\"MA==\""));
    assert_eq!(requests[3].header("If-Match"), Some("\"MQ==\""));
    let mut wanted = device("d", "MQ==");
    wanted["status"] = json!("disabled");
    wanted["statusReason"] = json!("stolen");
    assert_eq!(requests[3].json(), wanted);
}

#[tokio::test]
async fn a_change_that_is_always_overtaken_gives_up() {
    let round = [json(200, module("d", "m", "MA==")), refusal(412, "PreconditionFailed", "x")];
    let hub = FakeHub::start(std::iter::repeat_n(round, 10).flatten()).await;
    let error = hub.registry().change_module("d", "m", |m| m.managed_by = None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(hub.requests().len(), 10);
}

#[tokio::test]
async fn keys_are_rotated_one_at_a_time() {
    let hub = FakeHub::start([
        json(200, device("d", "MA==")),
        json(200, device("d", "MQ==")),
        json(200, module("d", "m", "MA==")),
        json(200, module("d", "m", "MQ==")),
    ])
    .await;
    let registry = hub.registry();
    registry.rotate_device_key("d", KeySlot::Secondary).await.unwrap();
    registry.rotate_module_key("d", "m", KeySlot::Primary).await.unwrap();
    let keys = |n: usize| {
        let keys = hub.requests()[n].json()["authentication"]["symmetricKey"].clone();
        (keys["primaryKey"].as_str().unwrap().to_owned(), keys["secondaryKey"].as_str().unwrap().to_owned())
    };
    let (primary, secondary) = keys(1);
    assert!(primary == KEY && secondary != KEY && secondary.len() == 44, "{secondary}");
    let (primary, secondary) = keys(3);
    assert!(primary != KEY && primary.len() == 44 && secondary == KEY);
}

#[tokio::test]
async fn keys_of_a_device_without_keys_are_not_rotated() {
    let mut by_certificate = device("d", "MA==");
    by_certificate["authentication"] = json!({ "type": "certificateAuthority" });
    let hub = FakeHub::start([json(200, by_certificate)]).await;
    let error = hub.registry().rotate_device_key("d", KeySlot::Primary).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn authentication_changes_to_every_kind() {
    let mut authentication: Authentication =
        serde_json::from_value(device("d", "MA==")["authentication"].clone()).unwrap();
    let thumbprint = "0123456789012345678901234567890123456789";
    let keys = NewAuthentication::Keys { primary: KEY.into(), secondary: KEY.into() };
    let thumbprints = NewAuthentication::Thumbprints { primary: thumbprint.to_owned(), secondary: None };
    for (new, kind, has_keys, has_thumbprint) in [
        (thumbprints, AuthenticationType::SelfSigned, false, true),
        (NewAuthentication::GeneratedKeys, AuthenticationType::Sas, true, false),
        (NewAuthentication::CertificateAuthority, AuthenticationType::CertificateAuthority, false, false),
        (keys, AuthenticationType::Sas, true, false),
        (NewAuthentication::None, AuthenticationType::None, false, false),
    ] {
        authentication.change_to(new).unwrap();
        assert_eq!(authentication.kind, kind);
        let keys = &authentication.symmetric_key;
        assert_eq!((keys.primary_key.is_some(), keys.secondary_key.is_some()), (has_keys, has_keys));
        assert_eq!(authentication.x509_thumbprint.primary_thumbprint.is_some(), has_thumbprint);
    }
}

#[tokio::test]
async fn tags_are_merged_alone() {
    let hub = FakeHub::start([json(200, twin("d")), json(200, twin("d"))]).await;
    let registry = hub.registry();
    registry.update_device_tags("d", &json!({ "site": "north", "old": null })).await.unwrap();
    registry.update_module_tags("d", "m", &json!({ "a": 1 })).await.unwrap();
    assert_eq!(lines(&hub), ["PATCH /twins/d", "PATCH /twins/d/modules/m"]);
    assert_eq!(hub.requests()[0].body, r#"{"tags":{"old":null,"site":"north"}}"#);
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
