//! What the hub answered to a bulk call, item by item (rest.md 3.5, shape C).

use std::collections::HashMap;

use iothub_common::error::error_from_http;
use iothub_common::{Error, ErrorKind, Result, Subject};
use serde::Deserialize;
use serde_json::Value;

use super::batches::Numbered;
use crate::http::Answer;

/// What came of one item of a bulk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkResult {
    /// The place of the item in the input, counted from 0.
    pub index: usize,
    /// The device.
    pub device_id: String,
    /// The module, where the item is about one.
    pub module_id: Option<String>,
    /// `Ok`, or why not: [`hub_code`](Error::hub_code) is the hub's own name for it, and
    /// [`may_have_been_applied`](Error::may_have_been_applied) tells whether it may have been done all the same.
    pub result: Result<()>,
    /// What the hub remarked on an item that succeeded, such as `DeviceRegisteredWithoutTwin`.
    pub warning: Option<String>,
}

impl BulkResult {
    pub(super) fn new(numbered: &Numbered, result: Result<()>) -> Self {
        Self {
            index: numbered.index,
            device_id: numbered.item.device_id.clone(),
            module_id: numbered.item.module_id.clone(),
            result,
            warning: None,
        }
    }

    fn subject(&self) -> Subject<'_> {
        match &self.module_id {
            Some(module) => Subject::Module { device: &self.device_id, module },
            None => Subject::Device(&self.device_id),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    is_successful: bool,
    #[serde(default)]
    errors: Option<Vec<ItemError>>,
    #[serde(default)]
    warnings: Option<Vec<ItemWarning>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemError {
    #[serde(default)]
    device_id: Option<String>,
    /// A number, or a name (rest.md 3.5).
    #[serde(default)]
    error_code: Value,
    #[serde(default)]
    error_status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemWarning {
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    warning_code: Value,
}

/// Whether an answer has a result for each item, though its status is one of failure.
pub(super) fn is_result(answer: &Answer) -> bool {
    answer.status.as_u16() == 400 && serde_json::from_slice::<Body>(&answer.body).is_ok()
}

/// A result for each item: nothing is silently lost, whatever the hub says.
pub(super) fn results(items: &[Numbered], answer: Result<Answer>) -> Vec<BulkResult> {
    let body = answer.and_then(|answer| {
        serde_json::from_slice::<Body>(&answer.body).map_err(|error| {
            Error::new(ErrorKind::Protocol, "the hub's answer to a bulk call could not be read")
                .with_source(error)
                .with_may_have_been_applied(true)
        })
    });
    match body {
        Ok(body) => of_body(items, body),
        // It was one call; what became of it became of all its items.
        Err(error) => items.iter().map(|item| BulkResult::new(item, Err(error.clone()))).collect(),
    }
}

fn of_body(items: &[Numbered], body: Body) -> Vec<BulkResult> {
    // No device is twice in a call, so the device tells the item.
    let mut errors: HashMap<String, ItemError> = HashMap::new();
    let mut nobodys = None;
    for error in body.errors.unwrap_or_default() {
        match &error.device_id {
            Some(id) if items.iter().any(|item| item.item.device_id == *id) => {
                errors.insert(id.clone(), error);
            }
            _ => nobodys = Some(error),
        }
    }
    let unexplained = nobodys.is_some() || (!body.is_successful && errors.is_empty());
    let warnings: HashMap<String, String> = body
        .warnings
        .unwrap_or_default()
        .into_iter()
        .filter_map(|warning| Some((warning.device_id?, text_of(&warning.warning_code))))
        .collect();

    let result = |item: &Numbered| {
        let mut result = BulkResult::new(item, Ok(()));
        let device_id = &item.item.device_id;
        match errors.get(device_id) {
            Some(error) => result.result = Err(item_error(error, &result.subject())),
            None if unexplained => result.result = Err(unexplained_error(nobodys.as_ref())),
            None => result.warning = warnings.get(device_id).cloned(),
        }
        result
    };
    items.iter().map(result).collect()
}

/// The error of one item, in the words of a call about it alone.
fn item_error(error: &ItemError, subject: &Subject<'_>) -> Error {
    let code = text_of(&error.error_code);
    // A code's first three digits are the status it would have alone (rest.md 2.3).
    let status = code.parse::<u32>().ok().and_then(|number| u16::try_from(number / 1000).ok());
    let body = serde_json::json!({ "Message": error.error_status });
    error_from_http(status.unwrap_or(400), Some(&code), body.to_string().as_bytes(), subject)
}

fn unexplained_error(nobodys: Option<&ItemError>) -> Error {
    let message = "the hub said that something of this call failed, but not which item; look at each of them";
    let error = Error::new(ErrorKind::Protocol, message);
    let error = match nobodys {
        Some(nobodys) => error
            .with_hub_code(text_of(&nobodys.error_code))
            .with_source(nobodys.error_status.clone().unwrap_or_default()),
        None => error,
    };
    error.with_may_have_been_applied(true)
}

fn text_of(code: &Value) -> String {
    match code {
        Value::String(name) => name.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use serde_json::json;

    use super::super::BulkItem;
    use super::*;

    fn items(ids: &[&str]) -> Vec<Numbered> {
        let item = |(index, id): (usize, &&str)| Numbered { index, item: BulkItem::create_device(*id) };
        ids.iter().enumerate().map(item).collect()
    }

    fn answer(status: u16, body: Value) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.to_string().into() }
    }

    fn codes(results: &[BulkResult]) -> Vec<Option<&str>> {
        results
            .iter()
            .map(|result| result.result.as_ref().err().map(|e| e.hub_code().unwrap_or("")))
            .collect()
    }

    #[test]
    fn numbers_and_names_are_the_same_codes() {
        let body = json!({ "isSuccessful": false, "errors": [
            { "deviceId": "a", "moduleId": null, "errorCode": 409001, "errorStatus": "ErrorCode:DeviceAlreadyExists;a" },
            { "deviceId": "c", "errorCode": "ArgumentInvalid", "errorStatus": "no such key" },
        ], "warnings": [] });
        let answer = answer(400, body);
        assert!(is_result(&answer));
        let results = results(&items(&["a", "b", "c"]), Ok(answer));
        assert_eq!(codes(&results), [Some("DeviceAlreadyExists"), None, Some("ArgumentInvalid")]);
        let error = results[0].result.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::AlreadyExists, Some(409)));
        assert!(error.to_string().contains("`a`"), "{error}");
        assert!(!error.may_have_been_applied());
        assert!(results[2].result.as_ref().unwrap_err().to_string().contains("no such key"));
        assert_eq!(results.iter().map(|result| result.index).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn warnings_are_kept() {
        let body = json!({ "isSuccessful": true, "errors": [], "warnings": [
            { "deviceId": "a", "warningCode": "DeviceRegisteredWithoutTwin", "warningStatus": "x" }] });
        let results = results(&items(&["a"]), Ok(answer(200, body)));
        assert_eq!(results[0].warning.as_deref(), Some("DeviceRegisteredWithoutTwin"));
        results[0].result.as_ref().unwrap();
    }

    #[test]
    fn a_failure_of_nobody_is_a_doubt_about_everybody_else() {
        for errors in [json!([]), json!(null), json!([{ "deviceId": "z", "errorCode": 500001 }])] {
            let body = json!({ "isSuccessful": false, "errors": errors });
            let results = results(&items(&["a", "b"]), Ok(answer(400, body)));
            for result in results {
                assert!(result.result.unwrap_err().may_have_been_applied());
            }
        }
        let body = json!({ "isSuccessful": false, "errors": [
            { "deviceId": "a", "errorCode": 409001 }, { "deviceId": null, "errorCode": 500001 }] });
        let results = results(&items(&["a", "b"]), Ok(answer(400, body)));
        assert_eq!(codes(&results), [Some("DeviceAlreadyExists"), Some("500001")]);
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_a_doubt_about_all() {
        let results = results(&items(&["a", "b"]), Ok(answer(200, json!([]))));
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(|r| r.result.as_ref().unwrap_err().may_have_been_applied()));
    }

    #[test]
    fn other_refusals_are_no_results() {
        assert!(!is_result(&answer(400, json!({ "Message": "ErrorCode:DeviceDefinedMultipleTimes;a" }))));
        assert!(!is_result(&answer(500, json!({ "isSuccessful": false, "errors": [] }))));
    }
}
