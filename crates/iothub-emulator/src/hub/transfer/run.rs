//! Carries out imports and exports: a line of JSON for each identity (rest.md 8.2).

use serde_json::{Map, Value, json};

use super::model::{ERRORS, Status, Transfer, Work};
use crate::hub::Hub;
use crate::hub::bulk::BulkError;
use crate::hub::error::HubError;
use crate::hub::precondition::Precondition;
use crate::hub::query::PageRequest;
use crate::storage::Storage;

/// Lines between two breaths.
const CHUNK: usize = 100;

const TEXT: Option<&str> = Some("text/plain");

impl Hub {
    /// Runs a transfer that was started, to its end. Lines that fail do not make it fail; they are in the log.
    pub(in crate::hub) async fn run_transfer(&self, id: &str) {
        let Some(transfer) = self.lock().transfers.running(id).cloned() else { return };
        let outcome = match self.storage() {
            Some(storage) => self.transfer(storage, &transfer).await,
            None => Err("the hub has no storage".to_owned()),
        };
        let now = self.now();
        if let Some(transfer) = self.lock().transfers.running(id) {
            match outcome {
                Ok(()) => {
                    transfer.progress = 100;
                    transfer.end(Status::Completed, now);
                }
                Err(reason) => {
                    transfer.failure = Some(reason);
                    transfer.end(Status::Failed, now);
                }
            }
        }
        self.shared.schedule.notify_one();
    }

    async fn transfer(&self, storage: &Storage, transfer: &Transfer) -> Result<(), String> {
        match &transfer.work {
            Work::Import { from } => {
                let mut log = self.import(storage, &transfer.id, from).await?;
                if let Some(from) = &transfer.configurations_blob {
                    log.extend(self.import_configurations(&read(storage, from)?));
                }
                write(storage, ERRORS, log)
            }
            Work::Export { to, exclude_keys } => {
                write(storage, to, self.export(&transfer.id, *exclude_keys).await)?;
                match &transfer.configurations_blob {
                    Some(to) => write(storage, to, self.list_configurations(usize::MAX)),
                    None => Ok(()),
                }
            }
        }
    }

    /// The lines that failed. Stops when the job is cancelled.
    async fn import(&self, storage: &Storage, id: &str, from: &str) -> Result<Vec<Value>, String> {
        let text = read(storage, from)?;
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let mut log = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            if index % CHUNK == 0 && !self.breathe(id, index, lines.len()).await {
                break;
            }
            log.extend(self.import_line(line).err().map(|error| error.to_json()));
        }
        Ok(log)
    }

    fn import_line(&self, line: &str) -> Result<(), BulkError> {
        match serde_json::from_str(line.trim_start_matches('\u{feff}')) {
            Ok(line) => self.bulk_item(&line),
            Err(error) => {
                let error = super::model::invalid(format!("the line is not JSON: {error}"));
                Err(BulkError { device_id: String::new(), module_id: None, error })
            }
        }
    }

    fn import_configurations(&self, text: &str) -> Vec<Value> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.filter_map(|line| self.import_configuration(line).err()).collect()
    }

    fn import_configuration(&self, line: &str) -> Result<(), Value> {
        let refused = |id: &str, error: HubError| json!({ "configurationId": id, "errorCode": error.code, "errorStatus": error.text });
        let body: Value = serde_json::from_str(line.trim_start_matches('\u{feff}'))
            .map_err(|error| refused("", super::model::invalid(format!("the line is not JSON: {error}"))))?;
        let id = body["id"].as_str().unwrap_or_default();
        let pre = match self.get_configuration(id) {
            Ok(_) => Precondition::IfMatch(None),
            Err(_) => Precondition::None,
        };
        self.put_configuration(id, &body, pre).map(|_| ()).map_err(|error| refused(id, error))
    }

    /// All devices, each followed by its modules.
    async fn export(&self, id: &str, exclude_keys: bool) -> Vec<Value> {
        let mut lines = Vec::new();
        let all = usize::try_from(self.statistics().devices).unwrap_or(usize::MAX);
        let mut request = PageRequest::default();
        let (mut devices, text) = (0, "SELECT deviceId FROM devices");
        // A query that is known to be one.
        while let Ok(page) = self.query(text, &request).await {
            for device in page.items.iter().filter_map(|row| row["deviceId"].as_str()) {
                lines.extend(self.export_device(device, exclude_keys).unwrap_or_default());
            }
            devices += page.items.len();
            request.continuation = page.continuation;
            if request.continuation.is_none() || !self.breathe(id, devices, all.max(devices)).await {
                break;
            }
        }
        lines
    }

    /// None when it was deleted meanwhile.
    fn export_device(&self, device_id: &str, exclude_keys: bool) -> Option<Vec<Value>> {
        let inner = self.lock();
        let device = inner.state.get_device(device_id).ok()?;
        let modules = inner.state.list_modules(device_id).ok()?;
        let line = |identity: &Value| {
            let module_id = identity["moduleId"].as_str();
            let of = match module_id {
                None => iothub_common::Identity::device(device_id).ok()?,
                Some(module_id) => iothub_common::Identity::module(device_id, module_id).ok()?,
            };
            Some(export_line(identity, &inner.state.twin_document(&of).ok()?, exclude_keys))
        };
        Some(std::iter::once(&device).chain(&modules).filter_map(line).collect())
    }

    /// Notes how far it is, and lets others do something. False when the job was cancelled.
    async fn breathe(&self, id: &str, done: usize, of: usize) -> bool {
        tokio::task::yield_now().await;
        let mut inner = self.lock();
        let Some(transfer) = inner.transfers.running(id) else { return false };
        transfer.progress = (done * 100 / of.max(1)) as u64;
        true
    }
}

/// In the order and with the names that imports read (rest.md 3.5).
fn export_line(identity: &Value, twin: &Value, exclude_keys: bool) -> Value {
    let mut line = Map::new();
    let mut put = |name: &str, value: &Value| {
        line.insert(name.to_owned(), value.clone());
    };
    put("id", &identity["deviceId"]);
    if let Some(module_id) = identity.get("moduleId") {
        put("moduleId", module_id);
        put("managedBy", &identity["managedBy"]);
    }
    put("eTag", &identity["etag"]);
    put("status", &twin["status"]);
    put("statusReason", &identity["statusReason"]);
    put("authentication", if exclude_keys { &Value::Null } else { &identity["authentication"] });
    put("twinETag", &twin["etag"]);
    put("tags", twin.get("tags").unwrap_or(&json!({})));
    let values = |section: &Value| {
        let mut values = section.clone();
        if let Some(members) = values.as_object_mut() {
            members.retain(|name, _| !name.starts_with('$'));
        }
        values
    };
    let properties = &twin["properties"];
    put(
        "properties",
        &json!({ "desired": values(&properties["desired"]), "reported": values(&properties["reported"]) }),
    );
    for name in ["capabilities", "deviceScope", "parentScopes"] {
        if let Some(value) = identity.get(name) {
            put(name, value);
        }
    }
    line.into()
}

fn read(storage: &Storage, blob: &str) -> Result<String, String> {
    let content = storage.blob(blob).ok_or_else(|| format!("the blob {blob} does not exist"))?.content();
    String::from_utf8(content.to_vec()).map_err(|_| format!("the blob {blob} is not UTF-8"))
}

fn write(storage: &Storage, blob: &str, lines: Vec<Value>) -> Result<(), String> {
    let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    let written = storage.put_blob(blob, TEXT, text.into());
    written.map(|_| ()).map_err(|error| format!("the blob {blob} cannot be written: {}", error.text))
}
