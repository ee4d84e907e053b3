//! A scheduled job: what a PUT says about it, and how the hub shows it (rest.md 8.1).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::device_job::{DeviceJob, DeviceStatus};
use crate::hub::MethodRequest;
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::precondition::Precondition;
use crate::hub::timestamp::{self, Timestamp};
use crate::hub::twin;

/// When a job does not say.
const DEFAULT_MAX_EXECUTION: u64 = 3600;
const MAX_ID: usize = 128;

/// One job, with a row for each device once it has started.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    /// `updateTwin` or `cloudToDeviceMethod` as it was given.
    given: Value,
    pub(super) condition: String,
    pub(super) created: Timestamp,
    pub(super) start: SystemTime,
    pub(super) max_execution: Duration,
    pub(super) status: Status,
    pub(super) ended: Option<SystemTime>,
    pub(super) failure: Option<String>,
    /// By device id.
    pub(super) devices: BTreeMap<String, DeviceJob>,
    /// Stops it while it runs.
    pub(super) stop: CancellationToken,
}

/// What is done to each device.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Twin { patch: Value, pre: Precondition },
    Method(MethodRequest),
}

/// Spelled `cancelled` here, unlike a device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl Work {
    /// The name of `type`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Twin { .. } => "scheduleUpdateTwin",
            Self::Method(_) => "scheduleDeviceMethod",
        }
    }

    fn member(&self) -> &'static str {
        match self {
            Self::Twin { .. } => "updateTwin",
            Self::Method(_) => "cloudToDeviceMethod",
        }
    }
}

impl Job {
    /// Reads the body of a PUT. The condition is looked at when the job starts (twins.md 6.2).
    pub(super) fn read(id: &str, body: &Value, now: SystemTime) -> Result<Self, HubError> {
        let members = match body {
            Value::Object(members) => members,
            Value::Null => {
                return Err(HubError::new(ErrorCode::ArgumentNull, "the request needs a body, a job"));
            }
            _ => return Err(bad("the body must be a JSON object, a job")),
        };
        check_id(id, given(members, "jobId"))?;
        let (work, given_work) = read_work(members)?;
        let condition = match given(members, "queryCondition") {
            Some(Value::String(condition)) if !condition.trim().is_empty() => condition.clone(),
            _ => {
                return Err(bad(
                    "queryCondition is missing, a condition on twins like deviceId IN ['a', 'b']",
                ));
            }
        };
        let start = match given(members, "startTime") {
            None => now,
            Some(start) => start.as_str().and_then(timestamp::parse).ok_or_else(|| {
                bad(format!("startTime must be a time like 2026-01-31T10:00:00Z, not {start}"))
            })?,
        };
        let max_execution = match given(members, "maxExecutionTimeInSeconds") {
            None => DEFAULT_MAX_EXECUTION,
            Some(seconds) => seconds
                .as_u64()
                .ok_or_else(|| bad("maxExecutionTimeInSeconds must be a whole number of seconds"))?,
        };
        let max_execution = if max_execution == 0 { DEFAULT_MAX_EXECUTION } else { max_execution };
        Ok(Self {
            work,
            given: given_work,
            condition,
            created: now.into(),
            start,
            max_execution: Duration::from_secs(max_execution),
            status: Status::Queued,
            ended: None,
            failure: None,
            devices: BTreeMap::new(),
            stop: CancellationToken::new(),
        })
    }

    pub(super) fn to_json(&self, id: &str) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Value| json.insert(name.to_owned(), value);
        put("jobId", id.into());
        put("createdTime", self.created.for_twin().into());
        put("startTime", Timestamp::from(self.start).for_twin().into());
        if let Some(ended) = self.ended {
            put("endTime", Timestamp::from(ended).for_twin().into());
        }
        put("maxExecutionTimeInSeconds", self.max_execution.as_secs().into());
        put("type", self.work.kind().into());
        put(self.work.member(), self.given.clone());
        put("queryCondition", self.condition.as_str().into());
        put("status", self.status.text().into());
        if let Some(failure) = &self.failure {
            put("failureReason", failure.as_str().into());
            put("statusMessage", failure.as_str().into());
        }
        put("deviceJobStatistics", self.statistics());
        json.into()
    }

    fn statistics(&self) -> Value {
        let count = |status| self.devices.values().filter(|device| device.status == status).count();
        json!({
            "deviceCount": self.devices.len(),
            "failedCount": count(DeviceStatus::Failed),
            "succeededCount": count(DeviceStatus::Completed),
            "runningCount": count(DeviceStatus::Running),
            "pendingCount": count(DeviceStatus::Pending),
        })
    }

    /// Ends it; devices it has not finished with get `status`.
    pub(super) fn end(&mut self, status: Status, devices: DeviceStatus, now: SystemTime) {
        self.status = status;
        self.ended = Some(now);
        for device in self.devices.values_mut().filter(|device| !device.status.is_final()) {
            device.end(devices, now.into());
        }
        self.stop.cancel();
    }
}

fn read_work(members: &Map<String, Value>) -> Result<(Work, Value), HubError> {
    let kind = given(members, "type").and_then(Value::as_str).unwrap_or_default();
    let missing = |name: &str| bad(format!("a job of type {kind} needs {name}"));
    match kind.to_ascii_lowercase().as_str() {
        "scheduleupdatetwin" => {
            let patch = given(members, "updateTwin").ok_or_else(|| missing("updateTwin"))?;
            let etag = patch.get("etag").and_then(Value::as_str).filter(|etag| !etag.is_empty());
            let etag = etag.ok_or_else(|| bad("updateTwin must have an etag, '*' for any"))?;
            twin::check_update(patch)?;
            let pre = Precondition::from_headers(Some(etag), None);
            Ok((Work::Twin { patch: patch.clone(), pre }, patch.clone()))
        }
        "scheduledevicemethod" => {
            let method =
                given(members, "cloudToDeviceMethod").ok_or_else(|| missing("cloudToDeviceMethod"))?;
            let request = MethodRequest::parse(method.to_string().as_bytes())?;
            Ok((Work::Method(request), method.clone()))
        }
        // The names scheduleTwinUpdate and scheduleDirectMethod of some documents are refused too.
        _ => Err(bad(format!("type must be scheduleUpdateTwin or scheduleDeviceMethod, not '{kind}'"))),
    }
}

/// Node's users may have numbers as ids, in the body too (rest.md 8.1).
fn check_id(id: &str, in_body: Option<&Value>) -> Result<(), HubError> {
    if id.is_empty() || id.chars().count() > MAX_ID || id.contains(char::is_control) {
        return Err(bad(format!("the id of a job has 1 to {MAX_ID} characters")));
    }
    let same = match in_body {
        None => true,
        Some(Value::String(given)) => given == id,
        Some(Value::Number(given)) => given.to_string() == id,
        Some(_) => false,
    };
    if same { Ok(()) } else { Err(bad(format!("jobId in the body must be the one in the path, '{id}'"))) }
}

/// A member that is there and not null.
fn given<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

/// What the real hub says to malformed jobs (twins.md 6.2).
fn bad(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::GenericBadRequest, text)
}
