//! What the hub says when it refuses, in any of the shapes it uses.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::hub_codes::{self, Code};

/// How much of a text that is not the hub's (a proxy's page, say) is kept, in characters.
const MOST_TEXT: usize = 600;

/// The content of an error body or description.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// A name or a number, as the hub wrote it.
    pub(super) code: Option<String>,
    pub(super) text: String,
    pub(super) tracking_id: Option<String>,
}

/// Nobody waits longer because a hub says so; adding it to a time of day must not overflow either.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

impl Answer {
    /// Reads shape A, shape B, the flat shape that devices get, or plain text (rest.md 2.1, twins.md 1.4).
    pub(super) fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(json) => Self::from_json(&json),
            Err(_) => Self { text: tidy(&String::from_utf8_lossy(body)), ..Self::default() },
        }
    }

    fn from_json(json: &Value) -> Self {
        let member = |name: &str| {
            let found = json.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value)
        };
        let text_of = |name: &str| member(name).and_then(Value::as_str);
        let message = match json {
            // EDGE's descriptions are JSON strings (amqp.md 6).
            Value::String(text) => text,
            _ => text_of("message").unwrap_or_default(),
        };
        // Shape B: the message is JSON once more. Only one level: the hub never nests deeper.
        let mut answer = match serde_json::from_str::<Value>(message) {
            Ok(inner @ Value::Object(_)) if !json.is_string() => Self::flat(&inner),
            _ => Self::flat(json),
        };
        if answer.text.is_empty() && answer.code.is_none() {
            (answer.code, answer.text) = split_shape_a(message);
        }
        if answer.tracking_id.is_none() {
            answer.tracking_id = text_of("exceptionMessage").and_then(tracking_id);
        }
        answer
    }

    /// `{"errorCode":404001,"trackingId":"…","message":"…"}`; `message` may itself be of shape A.
    fn flat(json: &Value) -> Self {
        let code = match &json["errorCode"] {
            Value::Number(number) => Some(number.to_string()),
            Value::String(name) if !name.is_empty() => Some(name.clone()),
            _ => None,
        };
        let (inner_code, text) = split_shape_a(json["message"].as_str().unwrap_or_default());
        Self {
            code: code.or(inner_code),
            text,
            tracking_id: json["trackingId"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
        }
    }

    pub(super) fn known_code(&self) -> Option<&'static Code> {
        let code = self.code.as_deref()?;
        known(code)
    }

    /// `Wait 10 seconds and try again` is all the hub says about when (rest.md 2.1).
    pub(super) fn wait(&self) -> Option<Duration> {
        let rest = self.text.split_once("Wait ")?.1;
        let (seconds, rest) = rest.split_once(' ')?;
        let wait = seconds.parse().ok().map(Duration::from_secs)?;
        rest.starts_with("seconds").then_some(wait.min(LONGEST_WAIT))
    }
}

/// The row of a name, or of a number as text.
pub(super) fn known(code: &str) -> Option<&'static Code> {
    match code.trim().parse() {
        Ok(number) => hub_codes::by_number(number),
        Err(_) => hub_codes::by_name(code.trim()),
    }
}

/// `ErrorCode:{name};{text}`. The text may hold further `;`.
fn split_shape_a(message: &str) -> (Option<String>, String) {
    let Some(rest) = message.strip_prefix("ErrorCode:") else { return (None, tidy(message)) };
    let (name, text) = rest.split_once(';').unwrap_or((rest, ""));
    (Some(name.trim().to_owned()), tidy(text))
}

/// `Tracking ID:{hex}-G:{n}-TimeStamp:{time}`.
fn tracking_id(text: &str) -> Option<String> {
    let id = text.strip_prefix("Tracking ID:")?.trim();
    (!id.is_empty()).then(|| tidy(id))
}

/// One line of limited length, for messages and logs.
fn tidy(text: &str) -> String {
    let line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_TEXT).collect();
    line.trim_end().to_owned()
}

/// The hub's own words, as the source of our error.
#[derive(Debug)]
pub(super) struct HubSaid(pub(super) String);

impl fmt::Display for HubSaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub said: {}", self.0)
    }
}

impl std::error::Error for HubSaid {}
