//! What a job does to one device: a row of `devices.jobs` (twins.md 5.2).

use serde_json::{Map, Value, json};

use crate::hub::MethodResponse;
use crate::hub::error::HubError;
use crate::hub::timestamp::Timestamp;

#[derive(Debug)]
pub(super) struct DeviceJob {
    pub(super) status: DeviceStatus,
    created: Timestamp,
    updated: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    outcome: Option<Value>,
    error: Option<Value>,
}

/// Spelled `canceled` here, unlike a job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStatus {
    Pending,
    Running,
    Completed,
    Failed,
    Canceled,
}

impl DeviceStatus {
    fn text(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

impl DeviceJob {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            status: DeviceStatus::Pending,
            created: now,
            updated: now,
            started: None,
            ended: None,
            outcome: None,
            error: None,
        }
    }

    pub(super) fn start(&mut self, now: Timestamp) {
        self.status = DeviceStatus::Running;
        self.started = Some(now);
        self.updated = now;
    }

    /// What came of it; a method's response where it was one.
    pub(super) fn finish(&mut self, result: Result<Option<MethodResponse>, HubError>, now: Timestamp) {
        match result {
            Ok(response) => {
                self.outcome =
                    response.map(|response| json!({ "deviceMethodResponse": method_json(&response) }));
                self.end(DeviceStatus::Completed, now);
            }
            Err(error) => {
                self.error = Some(json!({ "code": error.name, "description": error.text }));
                self.end(DeviceStatus::Failed, now);
            }
        }
    }

    pub(super) fn end(&mut self, status: DeviceStatus, now: Timestamp) {
        if status == DeviceStatus::Failed && self.error.is_none() {
            let text = "The job did not finish with the device within maxExecutionTimeInSeconds.";
            self.error = Some(json!({ "code": "JobRunTimedOut", "description": text }));
        }
        self.status = status;
        self.ended = Some(now);
        self.updated = now;
    }

    pub(super) fn to_json(&self, job_id: &str, kind: &str, device_id: &str) -> Value {
        let mut json = Map::new();
        let time = |at: Timestamp| Value::from(at.for_twin());
        let members = [
            ("deviceId", Some(device_id.into())),
            ("jobId", Some(job_id.into())),
            ("jobType", Some(kind.into())),
            ("status", Some(self.status.text().into())),
            ("startTimeUtc", self.started.map(time)),
            ("endTimeUtc", self.ended.map(time)),
            ("createdDateTimeUtc", Some(time(self.created))),
            ("lastUpdatedDateTimeUtc", Some(time(self.updated))),
            ("outcome", self.outcome.clone()),
            ("error", self.error.clone()),
        ];
        for (name, value) in members {
            json.extend(value.map(|value| (name.to_owned(), value)));
        }
        json.into()
    }
}

fn method_json(response: &MethodResponse) -> Value {
    // The payload is checked to be JSON when it comes.
    let payload = serde_json::from_slice::<Value>(&response.payload).unwrap_or_default();
    json!({ "status": response.status, "payload": payload })
}
