//! Automatic configurations, and content for one edge device (rest.md 9).

use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::call::Call;

pub(super) async fn list(call: Call) -> Outcome {
    let top = call.query.get("top").and_then(|top| top.parse().ok()).unwrap_or_default();
    Ok(Answer::json(&Value::Array(call.hub.list_configurations(top))))
}

pub(super) async fn get(call: Call) -> Outcome {
    Ok(Answer::entity(&call.hub.get_configuration(call.id())?))
}

pub(super) async fn put(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    Ok(Answer::entity(&call.hub.put_configuration(call.id(), &body, call.precondition())?))
}

pub(super) async fn delete(call: Call) -> Outcome {
    call.hub.delete_configuration(call.id(), call.precondition())?;
    Ok(Answer::no_content())
}

pub(super) async fn test_queries(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    Ok(Answer::json(&call.hub.test_configuration_queries(&body)?))
}

pub(super) async fn apply(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    call.hub.apply_configuration_content(call.device(), &body)?;
    Ok(Answer::no_content())
}
