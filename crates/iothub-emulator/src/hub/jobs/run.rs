//! Carries out a job, device by device.

use std::ops::ControlFlow;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream;
use iothub_common::Identity;
use tokio_util::sync::CancellationToken;

use super::device_job::{DeviceJob, DeviceStatus};
use super::model::{Status, Work};
use crate::hub::error::HubError;
use crate::hub::query::{self, Condition, Row, Source};
use crate::hub::timestamp::Timestamp;
use crate::hub::{Hub, Inner};

/// Methods called at once.
const CALLS: usize = 20;

impl Hub {
    /// Runs a job that was started, to its end. Devices that fail do not make the job fail (twins.md 6.2).
    pub(in crate::hub) async fn run_job(&self, id: &str) {
        let Some(plan) = self.choose_devices(id) else { return };
        let work = &plan.work;
        let all = stream::iter(plan.devices).for_each_concurrent(CALLS, |device_id| async move {
            self.run_for_device(id, work, device_id).await;
            tokio::task::yield_now().await;
        });
        let deadline = plan.deadline;
        tokio::select! {
            () = all => {}
            // Whoever stopped it has ended it too.
            () = plan.stop.cancelled() => return,
            () = self.clock().reached(deadline) => {}
        }
        let now = self.now();
        if let Some(job) = self.lock().jobs.running(id) {
            job.end(Status::Completed, DeviceStatus::Failed, now);
        }
        self.shared.schedule.notify_one();
    }

    /// The devices that meet the condition now.
    fn choose_devices(&self, id: &str) -> Option<Plan> {
        let now = self.now();
        let mut inner = self.lock();
        let condition = inner.jobs.running(id)?.condition.clone();
        let chosen = chosen(&inner, &condition);
        let job = inner.jobs.running(id)?;
        match chosen {
            Err(error) => {
                job.failure = Some(error.text);
                job.end(Status::Failed, DeviceStatus::Failed, now);
                self.shared.schedule.notify_one();
                None
            }
            Ok(devices) => {
                let rows = devices.iter().map(|id| (id.clone(), DeviceJob::new(now.into())));
                job.devices = rows.collect();
                let deadline = now.checked_add(job.max_execution).unwrap_or(now);
                Some(Plan { devices, work: job.work.clone(), stop: job.stop.clone(), deadline })
            }
        }
    }

    async fn run_for_device(&self, id: &str, work: &Work, device_id: String) {
        self.update_device(id, &device_id, DeviceJob::start);
        let result = match (Identity::device(&device_id), work) {
            // Registered ids are well-formed.
            (Err(_), _) => return,
            (Ok(device), Work::Twin { patch, pre }) => {
                self.patch_twin(&device, patch, pre.clone()).map(|_| None)
            }
            (Ok(device), Work::Method(request)) => {
                self.invoke_method(&device, request.clone()).await.map(Some)
            }
        };
        self.update_device(id, &device_id, |row, now| row.finish(result, now));
    }

    /// Unless the job was ended meanwhile.
    fn update_device(&self, id: &str, device_id: &str, update: impl FnOnce(&mut DeviceJob, Timestamp)) {
        let now = self.timestamp();
        let mut inner = self.lock();
        if let Some(row) = inner.jobs.running(id).and_then(|job| job.devices.get_mut(device_id)) {
            update(row, now);
        }
    }
}

/// What is left to do of a job.
struct Plan {
    devices: Vec<String>,
    work: Work,
    stop: CancellationToken,
    deadline: SystemTime,
}

fn chosen(inner: &Inner, condition: &str) -> Result<Vec<String>, HubError> {
    let condition = match condition.trim() {
        "*" => Condition::all(Source::Devices),
        _ => Condition::parse(condition)?,
    };
    if condition.source() != Source::Devices {
        return Err(super::invalid("queryCondition must be a condition on device twins"));
    }
    let mut devices = Vec::new();
    // Never breaks.
    let _ = query::scan(inner, Source::Devices, &[], |key, row: &Row<'_>| {
        if condition.holds(row) {
            devices.extend(key.iter().map(|id| (*id).to_owned()));
        }
        ControlFlow::Continue(())
    });
    Ok(devices)
}
