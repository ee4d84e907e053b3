//! Scheduled jobs (rest.md 8.1).

use std::time::Duration;

use http::Method;
use iothub_common::identity::escape_id;
use iothub_common::{Error, ErrorKind, Result, RetryPolicy, Subject};

use super::Registry;
use super::query::{Query, Source};
use crate::http::Call;
use crate::models::{Job, JobStatus, JobType, NewJob, method};

/// How often a job is looked at while its end is waited for: soon at first, then seldom.
pub(super) const LOOKS: RetryPolicy =
    RetryPolicy { initial: Duration::from_millis(250), ceiling: Duration::from_secs(5), max_retries: None };

impl Registry {
    /// Creates a job, which begins at once or at its start time; see [`Registry::wait_for_job`] for its end.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) when there is a job with this id;
    /// [`Throttled`](ErrorKind::Throttled) when the hub runs as many as it can (one to ten, by its tier) until the end
    /// of the call; [`InvalidInput`](ErrorKind::InvalidInput) for a patch or method as in direct calls. A condition with
    /// a mistake may also show as a job that fails.
    pub async fn create_job(&self, job: NewJob) -> Result<Job> {
        let path = path("/jobs/v2", &job.job_id, "job id")?;
        let call = Call::read("create job", path, Subject::Job(&job.job_id)).changing(Method::PUT);
        self.http.json(call.body(method::body(&job.json()?))).await
    }

    /// Reads a job.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is none with this id; the hub forgets jobs after 30 days.
    pub async fn get_job(&self, job_id: &str) -> Result<Job> {
        let path = path("/jobs/v2", job_id, "job id")?;
        self.http.json(Call::read("get job", path, Subject::Job(job_id))).await
    }

    /// Cancels a job: devices that it did not come to yet are left alone. What it did stays done; a job that has ended
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is none with this id.
    pub async fn cancel_job(&self, job_id: &str) -> Result<Job> {
        let path = format!("{}/cancel", path("/jobs/v2", job_id, "job id")?);
        let call = Call::read("cancel job", path, Subject::Job(job_id)).changing(Method::POST);
        self.http.json(call).await
    }

    /// All jobs of the hub, or those of one kind or in one status; a stream like that of [`Registry::query`], with pages
    /// and tokens.
    ///
    /// # Errors
    ///
    /// An error of the hub is the last item of the stream.
    pub fn list_jobs(&self, kind: Option<JobType>, status: Option<JobStatus>) -> Query<Job> {
        self.ask(Source::Jobs(kind, status))
    }

    /// Waits until a job has ended, well or not, and gives it as it is then: look at its status, and at
    /// [`Job::device_job_statistics`] for devices where it failed.
    ///
    /// Looks at the job after a moment, then ever less often, every five seconds at last. There is no limit: put one
    /// around it with `tokio::time::timeout`. Dropping the future stops the waiting, not the job.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::get_job`].
    pub async fn wait_for_job(&self, job_id: &str) -> Result<Job> {
        let mut pauses = LOOKS.backoff();
        loop {
            let job = self.get_job(job_id).await?;
            if job.status.is_final() {
                return Ok(job);
            }
            tokio::time::sleep(pauses.next().unwrap_or(LOOKS.ceiling)).await;
        }
    }
}

/// The path of a thing below `root`. Whether its id is a good one is the hub's to say, but it must not change the path.
pub(super) fn path(root: &str, id: &str, what: &str) -> Result<String> {
    if matches!(id, "" | "." | "..") {
        let message = format!("the {what} cannot be `{id}`: in a URL it would mean another resource");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(format!("{root}/{}", escape_id(id)))
}
