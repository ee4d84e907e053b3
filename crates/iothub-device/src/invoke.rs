//! Direct methods that a module calls on its neighbours, through the gateway (rest.md 12.2).

use iothub_common::{
    DirectMethod, Error, ErrorKind, Identity, MethodResponse, Result, Subject, error::error_from_http,
};
use iothub_http::Answer;

use crate::{
    client::Client,
    http::{HubCall, from_json},
};

const WHAT: &str = "invoke method";
/// Names the caller: `{device}/{module}`.
const CALLER: &str = "x-ms-edge-moduleId";

pub(crate) async fn invoke(
    client: &Client,
    target: Identity,
    method: &DirectMethod,
) -> Result<MethodResponse> {
    let call = HubCall {
        what: WHAT,
        path: format!("{}/methods", target.http_path("twins")),
        headers: vec![(CALLER, client.identity().to_string())],
        body: method.json()?.as_str().to_owned().into(),
        limit: client.call_timeout().max(method.patience()),
    };
    let subject = Subject::from(&target);
    let refusal = |answer: &Answer| {
        let code = answer.header("iothub-errorcode");
        explained(error_from_http(answer.status.as_u16(), code, &answer.body, &subject))
    };
    let answer = client.http()?.post(&call, refusal).await?;
    from_json(WHAT, &answer).map_err(|error| error.with_may_have_been_applied(true))
}

fn explained(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unauthorized => error.context(
            "this module may not call methods: only an IoT Edge gateway lets modules do so, those of its own device, \
             and the hub itself never does; is GatewayHostName in the connection string?",
        ),
        _ => error,
    }
}
