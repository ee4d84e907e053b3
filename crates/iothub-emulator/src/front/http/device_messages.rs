//! Messages from and to devices over HTTP (rest.md 11.1, 11.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{self, Answer, Outcome};
use super::call::{Call, header};
use crate::hub::{ConnectionAuth, HubError, Lane, Locked, Message, Timestamp, Verdict};

const BATCH: &str = "application/vnd.microsoft.iothub.json";
/// Messages of a batch (rest.md 11.1).
const MAX_BATCH: usize = 500;
/// In front of the names of the user's properties.
const APP: &str = "iothub-app-";

/// Takes one message, or a batch.
pub(super) async fn send(call: Call) -> Outcome {
    let identity = call.identity()?;
    let is_batch = header(&call.headers, &CONTENT_TYPE)
        .is_some_and(|value| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(BATCH));
    let messages = if is_batch { batch(&call.body)? } else { vec![single(&call)] };
    let auth = call.grant.as_ref().map_or_else(|| ConnectionAuth::x509(&identity), ConnectionAuth::of);
    call.hub.publish(&identity, auth, messages)?;
    Ok(Answer::no_content())
}

fn single(call: &Call) -> Message {
    let mut message = Message { body: call.body.clone(), ..Message::default() };
    for (name, value) in &call.headers {
        if let Ok(value) = value.to_str() {
            set(&mut message, name.as_str(), value);
        }
    }
    message
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    body: String,
    /// Absent is true; C sends text with false.
    base64_encoded: Option<bool>,
    properties: Option<Map<String, Value>>,
}

fn batch(body: &Bytes) -> Result<Vec<Message>, HubError> {
    let items: Vec<Item> = serde_json::from_slice(body)
        .map_err(|error| answer::format_error(format!("the body is no batch of messages: {error}")))?;
    if items.len() > MAX_BATCH {
        let text = format!("the batch has {} messages, at most {MAX_BATCH} are allowed", items.len());
        return Err(answer::argument_invalid(text));
    }
    items.into_iter().map(Item::into_message).collect()
}

impl Item {
    fn into_message(self) -> Result<Message, HubError> {
        let body = if self.base64_encoded.unwrap_or(true) {
            let decoded = STANDARD.decode(self.body);
            decoded.map_err(|_| answer::argument_invalid("a body of the batch is not base64"))?
        } else {
            self.body.into_bytes()
        };
        let mut message = Message { body: body.into(), ..Message::default() };
        for (name, value) in self.properties.unwrap_or_default() {
            match value {
                Value::String(value) => set(&mut message, &name.to_ascii_lowercase(), &value),
                value => set(&mut message, &name.to_ascii_lowercase(), &value.to_string()),
            }
        }
        Ok(message)
    }
}

/// What a header, or a property in a batch, says about a message: rest.md 11.1. `iothub-to` is the path.
fn set(message: &mut Message, name: &str, value: &str) {
    let text = || value.to_owned();
    match name {
        "iothub-messageid" => message.message_id = Some(text()),
        "iothub-correlationid" => message.correlation_id = Some(text()),
        "iothub-userid" => message.user_id = Some(text().into()),
        "iothub-contenttype" => message.content_type = Some(text()),
        "iothub-contentencoding" => message.content_encoding = Some(text()),
        "iothub-creationtimeutc" => message.properties.push(("iothub-creation-time-utc".to_owned(), text())),
        "iothub-messageschema" => message.properties.push(("iothub-message-schema".to_owned(), text())),
        "iothub-interface-id" => message.system.push(("iothub-interface-id".into(), text())),
        "dt-subject" => message.system.push(("dt-subject".into(), text())),
        name => {
            if let Some(name) = name.strip_prefix(APP) {
                message.properties.push((name.to_owned(), text()));
            }
        }
    }
}

/// The next cloud-to-device message, locked; 204 when there is none.
pub(super) async fn receive(call: Call) -> Outcome {
    let identity = call.identity()?;
    Ok(match call.hub.receive(&identity, Lane::Messages)? {
        None => Answer::no_content(),
        Some(locked) => delivery(&locked, &format!("{}/messages/devicebound", identity.http_path("devices"))),
    })
}

fn delivery(locked: &Locked<Message>, to: &str) -> Answer {
    let message = &locked.item;
    let answer = Answer::bytes(message.body.clone())
        .with_etag(&locked.lock.to_string())
        .with_header("iothub-sequencenumber", &locked.sequence.to_string())
        .with_header("iothub-enqueuedtime", &Timestamp::from(locked.enqueued_at).for_twin())
        .with_header("iothub-deliverycount", &locked.delivery_count.to_string())
        .with_header("iothub-expiry", &Timestamp::from(locked.expires_at).for_twin())
        .with_header("iothub-ack", message.ack.text())
        .with_header("iothub-to", to);
    let user_id = message.user_id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned());
    let texts = [
        ("iothub-messageid", &message.message_id),
        ("iothub-correlationid", &message.correlation_id),
        ("iothub-userid", &user_id),
        ("iothub-contenttype", &message.content_type),
        ("iothub-contentencoding", &message.content_encoding),
    ];
    let answer = texts.into_iter().fold(answer, |answer, (name, value)| match value {
        Some(value) => answer.with_header(name, value),
        None => answer,
    });
    message
        .properties
        .iter()
        .fold(answer, |answer, (name, value)| answer.with_header(&format!("{APP}{name}"), value))
}

/// `?reject`, with or without a value, is a rejection (rest.md 11.2).
pub(super) async fn complete(call: Call) -> Outcome {
    let verdict = if call.query.get("reject").is_some() { Verdict::Reject } else { Verdict::Complete };
    settle(&call, verdict)
}

pub(super) async fn abandon(call: Call) -> Outcome {
    settle(&call, Verdict::Abandon)
}

/// The lock in the path counts, `If-Match` does not (rest.md 11.2).
fn settle(call: &Call, verdict: Verdict) -> Outcome {
    call.hub.settle(&call.identity()?, Lane::Messages, call.lock()?, verdict)?;
    Ok(Answer::no_content())
}

/// Drops all messages that wait for a device (rest.md 3.1).
pub(super) async fn purge(call: Call) -> Outcome {
    let identity = call.identity()?;
    let purged = call.hub.purge_messages(&identity)?;
    Ok(Answer::json(&serde_json::json!({
        "totalMessagesPurged": purged,
        "deviceId": identity.device_id(),
        "moduleId": identity.module_id(),
    })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_base64_unless_they_say_otherwise() {
        let body = r#"[
            {"body":"aGVsbG8=","properties":{"iothub-app-Temp":"20","IoTHub-MessageId":"1","iothub-app-n":5}},
            {"body":"plain","base64Encoded":false},
            {"body":"aGk=","base64Encoded":true,"properties":{}}
        ]"#;
        let messages = batch(&Bytes::from(body)).unwrap();
        let bodies: Vec<_> = messages.iter().map(|message| &message.body[..]).collect();
        assert_eq!(bodies, [&b"hello"[..], b"plain", b"hi"]);
        assert_eq!(messages[0].message_id.as_deref(), Some("1"));
        let properties = [("temp", "20"), ("n", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(messages[0].properties, properties);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let many = format!("[{}]", vec![r#"{"body":""}"#; 501].join(","));
        for (body, code) in
            [("{}", 400_006), ("[{}]", 400_006), (r#"[{"body":"*"}]"#, 400_004), (many.as_str(), 400_004)]
        {
            let error = batch(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
            assert_eq!(error.code, code, "{}", &body[..body.len().min(40)]);
        }
    }
}
