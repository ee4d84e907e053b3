//! Methods, jobs, configurations, digital twins, numbers.

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use iothub::service::{
    ConfigurationContent, ConfigurationQueries, DeviceJob, DeviceJobStatus, DigitalTwinPatch, Job, JobStatus,
    JobType, NewConfiguration, NewJob, NewTransferJob,
};
use iothub::{DeviceClient, ErrorKind, IfMatch, ModuleClient, TwinPatch};
use serde_json::{Value, json};

use crate::Drive;
use crate::support::within;

/// A device and a module that answer every method with its payload and the status 207.
async fn answering(drive: &Drive) -> (DeviceClient, ModuleClient) {
    let options = drive.hub.client_options();
    let device =
        within(drive.registry.get_device("d")).await.unwrap().connection_string("localhost").unwrap();
    let module =
        within(drive.registry.get_module("d", "m")).await.unwrap().connection_string("localhost").unwrap();
    let device = within(DeviceClient::connect_with(&device, options.clone())).await.unwrap();
    let module = within(ModuleClient::connect_with(&module, options)).await.unwrap();
    let streams = [within(device.methods()).await.unwrap(), within(module.methods()).await.unwrap()];
    for mut requests in streams {
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let payload =
                    json!({ "name": request.name(), "got": request.payload_as::<Value>().unwrap() });
                request.respond(207, &payload).await.unwrap();
            }
        });
    }
    (device, module)
}

pub(crate) async fn methods(drive: &mut Drive) {
    let (device, module) = answering(drive).await;
    let response = call!(drive.invoke_device_method("d", "reboot")).unwrap();
    assert_eq!(response.status, 207);
    assert_eq!(response.to::<Value>().unwrap(), json!({ "name": "reboot", "got": null }));
    let response = call!(drive.invoke_module_method("d", "m", "x")).unwrap();
    assert_eq!(response.status, 207);
    within(device.close()).await;
    within(module.close()).await;
}

pub(crate) async fn digital_twins(drive: &mut Drive) {
    let (device, module) = answering(drive).await;
    let twin = call!(drive.get_digital_twin("d")).unwrap();
    assert_eq!(twin.document.to::<Value>().unwrap()["$dtId"], "d");
    let patch = DigitalTwinPatch::new().add("/target", &21.5);
    let etag = call!(drive.update_digital_twin("d", &patch)).unwrap().unwrap();
    let twin = call!(drive.get_device_twin("d")).unwrap();
    assert_eq!(twin.properties.desired.get::<f64>("target").unwrap(), Some(21.5));
    let patch = DigitalTwinPatch::new().remove("/target");
    call!(drive.update_digital_twin_if_match("d", &patch, &IfMatch::ETag(etag.clone()))).unwrap();
    let stale = call!(drive.update_digital_twin_if_match("d", &patch, &IfMatch::ETag(etag)));
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::PreconditionFailed);

    let response = call!(drive.invoke_command("d", "go")).unwrap();
    assert_eq!(
        (response.status, response.to::<Value>().unwrap()),
        (207, json!({ "name": "go", "got": null }))
    );
    let response = call!(drive.invoke_component_command("d", "thermostat", "go")).unwrap();
    assert_eq!(response.to::<Value>().unwrap()["name"], "thermostat*go");
    within(device.close()).await;
    within(module.close()).await;
}

pub(crate) async fn jobs(drive: &mut Drive) {
    let patch = TwinPatch::new().desired(&json!({ "byJob": 1 }));
    call!(drive.create_job(NewJob::update_twins("j1", "deviceId = 'd'", patch.clone()))).unwrap();
    let job = call!(drive.wait_for_job("j1")).unwrap();
    assert_eq!((job.status, job.kind), (JobStatus::Completed, Some(JobType::UpdateTwin)));
    let statistics = job.device_job_statistics.unwrap();
    assert_eq!((statistics.device_count, statistics.succeeded_count, statistics.failed_count), (1, 1, 0));
    let twin = call!(drive.get_device_twin("d")).unwrap();
    assert_eq!(twin.properties.desired.get::<u8>("byJob").unwrap(), Some(1));

    // The device is not connected: it fails, the job does not.
    call!(drive.create_job(NewJob::invoke_method("j2", "deviceId = 'd'", "reboot"))).unwrap();
    let job = call!(drive.wait_for_job("j2")).unwrap();
    assert_eq!((job.status, job.device_job_statistics.unwrap().failed_count), (JobStatus::Completed, 1));
    let rows: Vec<DeviceJob> = within(begin!(drive.device_jobs("j2")).try_collect()).await.unwrap();
    assert_eq!((rows.len(), rows[0].device_id.as_str()), (1, "d"));
    assert_eq!(rows[0].status, DeviceJobStatus::Failed);

    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    call!(drive.create_job(NewJob::update_twins("j3", "*", patch.clone()).start_time(in_an_hour))).unwrap();
    assert!(!call!(drive.get_job("j3")).unwrap().status.is_final());
    let error = call!(drive.create_job(NewJob::update_twins("j3", "*", patch))).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::AlreadyExists, Some("JobAlreadyExists")));
    call!(drive.cancel_job("j3")).unwrap();
    assert_eq!(call!(drive.wait_for_job("j3")).unwrap().status, JobStatus::Cancelled);
    let completed = begin!(drive.list_jobs(None, Some(JobStatus::Completed))).page_size(1);
    let mut ids: Vec<String> = within(completed.map_ok(|job: Job| job.job_id).try_collect()).await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, ["j1", "j2"]);
    let error = call!(drive.get_job("nobody")).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("JobNotFound")));
}

pub(crate) async fn transfer_jobs(drive: &mut Drive) {
    let elsewhere = NewTransferJob::export("https://blobs.example.net/container?sig=x");
    let error = call!(drive.create_transfer_job(&elsewhere)).unwrap_err();
    assert_eq!(error.hub_code(), Some("InvalidStorageEndpointOrBlob"), "{error:?}");
    assert!(call!(drive.list_transfer_jobs()).unwrap().is_empty());

    // Out, deleted, and in again: the same keys, and the twin.
    let container = drive.hub.hub().container_uri(Duration::from_secs(3600)).unwrap();
    let before = call!(drive.get_device("d")).unwrap();
    let export = call!(drive.create_transfer_job(&NewTransferJob::export(container.as_str()))).unwrap();
    assert_eq!(export.kind, JobType::Export);
    let export = call!(drive.wait_for_transfer_job(&export.job_id)).unwrap();
    assert_eq!(
        (export.status, export.progress),
        (JobStatus::Completed, Some(100)),
        "{:?}",
        export.failure_reason
    );
    call!(drive.delete_device("d")).unwrap();
    let import = NewTransferJob::import(container.as_str(), container.as_str());
    let import = call!(drive.create_transfer_job(&import)).unwrap();
    assert_eq!(call!(drive.wait_for_transfer_job(&import.job_id)).unwrap().status, JobStatus::Completed);
    let after = call!(drive.get_device("d")).unwrap();
    assert_eq!(after.connection_string("h"), before.connection_string("h"));
    assert_ne!(after.generation_id, before.generation_id);
    // What has ended stays as it is.
    call!(drive.cancel_transfer_job(&export.job_id)).unwrap();
    assert_eq!(call!(drive.get_transfer_job(&export.job_id)).unwrap().status, JobStatus::Completed);
    assert_eq!(call!(drive.list_transfer_jobs()).unwrap().len(), 2);
    for error in [
        call!(drive.get_transfer_job("nobody")).unwrap_err(),
        call!(drive.cancel_transfer_job("nobody")).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("JobNotFound")));
    }
}

pub(crate) async fn configurations(drive: &mut Drive) {
    let content =
        ConfigurationContent::for_devices(&json!({ "properties.desired.byConfiguration": { "a": 1 } }))
            .unwrap();
    let new = NewConfiguration::new("c", content.clone())
        .target("deviceId = 'd'")
        .priority(3)
        .label("l", "v")
        .metric("all", "SELECT deviceId FROM devices");
    let created = call!(drive.create_configuration(new)).unwrap();
    assert_eq!((created.priority, created.labels.unwrap()["l"].as_str()), (3, "v"));
    let error = call!(drive.create_configuration(NewConfiguration::new("c", content.clone()))).unwrap_err();
    assert_eq!(error.hub_code(), Some("ConfigurationAlreadyExists"));
    let twin = call!(drive.get_device_twin("d")).unwrap();
    assert_eq!(twin.properties.desired.get::<Value>("byConfiguration").unwrap(), Some(json!({ "a": 1 })));

    let mut read = call!(drive.get_configuration("c")).unwrap();
    assert_eq!(read.etag, created.etag);
    read.priority = 4;
    let updated = call!(drive.update_configuration(&read)).unwrap();
    assert_eq!(updated.priority, 4);
    let error = call!(drive.update_configuration(&read)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    call!(drive.update_configuration_if_match(&read, &IfMatch::Any)).unwrap();
    let mut other_content = call!(drive.get_configuration("c")).unwrap();
    other_content.content = ConfigurationContent::for_devices(&json!({ "properties.desired.x": 1 })).unwrap();
    let error = call!(drive.update_configuration(&other_content)).unwrap_err();
    assert_eq!(error.hub_code(), Some("CannotModifyImmutableConfigurationContent"));
    let ids: Vec<_> = call!(drive.list_configurations()).unwrap().into_iter().map(|c| c.id).collect();
    assert_eq!(ids, ["c"]);

    let mut queries =
        ConfigurationQueries { target_condition: "tags.a = 1".to_owned(), ..Default::default() };
    assert!(call!(drive.test_configuration_queries(&queries)).unwrap().is_ok());
    queries.target_condition = "tags.a = ".to_owned();
    queries.custom_metric_queries.insert("m".to_owned(), "SELEKT".to_owned());
    let test = call!(drive.test_configuration_queries(&queries)).unwrap();
    assert!(!test.is_ok());
    assert!(test.target_condition_error.is_some_and(|error| !error.is_empty()));

    let error = call!(drive.apply_configuration_content("d", &content)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidInput, Some(400)));
    let edge = json!({ "m1": { "properties.desired": { "x": 1 } } });
    let edge = ConfigurationContent::for_edge(&edge).unwrap();
    call!(drive.apply_configuration_content("edge", &edge)).unwrap();
    let twin = call!(drive.get_module_twin("edge", "m1")).unwrap();
    assert_eq!(twin.properties.desired.get::<u8>("x").unwrap(), Some(1));

    let stale = IfMatch::ETag(created.etag);
    let error = call!(drive.delete_configuration_if_match("c", &stale)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    call!(drive.delete_configuration("c")).unwrap();
    let error = call!(drive.get_configuration("c")).unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::NotFound, Some("ConfigurationNotFound")));
}

pub(crate) async fn numbers(drive: &mut Drive) {
    let devices = call!(drive.device_statistics()).unwrap();
    assert_eq!((devices.total_device_count, devices.disabled_device_count), (4, 0));
    assert_eq!(call!(drive.service_statistics()).unwrap().connected_device_count, 0);
    let purged = call!(drive.purge_message_queue("d")).unwrap();
    assert_eq!((purged.total_messages_purged, purged.device_id.as_str()), (0, "d"));
}
