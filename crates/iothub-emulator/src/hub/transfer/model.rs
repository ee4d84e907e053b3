//! An import or export job: what a POST says about it, and how the hub shows it (rest.md 8.2).

use std::time::SystemTime;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::hub::error::{ErrorCode, HubError};
use crate::hub::timestamp::Timestamp;
use crate::storage::{Purpose, Sas, Storage};

pub(super) const DEVICES: &str = "devices.txt";
pub(super) const ERRORS: &str = "importErrors.log";
pub(super) const CONFIGURATIONS: &str = "configurations.txt";

/// One job. Blobs are in the hub's own storage.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) id: String,
    pub(super) work: Work,
    pub(super) configurations_blob: Option<String>,
    /// The members of the POST that are shown again.
    given: Map<String, Value>,
    pub(super) status: Status,
    /// In hundredths.
    pub(super) progress: u64,
    pub(super) failure: Option<String>,
    start: Timestamp,
    ended: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Import { from: String },
    Export { to: String, exclude_keys: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Enqueued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// Members that are shown as they were given.
const ECHOED: [&str; 10] = [
    "inputBlobContainerUri",
    "inputBlobName",
    "outputBlobContainerUri",
    "outputBlobName",
    "excludeKeysInExport",
    "storageAuthenticationType",
    "identity",
    "includeConfigurations",
    "configurationsBlobName",
    "type",
];

impl Transfer {
    pub(super) fn read(
        id: String,
        body: &Value,
        storage: &Storage,
        now: SystemTime,
    ) -> Result<Self, HubError> {
        let members = body.as_object().ok_or_else(|| invalid("the body must be a JSON object, a job"))?;
        let by_identity = text(members, "storageAuthenticationType")?
            .is_some_and(|kind| kind.eq_ignore_ascii_case("identityBased"));
        let check = |name| {
            let uri = text(members, name)?.ok_or_else(|| invalid(format!("{name} is missing")))?;
            check_container(name, uri, storage, by_identity)
        };
        let kind = text(members, "type")?.unwrap_or_default();
        let work = match kind.to_ascii_lowercase().as_str() {
            "import" => {
                check("inputBlobContainerUri")?;
                Work::Import { from: blob(members, "inputBlobName", DEVICES)? }
            }
            "export" => Work::Export {
                to: blob(members, "outputBlobName", DEVICES)?,
                exclude_keys: flag(members, "excludeKeysInExport")?,
            },
            _ => return Err(invalid(format!("type must be import or export, not '{kind}'"))),
        };
        check("outputBlobContainerUri")?;
        let configurations_blob = match flag(members, "includeConfigurations")? {
            true => Some(blob(members, "configurationsBlobName", CONFIGURATIONS)?),
            false => None,
        };
        let echoed = |name: &&str| Some(((*name).to_owned(), given(members, name)?.clone()));
        Ok(Self {
            id,
            work,
            configurations_blob,
            given: ECHOED.iter().filter_map(echoed).collect(),
            status: Status::Enqueued,
            progress: 0,
            failure: None,
            start: now.into(),
            ended: None,
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn end(&mut self, status: Status, now: SystemTime) {
        self.status = status;
        self.ended = Some(now.into());
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("jobId".to_owned(), self.id.as_str().into());
        json.insert("startTimeUtc".to_owned(), self.start.for_twin().into());
        json.extend(self.ended.map(|ended| ("endTimeUtc".to_owned(), ended.for_twin().into())));
        json.extend(self.given.clone());
        json.insert("type".to_owned(), self.kind().into());
        json.insert("status".to_owned(), self.status.text().into());
        json.insert("progress".to_owned(), self.progress.into());
        json.insert("failureReason".to_owned(), self.failure.clone().into());
        json.into()
    }

    fn kind(&self) -> &'static str {
        match self.work {
            Work::Import { .. } => "import",
            Work::Export { .. } => "export",
        }
    }
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Whether a URI is the hub's own container, with a token for it unless the hub is to use its identity.
fn check_container(name: &str, uri: &str, storage: &Storage, by_identity: bool) -> Result<(), HubError> {
    let refused = |what: String| HubError::new(ErrorCode::InvalidStorageEndpointOrBlob, what);
    let (place, query) = uri.split_once('?').unwrap_or((uri, ""));
    let expected = format!("https://{}/{}", storage.host(), storage.container());
    if !place.trim_end_matches('/').eq_ignore_ascii_case(&expected) {
        return Err(refused(format!("{name} must be in the storage of this hub, {expected}")));
    }
    if by_identity {
        return Ok(());
    }
    let part = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value).next()?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    };
    let (expiry, permissions, signature) = (part("se"), part("sp"), part("sig"));
    let sas = Sas {
        expiry: expiry.as_deref(),
        permissions: permissions.as_deref(),
        signature: signature.as_deref(),
    };
    storage
        .check(storage.container(), "", &sas, Purpose::Write)
        .map_err(|error| refused(format!("the token in {name} does not do: {}", error.text)))
}

fn blob(members: &Map<String, Value>, name: &str, default: &str) -> Result<String, HubError> {
    let blob = text(members, name)?.unwrap_or(default);
    if crate::storage::check_name(blob).is_err() {
        return Err(invalid(format!("{name} is no name of a blob")));
    }
    Ok(blob.to_owned())
}

fn flag(members: &Map<String, Value>, name: &str) -> Result<bool, HubError> {
    match given(members, name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(invalid(format!("{name} must be true or false"))),
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, HubError> {
    match given(members, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(invalid(format!("{name} must be a string"))),
    }
}

/// A member that is there and not null.
fn given<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

pub(super) fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
