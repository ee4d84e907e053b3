"""azure-iot-hub's scheduled jobs against a hub.

Not `query_scheduled_jobs`: it expects an object where the hub gives an array, as the other packages want it
(rest.md 8.1)."""

import time
from datetime import datetime, timedelta, timezone

# First: azure-iot-hub cannot be imported before.
from support import HUB, equal, failure, identifier, registry, run

from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification, Twin, TwinProperties

hub = registry()
jobs = IoTHubJobManager.from_connection_string(HUB)
site = identifier("site")
fleet = sorted(identifier("worker") for _ in range(3))
of_site = f"tags.site = '{site}'"
job_id = identifier("job")


def ended(one):
    """The job once it has ended. It takes as long as the hub takes; whoever runs this limits it."""
    while True:
        job = jobs.get_scheduled_job(one)
        if job.status in ("completed", "failed", "cancelled"):
            return job
        time.sleep(0.1)


def request(one, start=None, **what):
    start = start or datetime.now(timezone.utc)
    return JobRequest(
        job_id=one, query_condition=of_site, start_time=start, max_execution_time_in_seconds=3600, **what
    )


def twin_job():
    """update the twins of three devices"""
    for one in fleet:
        hub.create_device_with_sas(one, "", "", "enabled")
        hub.update_twin(one, Twin(tags={"site": site}))
    change = Twin(etag="*", tags={"wave": 1}, properties=TwinProperties(desired={"rate": 3}))
    wanted = request(job_id, type="scheduleUpdateTwin", update_twin=change)
    made = jobs.create_scheduled_job(job_id, wanted)
    equal((made.job_id, made.type), (job_id, "scheduleUpdateTwin"))
    job = ended(job_id)
    counts = job.device_job_statistics
    equal((job.status, counts.device_count, counts.succeeded_count, counts.failed_count), ("completed", 3, 3, 0))
    assert job.end_time >= job.start_time
    for one in fleet:
        twin = hub.get_twin(one)
        equal((twin.tags["wave"], twin.properties.desired["rate"]), (1, 3))
    failure(409, "JobAlreadyExists", jobs.create_scheduled_job, job_id, wanted)


def method_job():
    """a method on devices that are offline"""
    one = identifier("job")
    call = CloudToDeviceMethod(method_name="work", payload={}, response_timeout_in_seconds=30)
    jobs.create_scheduled_job(one, request(one, type="scheduleDeviceMethod", cloud_to_device_method=call))
    counts = ended(one).device_job_statistics
    equal((counts.device_count, counts.succeeded_count, counts.failed_count), (3, 0, 3))
    text = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{one}'"
    page = hub.query_iot_hub(QuerySpecification(query=text))
    equal((page.type, sorted(row.device_id for row in page.items)), ("DeviceJob", fleet))
    equal([row.status for row in page.items], ["failed"] * 3)


def later():
    """one for later, cancelled"""
    one = identifier("job")
    start = datetime.now(timezone.utc) + timedelta(hours=1)
    change = Twin(etag="*", tags={"wave": 2})
    made = jobs.create_scheduled_job(one, request(one, start, type="scheduleUpdateTwin", update_twin=change))
    assert made.status in ("scheduled", "queued"), made.status
    equal(jobs.cancel_scheduled_job(one).status, "cancelled")
    equal(jobs.get_scheduled_job(one).status, "cancelled")
    equal(hub.get_twin(fleet[0]).tags["wave"], 1)
    failure(404, "JobNotFound", jobs.get_scheduled_job, identifier("nothing"))


run("python jobs", [twin_job, method_job, later])
