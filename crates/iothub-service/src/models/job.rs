//! Scheduled jobs (rest.md 8.1, twins.md 6.2).

use std::time::{Duration, SystemTime};

use iothub_common::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::hub_enum::hub_enum;
use super::{DirectMethod, MethodResponse, RawJson, Timestamp, TwinPatch, UnknownFields};

/// How long a job may run unless it says otherwise; what the official SDKs send.
const MAX_EXECUTION_TIME: Duration = Duration::from_secs(3600);

hub_enum! {
    /// What a job does.
    pub enum JobType {
        /// Changes twins.
        UpdateTwin = "scheduleUpdateTwin",
        /// Invokes a direct method.
        InvokeMethod = "scheduleDeviceMethod",
        /// Imports identities from a blob.
        Import = "import",
        /// Exports identities to a blob.
        Export = "export",
    }
}

hub_enum! {
    /// How far a job is.
    pub enum JobStatus {
        /// Waiting for its turn.
        Enqueued = "enqueued",
        /// Waiting for its turn.
        Queued = "queued",
        /// Waiting for its start time.
        Scheduled = "scheduled",
        /// At work.
        Running = "running",
        /// Ended; single devices may have failed, see [`Job::device_job_statistics`].
        Completed = "completed",
        /// Ended by an error, see [`Job::failure_reason`].
        Failed = "failed",
        /// Ended by somebody.
        Cancelled = "cancelled",
    }
}

impl JobStatus {
    /// Whether the job has ended, well or not.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A job to create.
///
/// ```
/// use iothub_service::{NewJob, TwinPatch};
/// use serde_json::json;
///
/// let patch = TwinPatch::new().desired(&json!({ "interval": 60 }));
/// let job = NewJob::update_twins("slow-down-north", "tags.site = 'north'", patch);
/// # let _ = job;
/// ```
#[derive(Clone, Debug)]
pub struct NewJob {
    pub(crate) job_id: String,
    condition: String,
    action: Action,
    start_time: Option<SystemTime>,
    max_execution_time: Duration,
}

#[derive(Clone, Debug)]
enum Action {
    UpdateTwin(TwinPatch),
    InvokeMethod(DirectMethod),
}

impl NewJob {
    /// Merges a patch into the twins of all devices that fit a condition: what comes after `WHERE` in a query, such as
    /// `tags.site = 'north'` or `deviceId IN ['a', 'b']`; `*` for all devices.
    pub fn update_twins(
        job_id: impl Into<String>,
        condition: impl Into<String>,
        patch: impl Into<TwinPatch>,
    ) -> Self {
        Self::new(job_id.into(), condition.into(), Action::UpdateTwin(patch.into()))
    }

    /// Invokes a method on all devices that fit a condition, as for [`NewJob::update_twins`].
    pub fn invoke_method(
        job_id: impl Into<String>,
        condition: impl Into<String>,
        method: impl Into<DirectMethod>,
    ) -> Self {
        Self::new(job_id.into(), condition.into(), Action::InvokeMethod(method.into()))
    }

    fn new(job_id: String, condition: String, action: Action) -> Self {
        Self { job_id, condition, action, start_time: None, max_execution_time: MAX_EXECUTION_TIME }
    }

    /// When to begin; at once by default. Which devices fit is decided then.
    pub fn start_time(mut self, time: SystemTime) -> Self {
        self.start_time = Some(time);
        self
    }

    /// How long the job may run, in whole seconds (rounded up); an hour by default.
    pub fn max_execution_time(mut self, time: Duration) -> Self {
        self.max_execution_time = time;
        self
    }

    pub(crate) fn json(&self) -> Result<RawJson> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            job_id: &'a str,
            #[serde(rename = "type")]
            kind: &'a JobType,
            #[serde(skip_serializing_if = "Option::is_none")]
            update_twin: Option<RawJson>,
            #[serde(skip_serializing_if = "Option::is_none")]
            cloud_to_device_method: Option<RawJson>,
            query_condition: &'a str,
            start_time: Option<String>,
            max_execution_time_in_seconds: u64,
        }
        let (kind, update_twin, cloud_to_device_method) = match &self.action {
            // Without an etag the hub refuses the job (twins.md 6.2).
            Action::UpdateTwin(patch) => (JobType::UpdateTwin, Some(patch.json_with_etag("*")?), None),
            Action::InvokeMethod(method) => (JobType::InvokeMethod, None, Some(method.json()?)),
        };
        RawJson::new(&Body {
            job_id: &self.job_id,
            kind: &kind,
            update_twin,
            cloud_to_device_method,
            query_condition: &self.condition,
            start_time: self.start_time.map(text_of).transpose()?,
            max_execution_time_in_seconds: super::method::seconds(self.max_execution_time),
        })
    }
}

fn text_of(time: SystemTime) -> Result<String> {
    let no_date =
        || Error::new(ErrorKind::InvalidInput, "the start time of the job is no date from 1970 to 9999");
    // Conversions that panic where the time is too far away are no option.
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|error| no_date().with_source(error))?;
    let date =
        time::Duration::try_from(since).ok().and_then(|since| OffsetDateTime::UNIX_EPOCH.checked_add(since));
    date.ok_or_else(no_date)?.format(&Rfc3339).map_err(|error| no_date().with_source(error))
}

/// A job as the hub knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Job {
    /// The id.
    pub job_id: String,
    /// What it does. Some answers call this `jobType`.
    #[serde(rename = "type", alias = "jobType", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// How far it is.
    pub status: JobStatus,
    /// The condition for devices, see [`NewJob::update_twins`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_condition: Option<String>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Timestamp>,
    /// When it began or shall begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// How long it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_execution_time_in_seconds: Option<u64>,
    /// The patch of a job that changes twins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_twin: Option<RawJson>,
    /// The method of a job that invokes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_method: Option<RawJson>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// What else there is to say about its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// On how many devices it did what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_job_statistics: Option<DeviceJobStatistics>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Devices of a job, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct DeviceJobStatistics {
    /// All that fit the condition.
    pub device_count: u64,
    /// Those where it failed.
    pub failed_count: u64,
    /// Those where it succeeded.
    pub succeeded_count: u64,
    /// Those where it is at work.
    pub running_count: u64,
    /// Those still to come.
    pub pending_count: u64,
}

hub_enum! {
    /// How far a job is on one device.
    pub enum DeviceJobStatus {
        /// Still to come.
        Pending = "pending",
        /// Waiting for the start time.
        Scheduled = "scheduled",
        /// At work.
        Running = "running",
        /// Done.
        Completed = "completed",
        /// Failed, see [`DeviceJob::error`].
        Failed = "failed",
        /// Not done, because the job was cancelled.
        Canceled = "canceled",
    }
}

/// What a job did on one device, see [`Registry::device_jobs`](crate::Registry::device_jobs).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceJob {
    /// The device.
    pub device_id: String,
    /// The module, where the job is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// The job.
    pub job_id: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// How far it is.
    pub status: DeviceJobStatus,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time_utc: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time_utc: Option<Timestamp>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<Timestamp>,
    /// When this changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<Timestamp>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<DeviceJobOutcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeviceJobError>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// What came of a job on one device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceJobOutcome {
    /// The device's answer to the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_method_response: Option<MethodResponse>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Why a job failed on one device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceJobError {
    /// The hub's code, a number such as `404103` or a name.
    #[serde(default)]
    pub code: Option<RawJson>,
    /// In words.
    #[serde(default)]
    pub description: Option<String>,
}
