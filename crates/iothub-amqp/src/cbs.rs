//! Put-token: how a client shows its token (amqp.md 2).

use fe2o3_amqp_types::{
    messaging::{MessageId, Properties},
    primitives::SimpleValue,
};
use serde_amqp::Value;

use crate::message::{Body, Message, application_properties};

/// The node that takes tokens.
pub const ADDRESS: &str = "$cbs";
/// The token type of every SDK but C# (amqp.md 2.2).
const SAS_TYPE: &str = "servicebus.windows.net:sastoken";
/// The token type of Microsoft Entra ID, in the spelling of C# and Java.
const BEARER_TYPE: &str = "Bearer";

/// The request that presents `token` for `audience`: `SharedAccessSignature …` or `Bearer …`.
pub fn put_token(id: &str, audience: &str, token: &str) -> Message {
    let text = |s: &str| SimpleValue::String(s.to_owned());
    let token_type = if token.starts_with("Bearer ") { BEARER_TYPE } else { SAS_TYPE };
    Message {
        properties: Some(
            Properties::builder()
                .message_id(id.to_owned())
                .to(ADDRESS.to_owned())
                .reply_to("cbs".to_owned())
                .build(),
        ),
        annotations: None,
        application_properties: Some(application_properties([
            ("operation", text("put-token")),
            ("type", text(token_type)),
            ("name", text(audience)),
        ])),
        body: Body::Value(Value::String(token.to_owned())),
    }
}

/// A put-token request, as a hub reads it.
#[derive(Debug)]
pub struct PutToken {
    /// Goes back as correlation id with its type unchanged.
    pub message_id: Option<MessageId>,
    /// The token; `None` when the request is not a put-token with a text body.
    pub token: Option<String>,
}

impl PutToken {
    /// Reads a request. What is authenticated is decided from the token, not from `name` (amqp.md 2.2).
    pub fn from_message(message: Message) -> Self {
        let put = message.application_text("operation") == Some("put-token");
        let named = message.application_text("name").is_some_and(|name| !name.is_empty());
        let token = match message.body {
            Body::Value(Value::String(token)) if put && named => Some(token),
            _ => None,
        };
        Self { message_id: message.properties.and_then(|p| p.message_id), token }
    }
}

/// The answer to a put-token.
pub fn reply(to: Option<MessageId>, status: i32, description: &str) -> Message {
    Message {
        properties: Some(Properties { correlation_id: to, ..Properties::default() }),
        annotations: None,
        // `status-code` must be an int: C#, Java and C read nothing else (amqp.md 2.4).
        application_properties: Some(application_properties([
            ("status-code", SimpleValue::Int(status)),
            ("status-description", SimpleValue::String(description.to_owned())),
        ])),
        body: Body::Empty,
    }
}

/// What a hub answered: the status and its description.
pub fn status(reply: &Message) -> (i32, String) {
    let code = match reply.application_property("status-code") {
        Some(SimpleValue::Int(code)) => *code,
        Some(SimpleValue::Uint(code)) => i32::try_from(*code).unwrap_or(500),
        Some(SimpleValue::Long(code)) => i32::try_from(*code).unwrap_or(500),
        _ => 500,
    };
    let description = reply.application_text("status-description").unwrap_or_default().to_owned();
    (code, description)
}
