//! Device identities (rest.md 3).

use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::call::Call;

/// The most one list holds; other values of `top` count as this (rest.md 3.1).
const LIST_LIMIT: usize = 1000;

pub(super) async fn list(call: Call) -> Outcome {
    let top = call.query.get("top").and_then(|top| top.parse().ok());
    let top = top.filter(|top| (1..=LIST_LIMIT).contains(top)).unwrap_or(LIST_LIMIT);
    Ok(Answer::json(&Value::Array(call.hub.list_devices(top))))
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
