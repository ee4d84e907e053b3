//! Import and export of identities by way of blob storage (rest.md 8.2).

use iothub_common::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::authentication::key_text;
use super::hub_enum::hub_enum;
use super::{JobStatus, JobType, Timestamp, UnknownFields};

hub_enum! {
    /// How the hub is let into the blob container.
    pub enum StorageAuthentication {
        /// By a signature in the container's URI.
        KeyBased = "keyBased",
        /// By the hub's own identity.
        IdentityBased = "identityBased",
    }
}

/// An import or export of identities to begin; see [`Registry::create_transfer_job`](crate::Registry::create_transfer_job).
///
/// The files hold one identity a line, as JSON. One import or export runs at a time on a hub.
///
/// `Debug` shows no URI: their signatures open the container.
#[derive(Clone, Debug)]
pub struct NewTransferJob {
    kind: JobType,
    output_container: Secret,
    input_container: Option<Secret>,
    input_blob: Option<String>,
    output_blob: Option<String>,
    exclude_keys: bool,
    identity: Option<Option<String>>,
    configurations: Option<Option<String>>,
}

impl NewTransferJob {
    /// Writes all identities of the hub into the blob `devices.txt` of a container, given by its URI with a signature.
    pub fn export(container_uri: impl Into<Secret>) -> Self {
        Self::new(JobType::Export, container_uri.into(), None)
    }

    /// Creates, changes and deletes identities as the blob `devices.txt` of the first container says; the hub's log goes
    /// to the second, which may be the same.
    pub fn import(container_uri: impl Into<Secret>, log_container_uri: impl Into<Secret>) -> Self {
        Self::new(JobType::Import, log_container_uri.into(), Some(container_uri.into()))
    }

    fn new(kind: JobType, output_container: Secret, input_container: Option<Secret>) -> Self {
        Self {
            kind,
            output_container,
            input_container,
            input_blob: None,
            output_blob: None,
            exclude_keys: false,
            identity: None,
            configurations: None,
        }
    }

    /// The name of the blob to import, instead of `devices.txt`.
    pub fn input_blob(mut self, name: impl Into<String>) -> Self {
        self.input_blob = Some(name.into());
        self
    }

    /// The name of the blob to write, instead of `devices.txt` or, for the log of an import, `importErrors.log`.
    pub fn output_blob(mut self, name: impl Into<String>) -> Self {
        self.output_blob = Some(name.into());
        self
    }

    /// Leaves the keys of identities out of an export.
    pub fn without_keys(mut self) -> Self {
        self.exclude_keys = true;
        self
    }

    /// The hub signs in to the storage with its own identity, or the user-assigned one with this resource id; the URIs
    /// need no signature then.
    pub fn with_identity(mut self, user_assigned: Option<String>) -> Self {
        self.identity = Some(user_assigned);
        self
    }

    /// Imports or exports configurations as well; the blob's name is `configurations.txt` unless given.
    pub fn with_configurations(mut self, blob: Option<String>) -> Self {
        self.configurations = Some(blob);
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
        set("type", self.kind.as_str().into());
        if let Some(container) = &self.input_container {
            set("inputBlobContainerUri", container.reveal().into());
        }
        set("outputBlobContainerUri", self.output_container.reveal().into());
        if let Some(blob) = &self.input_blob {
            set("inputBlobName", blob.as_str().into());
        }
        if let Some(blob) = &self.output_blob {
            set("outputBlobName", blob.as_str().into());
        }
        if self.kind == JobType::Export {
            set("excludeKeysInExport", self.exclude_keys.into());
        }
        let storage = match self.identity {
            Some(_) => StorageAuthentication::IdentityBased,
            None => StorageAuthentication::KeyBased,
        };
        set("storageAuthenticationType", storage.as_str().into());
        if let Some(Some(identity)) = &self.identity {
            set("identity", serde_json::json!({ "userAssignedIdentity": identity }));
        }
        if let Some(blob) = &self.configurations {
            set("includeConfigurations", true.into());
            if let Some(blob) = blob {
                set("configurationsBlobName", blob.as_str().into());
            }
        }
        Value::Object(body)
    }
}

/// An import or export as the hub knows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TransferJob {
    /// The id, made by the hub.
    pub job_id: String,
    /// Import or export.
    #[serde(rename = "type")]
    pub kind: JobType,
    /// How far it is.
    pub status: JobStatus,
    /// The same in percent.
    #[serde(default)]
    pub progress: Option<u32>,
    /// The container to import from.
    #[serde(default, deserialize_with = "key_text::deserialize")]
    pub input_blob_container_uri: Option<Secret>,
    /// The container that is written to.
    #[serde(default, deserialize_with = "key_text::deserialize")]
    pub output_blob_container_uri: Option<Secret>,
    /// The blob that is imported.
    #[serde(default)]
    pub input_blob_name: Option<String>,
    /// The blob that is written.
    #[serde(default)]
    pub output_blob_name: Option<String>,
    /// Whether keys are left out of an export.
    #[serde(default)]
    pub exclude_keys_in_export: Option<bool>,
    /// How the hub is let into the container.
    #[serde(default)]
    pub storage_authentication_type: Option<StorageAuthentication>,
    /// When it began.
    #[serde(default)]
    pub start_time_utc: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub end_time_utc: Option<Timestamp>,
    /// Why it failed.
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// What else the hub said. `Debug` shows the names only.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}
