//! Direct methods, as services call them (rest.md 7).

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::hub::{ErrorCode, HubError, MethodRequest};

/// Answers when the device has, so after the two time limits of the request at the latest. Refusals have a shape
/// of their own (rest.md 2.1).
pub(super) async fn invoke(call: Call) -> Outcome {
    let mut connect_timeout = Duration::ZERO;
    let invoked = async {
        let target = call.identity()?;
        let request = MethodRequest::parse(&call.body)?;
        connect_timeout = request.connect_timeout;
        call.hub.invoke_method(&target, request).await
    };
    Ok(match invoked.await {
        Ok(response) => Answer::json_text(response.to_json()),
        Err(error) => Answer::nested_refusal(&error, &info(&error, connect_timeout), call.hub.now()),
    })
}

/// How long the hub waited for the device, `hh:mm:ss`.
pub(super) fn info(error: &HubError, connect_timeout: Duration) -> Value {
    if error.code != ErrorCode::DeviceNotOnline.number() {
        return json!({});
    }
    let seconds = connect_timeout.as_secs();
    json!({ "timeout": format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60) })
}
