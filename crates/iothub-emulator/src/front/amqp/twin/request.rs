//! What a twin request asks for, and what it gets (amqp.md 3.8, twins.md 2).

use bytes::Bytes;
use iothub_amqp::message::{Body, Message, annotations};
use iothub_amqp::serde_amqp::Value as AmqpValue;
use iothub_amqp::types::messaging::{MessageId, Properties};
use serde::Deserialize;
use serde_json::Value;

use crate::hub::{Connected, ErrorCode, Hub, HubError};

/// The status of a successful PATCH: 200 in a trace of the real hub, 204 over MQTT; clients take both
/// (amqp.md 12).
const PATCHED: u16 = 200;

const REPORTED: &str = "/properties/reported";
const DESIRED: &str = "/properties/desired";
const NOTIFICATIONS: &str = "/notifications/twin/properties/desired";

/// What is answered.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    status: u16,
    version: Option<u64>,
    body: Bytes,
}

/// Does what a request asks for.
pub(super) fn perform(request: Message, hub: &Hub, connected: &Connected) -> Answer {
    let done = match request.annotation_text("operation") {
        Some("GET") => get(hub, connected),
        Some("PATCH") => patch(request, hub, connected),
        Some("PUT") => notifications(&request).map(|()| {
            connected.subscribe_desired();
            Answer::empty(200, None)
        }),
        Some("DELETE") => notifications(&request).map(|()| {
            connected.unsubscribe_desired();
            Answer::empty(200, None)
        }),
        other => Err(invalid(format!(
            "The twin operation '{}' is unknown; there are GET, PATCH, PUT and DELETE.",
            other.unwrap_or_default()
        ))),
    };
    done.unwrap_or_else(|error| Answer {
        status: error.status,
        version: None,
        // Node parses the body of every error (amqp.md 3.8).
        body: error.device_body(hub.now()),
    })
}

fn get(hub: &Hub, connected: &Connected) -> Result<Answer, HubError> {
    let body = hub.device_twin(connected.identity())?;
    hub.tally().twin_gets.add(1);
    Ok(Answer { status: 200, version: desired_version(&body), body })
}

fn patch(request: Message, hub: &Hub, connected: &Connected) -> Result<Answer, HubError> {
    require_resource(&request, REPORTED)?;
    let body = request.body.into_bytes().unwrap_or_default();
    let patch: Value = serde_json::from_slice(&body).map_err(|error| {
        HubError::new(ErrorCode::IotHubFormatError, format!("The reported properties are no JSON: {error}"))
    })?;
    let version = hub.report(connected.identity(), &patch)?;
    hub.tally().reported_patches.add(1);
    Ok(Answer::empty(PATCHED, Some(version)))
}

fn notifications(request: &Message) -> Result<(), HubError> {
    require_resource(request, NOTIFICATIONS)
}

fn require_resource(request: &Message, expected: &str) -> Result<(), HubError> {
    let resource = request.annotation_text("resource").unwrap_or_default();
    if resource.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(invalid(format!("The twin resource '{resource}' is unknown here, expected is '{expected}'.")))
}

fn invalid(text: String) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}

/// The `$version` that goes beside a twin. The reference shows that there is one, not which: that of the
/// desired properties is what a client compares notifications with.
fn desired_version(twin: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Twin {
        desired: Desired,
    }
    #[derive(Deserialize)]
    struct Desired {
        #[serde(rename = "$version")]
        version: u64,
    }
    serde_json::from_slice(twin).ok().map(|twin: Twin| twin.desired.version)
}

impl Answer {
    fn empty(status: u16, version: Option<u64>) -> Self {
        Self { status, version, body: Bytes::new() }
    }

    /// The message: `status` int, `version` long, the id with the type it came with (amqp.md 3.8).
    pub(super) fn to_message(&self, id: MessageId) -> Message {
        let status = ("status", AmqpValue::Int(i32::from(self.status)));
        let version = self.version.map(|version| ("version", long(version)));
        Message {
            properties: Some(Properties { correlation_id: Some(id), ..Properties::default() }),
            annotations: Some(annotations([status].into_iter().chain(version))),
            application_properties: None,
            // Java and C ask for a data section, be it empty (amqp.md 4.3).
            body: Body::Data(self.body.clone()),
        }
    }
}

/// A change of desired properties. Without a correlation id: that is how clients tell it from an answer.
pub(super) fn notification(version: u64, body: Bytes) -> Message {
    let resource = ("resource", AmqpValue::String(DESIRED.to_owned()));
    Message {
        properties: None,
        annotations: Some(annotations([resource, ("version", long(version))])),
        application_properties: None,
        body: Body::Data(body),
    }
}

/// The id to answer with. Who sends none gets its message-id back, as AMQP has it.
pub(super) fn reply_id(request: &Message) -> Option<MessageId> {
    let properties = request.properties.as_ref()?;
    properties.correlation_id.clone().or_else(|| properties.message_id.clone())
}

fn long(version: u64) -> AmqpValue {
    AmqpValue::Long(i64::try_from(version).unwrap_or(i64::MAX))
}
