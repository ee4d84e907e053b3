//! What a hub lets modules do when it plays the gateway of an IoT Edge device: call methods (rest.md 12.2).

use http::HeaderMap;
use http::header::HeaderName;
use iothub_common::Identity;

use super::access;
use super::answer;
use super::call::header;
use crate::hub::{Grant, Hub, HubError, Rights, Who};

/// Names the caller, `{device}/{module}`, in plain.
const CALLER: HeaderName = HeaderName::from_static("x-ms-edge-moduleid");

/// Services call methods by their right, modules of the gateway's device as who they are.
pub(super) fn authorize_method(
    hub: &Hub,
    headers: &HeaderMap,
    segments: &[String],
) -> Result<Grant, HubError> {
    let caller = header(headers, &CALLER);
    let grant = access::grant(hub, headers)?;
    let (Who::Identity(_), Some(gateway)) = (&grant.who, hub.gateway_of()) else {
        return access::authorize(hub, headers, segments, Rights::SERVICE_CONNECT);
    };
    let caller = caller.ok_or_else(|| answer::bad_request("the header x-ms-edge-moduleId is missing"))?;
    let caller = caller
        .split_once('/')
        .and_then(|(device, module)| Identity::module(device, module).ok())
        .ok_or_else(|| {
            answer::bad_request("the header x-ms-edge-moduleId must be {device id}/{module id}")
        })?;
    grant.require_identity(&caller)?;
    if caller.device_id() != gateway {
        let text = format!("Unauthorized: {caller} is no module of {gateway}, whose gateway this is");
        return Err(HubError::unauthorized(text));
    }
    Ok(grant)
}
