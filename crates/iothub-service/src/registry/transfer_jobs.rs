//! Import and export of identities (rest.md 8.2).

use http::Method;
use iothub_common::{Result, Subject};

use super::Registry;
use super::jobs::{LOOKS, path};
use crate::http::Call;
use crate::models::{NewTransferJob, TransferJob};

impl Registry {
    /// Begins an import or export of identities by way of a blob container.
    ///
    /// # Errors
    ///
    /// [`QuotaExceeded`](crate::ErrorKind::QuotaExceeded) while another one is at work.
    pub async fn create_transfer_job(&self, job: &NewTransferJob) -> Result<TransferJob> {
        let hub = Subject::Hub(self.host_name());
        let call = Call::read("create import or export", "/jobs/create".to_owned(), hub);
        self.http.json(call.changing(Method::POST).json(&job.to_json())?).await
    }

    /// Reads an import or export.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is none with this id.
    pub async fn get_transfer_job(&self, job_id: &str) -> Result<TransferJob> {
        let path = path("/jobs", job_id, "job id")?;
        self.http.json(Call::read("get import or export", path, Subject::Job(job_id))).await
    }

    /// All imports and exports the hub remembers.
    ///
    /// # Errors
    ///
    /// Those of every call, see [`Registry`].
    pub async fn list_transfer_jobs(&self) -> Result<Vec<TransferJob>> {
        let hub = Subject::Hub(self.host_name());
        self.http.json(Call::read("list imports and exports", "/jobs".to_owned(), hub)).await
    }

    /// Cancels an import or export. What it did stays done.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is none with this id.
    pub async fn cancel_transfer_job(&self, job_id: &str) -> Result<()> {
        let path = path("/jobs", job_id, "job id")?;
        let call = Call::read("cancel import or export", path, Subject::Job(job_id)).changing(Method::DELETE);
        self.http.send(call).await?;
        Ok(())
    }

    /// Waits until an import or export has ended, well or not, and gives it as it is then: look at its status. Lines of
    /// an import that failed are in the log that the hub writes to the blob `importErrors.log`.
    ///
    /// Looks and waits as [`Registry::wait_for_job`] does, without a limit.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::get_transfer_job`].
    pub async fn wait_for_transfer_job(&self, job_id: &str) -> Result<TransferJob> {
        let mut pauses = LOOKS.backoff();
        loop {
            let job = self.get_transfer_job(job_id).await?;
            if job.status.is_final() {
                return Ok(job);
            }
            tokio::time::sleep(pauses.next().unwrap_or(LOOKS.ceiling)).await;
        }
    }
}
