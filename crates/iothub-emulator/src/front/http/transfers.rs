//! Import and export jobs (rest.md 8.2).

use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::call::Call;

pub(super) async fn create(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    Ok(Answer::json(&call.hub.create_transfer(&body)?))
}

pub(super) async fn list(call: Call) -> Outcome {
    Ok(Answer::json(&Value::Array(call.hub.list_transfers())))
}

pub(super) async fn get(call: Call) -> Outcome {
    Ok(Answer::json(&call.hub.get_transfer(call.id())?))
}

/// C# sends an `If-Match` with the id of the job; it means nothing.
pub(super) async fn cancel(call: Call) -> Outcome {
    call.hub.cancel_transfer(call.id())?;
    Ok(Answer::no_content())
}
