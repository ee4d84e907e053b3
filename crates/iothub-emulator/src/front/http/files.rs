//! File uploads of devices: start and finish (rest.md 11.3). What is between the two goes to the storage.

use serde::Deserialize;

use super::answer::{self, Answer, Outcome};
use super::call::Call;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    blob_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finish {
    correlation_id: Option<String>,
    is_success: Option<bool>,
}

/// Opens an upload.
pub(super) async fn start(call: Call) -> Outcome {
    let start: Start = call.body_as(answer::format_error)?;
    let name = start.blob_name.unwrap_or_default();
    Ok(Answer::json(&call.hub.start_upload(call.device(), &name)?))
}

/// Ends it. The correlation id is in the path or in the body, or in both.
pub(super) async fn finish(call: Call) -> Outcome {
    let finish: Finish = call.body_as(answer::format_error)?;
    let id = match call.params.get("correlation") {
        "" => finish.correlation_id.unwrap_or_default(),
        id => id.to_owned(),
    };
    let Some(is_success) = finish.is_success else {
        return Err(answer::argument_invalid("isSuccess must be true or false"));
    };
    call.hub.finish_upload(call.device(), &id, is_success)?;
    Ok(Answer::no_content())
}
