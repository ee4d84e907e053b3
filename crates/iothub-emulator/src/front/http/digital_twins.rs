//! Digital twins and their commands (rest.md 10).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use iothub_common::identity::escape_id;

use super::answer::{self, Answer, Outcome};
use super::call::Call;
use super::methods;
use crate::hub::{ErrorCode, HubError, MethodRequest};

/// Seconds; the same as for methods.
const DEFAULT_RESPONSE_TIMEOUT: u64 = 30;

pub(super) async fn get(call: Call) -> Outcome {
    let twin = call.hub.get_digital_twin(&call.identity()?)?;
    Ok(Answer::json(&twin.document).with_etag(&twin.etag))
}

/// 202, as the change reaches the device later (rest.md 1.7).
pub(super) async fn patch(call: Call) -> Outcome {
    let patch = call.json(answer::bad_request)?;
    let etag = call.hub.patch_digital_twin(&call.identity()?, &patch, call.precondition())?;
    let location = format!("https://{}/digitaltwins/{}", call.hub.host_name(), escape_id(call.device()));
    Ok(Answer::no_content()
        .with_status(StatusCode::ACCEPTED)
        .with_etag(&etag)
        .with_header("location", &location))
}

/// A command is a method called `{name}`, of a component `{component}*{name}`. The answer's body is the payload
/// alone, the device's status is in a header.
pub(super) async fn command(call: Call) -> Outcome {
    let mut connect_timeout = Duration::ZERO;
    let invoked = async {
        let target = call.identity()?;
        let request = request(&call)?;
        connect_timeout = request.connect_timeout;
        call.hub.invoke_method(&target, request).await
    };
    Ok(match invoked.await {
        Ok(response) => Answer::json_text(response.payload)
            .with_header("x-ms-command-statuscode", &response.status.to_string()),
        Err(error) => Answer::nested_refusal(&error, &methods::info(&error, connect_timeout), call.hub.now()),
    })
}

fn request(call: &Call) -> Result<MethodRequest, HubError> {
    let payload = if call.body.is_empty() { Bytes::from_static(b"null") } else { call.body.clone() };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        let text = format!("the payload is not JSON: {error}");
        return Err(HubError::new(ErrorCode::ArgumentInvalid, text));
    }
    let (component, name) = (call.param("c"), call.param("name"));
    Ok(MethodRequest {
        name: if component.is_empty() { name.to_owned() } else { format!("{component}*{name}") },
        payload,
        response_timeout: seconds(call, "responseTimeoutInSeconds", DEFAULT_RESPONSE_TIMEOUT)?,
        connect_timeout: seconds(call, "connectTimeoutInSeconds", 0)?,
    })
}

fn seconds(call: &Call, name: &str, default: u64) -> Result<Duration, HubError> {
    match call.query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(Duration::from_secs(default)),
        Some(text) => text.parse().map(Duration::from_secs).map_err(|_| {
            answer::argument_invalid(format!("{name} must be a whole number of seconds, not '{text}'"))
        }),
    }
}
