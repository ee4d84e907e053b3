//! Module identities (rest.md 4).

use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::call::Call;

pub(super) async fn list(call: Call) -> Outcome {
    Ok(Answer::json(&Value::Array(call.hub.list_modules(call.device())?)))
}

pub(super) async fn get(call: Call) -> Outcome {
    Ok(Answer::entity(&call.hub.get_module(call.device(), call.module())?))
}

pub(super) async fn put(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    let module = call.hub.put_module(call.device(), call.module(), &body, call.precondition())?;
    Ok(Answer::entity(&module))
}

pub(super) async fn delete(call: Call) -> Outcome {
    call.hub.delete_module(call.device(), call.module(), call.precondition())?;
    Ok(Answer::no_content())
}
