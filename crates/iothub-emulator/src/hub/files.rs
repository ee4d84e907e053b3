//! File uploads: devices ask for a place, write there, and say how it went (rest.md 11.3).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use iothub_common::{Identity, identity::escape_id};
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::{ErrorCode, HubError};
use super::{Hub, Inner, UploadedFile};
use crate::storage::{self, Storage};

/// Uploads of one device that are open at a time (rest.md 14).
const MAX_OPEN: usize = 10;
/// How long a device has for an upload: what a new hub is set to.
const LIFE: Duration = Duration::from_secs(3600);
/// Uploads that ended for lack of time and are still known as such.
const MAX_EXPIRED: usize = 1000;

/// The uploads that are under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// By correlation id.
    open: HashMap<String, Open>,
    /// The last ones that ended for lack of time: correlation id and device.
    expired: VecDeque<(String, String)>,
}

#[derive(Debug)]
struct Open {
    device_id: String,
    blob_name: String,
    until: SystemTime,
}

impl Uploads {
    fn start(&mut self, open: Open) -> Result<String, HubError> {
        let count = self.open.values().filter(|other| other.device_id == open.device_id).count();
        if count >= MAX_OPEN {
            // The real hub's text (rest.md 2.3).
            let text = format!("Number of active file upload requests cannot exceed {MAX_OPEN}");
            return Err(HubError::new(ErrorCode::DeviceMaximumActiveFileUploadLimitExceeded, text));
        }
        let id = Uuid::new_v4().to_string();
        self.open.insert(id.clone(), open);
        Ok(id)
    }

    fn finish(&mut self, id: &str, device_id: &str) -> Result<Open, HubError> {
        if self.open.get(id).is_some_and(|open| open.device_id == device_id)
            && let Some(open) = self.open.remove(id)
        {
            return Ok(open);
        }
        if self.expired.iter().any(|(known, device)| known == id && device == device_id) {
            let text =
                format!("the file upload {id} was not finished within {} minutes", LIFE.as_secs() / 60);
            return Err(HubError::new(ErrorCode::ExpiredFileUploadCorrelationId, text));
        }
        let text = format!("device {device_id} has no file upload {id} under way");
        Err(HubError::new(ErrorCode::InvalidFileUploadCorrelationId, text))
    }

    /// Ends those whose time is over; the names of their blobs.
    fn expire(&mut self, now: SystemTime) -> Vec<String> {
        let ended = self.open.extract_if(|_, open| open.until <= now);
        let mut blobs = Vec::new();
        for (id, open) in ended {
            self.expired.push_back((id, open.device_id));
            blobs.push(open.blob_name);
        }
        while self.expired.len() > MAX_EXPIRED {
            self.expired.pop_front();
        }
        blobs
    }

    pub(super) fn forget(&mut self, device_id: &str) {
        self.open.retain(|_, open| open.device_id != device_id);
        self.expired.retain(|(_, device)| device != device_id);
    }
}

/// File uploads.
impl Hub {
    /// Opens an upload for a device: where to write, and the token for it, as it goes out.
    ///
    /// # Errors
    ///
    /// 400014 when the hub has no storage, 400004 for a name that is none, 403006 while ten others are open, 404001.
    pub fn start_upload(&self, device_id: &str, name: &str) -> Result<Value, HubError> {
        let storage = self.storage_of_uploads()?;
        let device = Identity::device(device_id)
            .map_err(|error| HubError::new(ErrorCode::ArgumentInvalid, error.to_string()))?;
        let blob_name = format!("{device_id}/{}", name.trim_start_matches('/'));
        if name.trim_start_matches('/').is_empty() || storage::check_name(&blob_name).is_err() {
            let text = "blobName must have 1 to 1024 characters, the device id included, and not end with '/' or '.'";
            return Err(HubError::new(ErrorCode::ArgumentInvalid, text));
        }
        let until = self.now() + LIFE;
        let mut inner = self.lock();
        inner.state.check_usable(&device, self.name())?;
        self.expire_uploads(&mut inner, storage);
        let id = inner.uploads.start(Open {
            device_id: device_id.to_owned(),
            blob_name: blob_name.clone(),
            until,
        })?;
        drop(inner);
        // Clients paste the parts together, so the token has its question mark (rest.md 11.3).
        Ok(json!({
            "correlationId": id,
            "hostName": storage.host(),
            "containerName": storage.container(),
            "sasToken": storage.sign(&blob_name, until),
            "blobName": blob_name,
        }))
    }

    /// Ends an upload. Services are told of it when it succeeded.
    ///
    /// # Errors
    ///
    /// 400015 for an id that is not open, 400016 when its time was over, 400020 when it is said to have succeeded
    /// and the file is not there.
    pub fn finish_upload(
        &self,
        device_id: &str,
        correlation_id: &str,
        is_success: bool,
    ) -> Result<(), HubError> {
        let storage = self.storage_of_uploads()?;
        let mut inner = self.lock();
        self.expire_uploads(&mut inner, storage);
        let open = inner.uploads.finish(correlation_id, device_id)?;
        drop(inner);
        storage.drop_blocks(&open.blob_name);
        if !is_success {
            return Ok(());
        }
        let Some(blob) = storage.blob(&open.blob_name) else {
            let text = format!("the blob {} was not written", open.blob_name);
            return Err(HubError::new(ErrorCode::InvalidStorageEndpointOrBlob, text));
        };
        self.notify_upload(&UploadedFile {
            device_id: open.device_id,
            blob_uri: blob_uri(storage, &open.blob_name),
            blob_name: open.blob_name,
            last_updated: blob.last_modified,
            size: blob.size(),
        });
        Ok(())
    }

    /// The storage for uploads, if the hub has one.
    pub fn storage(&self) -> Option<&Storage> {
        self.shared.config.storage.as_ref()
    }

    fn storage_of_uploads(&self) -> Result<&Storage, HubError> {
        self.storage().ok_or_else(|| {
            let text = "the hub has no storage account for file uploads";
            HubError::new(ErrorCode::DefaultStorageEndpointNotConfigured, text)
        })
    }

    fn expire_uploads(&self, inner: &mut Inner, storage: &Storage) {
        for blob in inner.uploads.expire(self.now()) {
            storage.drop_blocks(&blob);
        }
    }
}

/// Where a blob is, without a token.
fn blob_uri(storage: &Storage, name: &str) -> String {
    let name: Vec<String> = name.split('/').map(escape_id).collect();
    format!("https://{}/{}/{}", storage.host(), storage.container(), name.join("/"))
}
