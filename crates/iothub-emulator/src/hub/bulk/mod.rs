//! Many identities in one request (rest.md 3.5). Each item is done or refused by itself.

mod item;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use iothub_common::Identity;
use serde_json::{Value, json};

use self::item::{Action, Item};
use super::error::{ErrorCode, HubError};
use super::precondition::Precondition;
use super::timestamp::Timestamp;
use super::twin::{Notification, Twin};
use super::{Hub, Inner};

/// Items of one request.
const MAX_ITEMS: usize = 100;

/// What became of a bulk request.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkResult {
    /// One for each item that was refused, in the order of items; the others were done.
    pub errors: Vec<BulkError>,
}

/// An item that was refused, with its ids as they were written.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkError {
    /// The id of the device, empty when the item has none.
    pub device_id: String,
    /// The id of the module, where the item is about one.
    pub module_id: Option<String>,
    /// Why.
    pub error: HubError,
}

impl BulkResult {
    /// As the wire has it: `{"isSuccessful":…,"errors":[…],"warnings":[]}`, with numbers as codes.
    pub fn to_json(&self) -> Value {
        let errors: Vec<_> = self.errors.iter().map(BulkError::to_json).collect();
        json!({ "isSuccessful": errors.is_empty(), "errors": errors, "warnings": [] })
    }
}

impl BulkError {
    /// One line of the result, of an import's log too.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "deviceId": self.device_id,
            "moduleId": self.module_id,
            "errorCode": self.error.code,
            "errorStatus": self.error.text,
        })
    }
}

impl Hub {
    /// Creates, updates and deletes up to 100 devices and modules, in the order of items. What an item asks
    /// for says its `importMode`, in any case; without one it creates or updates.
    ///
    /// # Errors
    ///
    /// Nothing is done then: 400004 when the body is no array with an item, 413002 for more than 100, 400011 when
    /// one device has several items, even for several of its modules.
    pub fn bulk(&self, body: &Value) -> Result<BulkResult, HubError> {
        let Some(lines) = body.as_array().filter(|lines| !lines.is_empty()) else {
            return Err(item::invalid("the body must be a JSON array of at least one identity"));
        };
        if lines.len() > MAX_ITEMS {
            let text = format!("the request has {} items, at most {MAX_ITEMS} are allowed", lines.len());
            return Err(HubError::new(ErrorCode::TooManyDevices, text));
        }
        check_duplicates(lines)?;
        let errors = lines.iter().filter_map(|line| self.bulk_item(line).err()).collect();
        Ok(BulkResult { errors })
    }

    /// Does what one line asks for.
    pub(super) fn bulk_item(&self, line: &Value) -> Result<(), BulkError> {
        let done = Item::read(line).and_then(|item| {
            let now = self.timestamp();
            let mut inner = self.lock();
            let notification = item.execute(&mut inner, now)?;
            self.sweep(&mut inner, item.identity.device_id(), now);
            if let Some(notification) = notification {
                inner.live.notify(&item.identity, &notification);
            }
            Ok(())
        });
        done.map_err(|error| {
            let (device_id, module_id) = item::ids(line);
            let device_id = device_id.unwrap_or_default().to_owned();
            BulkError { device_id, module_id: module_id.map(str::to_owned), error }
        })
    }
}

fn check_duplicates(lines: &[Value]) -> Result<(), HubError> {
    let mut seen = HashSet::new();
    for (device_id, _) in lines.iter().map(item::ids) {
        if let Some(id) = device_id.filter(|id| !seen.insert(*id)) {
            return Err(HubError::new(
                ErrorCode::DeviceDefinedMultipleTimes,
                format!("DeviceDefinedMultipleTimes, device ID {id}"),
            ));
        }
    }
    Ok(())
}

impl Item {
    /// All of it or nothing: the twin is made ready before the identity is written.
    fn execute(&self, inner: &mut Inner, now: Timestamp) -> Result<Option<Notification>, HubError> {
        let identity = &self.identity;
        let exists = inner.state.record(identity).is_ok();
        let pre = match &self.action {
            Action::Create => &Precondition::None,
            Action::Update(pre) => pre,
            Action::CreateOrUpdate(pre) if exists => pre,
            Action::CreateOrUpdate(_) => &Precondition::None,
            Action::Delete(pre) => {
                match identity.module_id() {
                    None => inner.state.delete_device(identity.device_id(), pre)?,
                    Some(module_id) => inner.state.delete_module(identity.device_id(), module_id, pre)?,
                }
                return Ok(None);
            }
            Action::UpdateTwin(pre) => {
                let twin = inner.state.twin_mut(identity)?;
                pre.check(&twin.etag())?;
                return twin.patch(self.twin_body.as_ref().unwrap_or(&json!({})), now);
            }
        };

        let (twin, notification) = match (&self.twin_body, exists) {
            (None, _) => (None, None),
            (Some(body), false) => (Some(Twin::seeded(body, twin_created(identity, now), now)?), None),
            (Some(body), true) => {
                let mut twin = inner.state.twin(identity)?.clone();
                let notification = twin.patch(body, now)?;
                (Some(twin), notification)
            }
        };
        match identity.module_id() {
            None => inner.state.put_device(identity.device_id(), &self.identity_body, pre, now)?,
            Some(module_id) => {
                let device_id = identity.device_id();
                inner.state.put_module(device_id, module_id, &self.identity_body, pre, now)?;
            }
        }
        if let Some(twin) = twin {
            *inner.state.twin_mut(identity)? = twin;
        }
        Ok(notification)
    }
}

/// What the metadata of a new twin show (twins.md 3).
fn twin_created(identity: &Identity, now: Timestamp) -> Timestamp {
    if identity.module_id().is_some() { Timestamp::NEVER } else { now }
}
