//! Device identities (rest.md 3).

use http::StatusCode;
use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::call::Call;
use crate::hub::ErrorCode;

/// The most one list holds; other values of `top` count as this (rest.md 3.1).
const LIST_LIMIT: usize = 1000;

pub(super) async fn list(call: Call) -> Outcome {
    let top = call.query.get("top").and_then(|top| top.parse().ok());
    let top = top.filter(|top| (1..=LIST_LIMIT).contains(top)).unwrap_or(LIST_LIMIT);
    Ok(Answer::json(&Value::Array(call.hub.list_devices(top))))
}

/// Bulk (rest.md 3.5). The result of one that failed in part comes with 400, and C# takes it as a result only with
/// a header spelled in a third way.
pub(super) async fn bulk(call: Call) -> Outcome {
    let result = call.hub.bulk(&call.json(answer::bad_request)?)?;
    let answer = Answer::json(&result.to_json());
    if result.errors.is_empty() {
        return Ok(answer);
    }
    let name = ErrorCode::BulkRegistryOperationFailure.name();
    let answer = answer.with_header("iothub-errorcode", name).with_header("iothuberrorcode", name);
    Ok(answer.with_status(StatusCode::BAD_REQUEST))
}

pub(super) async fn get(call: Call) -> Outcome {
    Ok(Answer::entity(&call.hub.get_device(call.device())?))
}

pub(super) async fn put(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    Ok(Answer::entity(&call.hub.put_device(call.device(), &body, call.precondition())?))
}

pub(super) async fn delete(call: Call) -> Outcome {
    call.hub.delete_device(call.device(), call.precondition())?;
    Ok(Answer::no_content())
}
