//! Scheduled jobs: twin updates and methods on many devices (rest.md 8.1, twins.md 6.2).

mod device_job;
mod model;
mod run;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use self::device_job::DeviceStatus;
use self::model::{Job, Status};
use super::Hub;
use super::error::{ErrorCode, HubError};
use super::query::{Page, PageRequest, Position, Row};

/// Jobs that run at the same time: what the largest hubs have (twins.md 6.2).
const MAX_RUNNING: usize = 10;
/// How long finished jobs are kept.
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Jobs kept, finished ones included, and their rows; the oldest finished ones go first (inferred).
const MAX_JOBS: usize = 1000;
const MAX_ROWS: usize = 1_000_000;

/// All scheduled jobs of a hub.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: BTreeMap<String, Job>,
}

impl Jobs {
    /// Stops and forgets all.
    pub(super) fn clear(&mut self) {
        self.all.values().for_each(|job| job.stop.cancel());
        self.all.clear();
    }
}

impl Hub {
    /// Creates a job. It is carried out by [`run`](Self::run) when its time has come, at once when it has no start
    /// time.
    ///
    /// # Errors
    ///
    /// 400000 for a body that is no job, 400004 for a twin update or method that cannot be, 409104 when it
    /// exists, 429004 when ten jobs run.
    pub fn put_job(&self, id: &str, body: &Value) -> Result<Value, HubError> {
        let now = self.now();
        let mut inner = self.lock();
        let jobs = &mut inner.jobs;
        jobs.forget_old(now);
        if jobs.all.contains_key(id) {
            return Err(HubError::new(ErrorCode::JobAlreadyExists, format!("the job {id} exists already")));
        }
        let job = Job::read(id, body, now)?;
        let active = jobs.all.values().filter(|job| job.is_active(now)).count();
        if (active >= MAX_RUNNING && job.is_active(now)) || jobs.all.len() >= MAX_JOBS {
            return Err(HubError::new(
                ErrorCode::ThrottlingMaxActiveJobCountExceeded,
                format!("{active} jobs run, no more may be started now"),
            ));
        }
        let json = job.to_json(id);
        jobs.all.insert(id.to_owned(), job);
        drop(inner);
        self.shared.schedule.notify_one();
        Ok(json)
    }

    /// Reads a job.
    ///
    /// # Errors
    ///
    /// 404002.
    pub fn get_job(&self, id: &str) -> Result<Value, HubError> {
        let inner = self.lock();
        inner.jobs.all.get(id).map(|job| job.to_json(id)).ok_or_else(|| not_found(id))
    }

    /// Stops a job; devices it has not finished with are left alone. A finished one stays as it is.
    ///
    /// # Errors
    ///
    /// 404002.
    pub fn cancel_job(&self, id: &str) -> Result<Value, HubError> {
        let now = self.now();
        let mut inner = self.lock();
        let job = inner.jobs.all.get_mut(id).ok_or_else(|| not_found(id))?;
        if !job.status.is_final() {
            job.end(Status::Cancelled, DeviceStatus::Canceled, now);
        }
        let json = job.to_json(id);
        drop(inner);
        self.shared.schedule.notify_one();
        Ok(json)
    }

    /// One page of jobs in the order of ids, of one type and in one status where these are given. Names are
    /// compared without regard to case; of names that no job has there are none.
    ///
    /// # Errors
    ///
    /// 400004 for a token that is not of this list.
    pub fn list_jobs(
        &self,
        kind: Option<&str>,
        status: Option<&str>,
        request: &PageRequest,
    ) -> Result<Page, HubError> {
        let about = format!("jobs\n{}\n{}", kind.unwrap_or_default(), status.unwrap_or_default());
        let after = request.position(&about)?.and_then(|position| position.after.into_iter().next());
        let is_wanted =
            |wanted: Option<&str>, name: &str| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let inner = self.lock();
        let mut jobs = inner
            .jobs
            .all
            .range::<str, _>((start, Bound::Unbounded))
            .filter(|(_, job)| is_wanted(kind, job.work.kind()) && is_wanted(status, job.status.text()));
        let page: Vec<_> = jobs.by_ref().take(request.size()).collect();
        let last = page.last().map(|(id, _)| (*id).clone()).filter(|_| jobs.next().is_some());
        let continuation = last.map(|last| Position::new(&about, vec![last], None).token());
        let items = page.into_iter().map(|(id, job)| job.to_json(id)).collect();
        Ok(Page { items, item_type: "JobResponse", continuation })
    }

    /// Marks jobs as running whose time has come, as many as may run, and gives their ids.
    pub(super) fn start_due_jobs(&self) -> Vec<String> {
        let now = self.now();
        let mut inner = self.lock();
        inner.jobs.forget_old(now);
        let running = inner.jobs.all.values().filter(|job| job.status == Status::Running).count();
        let due = |job: &Job| job.status == Status::Queued && job.start <= now;
        let mut waiting: Vec<_> = inner.jobs.all.iter_mut().filter(|(_, job)| due(job)).collect();
        waiting.sort_by_key(|(_, job)| (job.start, job.created));
        waiting.truncate(MAX_RUNNING.saturating_sub(running));
        let start = |(id, job): (&String, &mut Job)| {
            job.status = Status::Running;
            id.clone()
        };
        waiting.into_iter().map(start).collect()
    }

    /// When the next job is due that waits for its time.
    pub(super) fn next_job(&self) -> Option<SystemTime> {
        let now = self.now();
        let inner = self.lock();
        // Those that are due already wait for a place, and the end of a job wakes who starts them.
        let starts = inner.jobs.all.values().filter(|job| job.status == Status::Queued).map(|job| job.start);
        starts.filter(|start| *start > now).min()
    }
}

impl Job {
    /// Running, or about to.
    fn is_active(&self, now: SystemTime) -> bool {
        self.status == Status::Running || (self.status == Status::Queued && self.start <= now)
    }
}

impl Jobs {
    /// A job as long as it runs.
    fn running(&mut self, id: &str) -> Option<&mut Job> {
        self.all.get_mut(id).filter(|job| job.status == Status::Running)
    }

    /// Rows of `devices.jobs` after the one of this job and device.
    pub(super) fn rows_after(
        &self,
        after: Option<(&str, &str)>,
        mut visit: impl FnMut(&[&str], &Row<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let start = after.map_or(Bound::Unbounded, |(job, _)| Bound::Included(job));
        self.all.range::<str, _>((start, Bound::Unbounded)).try_for_each(|(id, job)| {
            let start = match after {
                Some((of, device)) if of == id => Bound::Excluded(device),
                _ => Bound::Unbounded,
            };
            job.devices.range::<str, _>((start, Bound::Unbounded)).try_for_each(|(device_id, row)| {
                let json = row.to_json(id, job.work.kind(), device_id);
                visit(&[id, device_id], &Row::Job(&json))
            })
        })
    }

    fn forget_old(&mut self, now: SystemTime) {
        let is_recent = |ended: SystemTime| now.duration_since(ended).unwrap_or_default() <= HISTORY;
        self.all.retain(|_, job| job.ended.is_none_or(is_recent));
        loop {
            let rows: usize = self.all.values().map(|job| job.devices.len()).sum();
            if self.all.len() < MAX_JOBS && rows <= MAX_ROWS {
                return;
            }
            let ended = self.all.iter().filter_map(|(id, job)| Some((job.ended?, id.clone())));
            let Some((_, oldest)) = ended.min() else { return };
            self.all.remove(&oldest);
        }
    }
}

fn not_found(id: &str) -> HubError {
    HubError::new(ErrorCode::JobNotFound, format!("the job {id} does not exist"))
}

fn invalid(text: &str) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
