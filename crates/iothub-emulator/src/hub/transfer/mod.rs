//! Imports and exports of all identities, to and from blobs (rest.md 8.2).

mod model;
mod run;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use self::model::{Status, Transfer};
use super::Hub;
use super::error::{ErrorCode, HubError};

/// Jobs that are remembered, the one that runs among them (inferred).
const MAX_KEPT: usize = 100;

/// The jobs of a hub, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    all: VecDeque<Transfer>,
}

impl Hub {
    /// Creates an import or export job, which is carried out by [`run`](Self::run). Its blobs are in the hub's own
    /// storage.
    ///
    /// # Errors
    ///
    /// 400014 when the hub has no storage, 400004 for a body that is no job, 400020 for a container that is not the
    /// hub's or a token that does not open it, 403003 while another one runs.
    pub fn create_transfer(&self, body: &Value) -> Result<Value, HubError> {
        let Some(storage) = self.storage() else {
            return Err(HubError::new(
                ErrorCode::DefaultStorageEndpointNotConfigured,
                "the hub has no storage, so it cannot import or export",
            ));
        };
        let transfer = Transfer::read(Uuid::new_v4().to_string(), body, storage, self.now())?;
        let json = transfer.to_json();
        let mut inner = self.lock();
        let transfers = &mut inner.transfers.all;
        if transfers.iter().any(|transfer| !transfer.is_over()) {
            let text = "an import or export runs already, one at a time is allowed";
            return Err(HubError::new(ErrorCode::JobQuotaExceeded, text));
        }
        transfers.push_back(transfer);
        if transfers.len() > MAX_KEPT {
            transfers.pop_front();
        }
        drop(inner);
        self.shared.schedule.notify_one();
        Ok(json)
    }

    /// Reads an import or export job.
    ///
    /// # Errors
    ///
    /// 404002.
    pub fn get_transfer(&self, id: &str) -> Result<Value, HubError> {
        let inner = self.lock();
        let transfer = inner.transfers.all.iter().find(|transfer| transfer.id == id);
        transfer.map(Transfer::to_json).ok_or_else(|| not_found(id))
    }

    /// All import and export jobs that are remembered, the oldest first.
    pub fn list_transfers(&self) -> Vec<Value> {
        self.lock().transfers.all.iter().map(Transfer::to_json).collect()
    }

    /// Stops an import or export. What it has done stays; one that is over stays as it is.
    ///
    /// # Errors
    ///
    /// 404002.
    pub fn cancel_transfer(&self, id: &str) -> Result<(), HubError> {
        let now = self.now();
        let mut inner = self.lock();
        let transfer = inner.transfers.all.iter_mut().find(|transfer| transfer.id == id);
        let transfer = transfer.ok_or_else(|| not_found(id))?;
        if !transfer.is_over() {
            transfer.end(Status::Cancelled, now);
        }
        Ok(())
    }

    /// The URI of the container that imports and exports use, with a token that opens all its blobs for so long:
    /// `https://{host}/{container}?…`; a blob's name goes in front of the question mark. None without a storage.
    pub fn container_uri(&self, lasting: Duration) -> Option<String> {
        let storage = self.storage()?;
        let until = self.now().checked_add(lasting)?;
        let (host, container) = (storage.host(), storage.container());
        Some(format!("https://{host}/{container}{}", storage.sign_container(until)))
    }

    /// Marks the job that waits as running and gives its id.
    pub(super) fn start_transfer(&self) -> Option<String> {
        let mut inner = self.lock();
        let transfer = inner.transfers.all.iter_mut().find(|transfer| transfer.status == Status::Enqueued)?;
        transfer.status = Status::Running;
        Some(transfer.id.clone())
    }
}

impl Transfers {
    /// A job as long as it runs.
    fn running(&mut self, id: &str) -> Option<&mut Transfer> {
        self.all.iter_mut().find(|transfer| transfer.id == id && transfer.status == Status::Running)
    }
}

fn not_found(id: &str) -> HubError {
    HubError::new(ErrorCode::JobNotFound, format!("the job {id} does not exist"))
}
