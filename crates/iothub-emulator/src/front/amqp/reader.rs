//! Readers of the built-in endpoint: where they begin, and what an event looks like (amqp.md 5.7).

use iothub_amqp::message::Message;
use iothub_amqp::proto::{Connection, LinkId, Outgoing};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::messaging::Source;

use super::convert;
use super::refusal::Refusal;
use crate::hub::{Event, EventReader, Start, Stolen};

/// The filter in a source.
const SELECTOR: &str = "apache.org:selector-filter:string";
/// Events taken from the log at a time.
const AT_A_TIME: usize = 100;

/// Sends what there is, as far as there is credit.
pub(super) fn pump(reader: &mut EventReader, engine: &mut Connection, link: LinkId) -> Result<(), Stolen> {
    loop {
        let room = (engine.credit(link) as usize).saturating_sub(engine.queued(link));
        let events = reader.read(room.min(AT_A_TIME))?;
        if events.is_empty() {
            return Ok(());
        }
        for event in events {
            let payload = write(&event).encode();
            // Nobody asks what became of it: the log stays as it is.
            let outgoing = Outgoing { payload, format: 0, tag: None, settled: false, token: u64::MAX };
            if !engine.send(link, outgoing) {
                return Ok(());
            }
        }
    }
}

fn write(event: &Event) -> Message {
    let text = |text: &str| Value::String(text.to_owned());
    let enqueued_at = || Value::Timestamp(convert::timestamp(event.enqueued_at));
    let module = event.identity.module_id().map(|id| ("iothub-connection-module-id", text(id)));
    let annotations = [
        ("x-opt-sequence-number", Value::Long(event.sequence)),
        ("x-opt-offset", Value::String(event.offset.to_string())),
        ("x-opt-enqueued-time", enqueued_at()),
        ("iothub-connection-device-id", text(event.identity.device_id())),
        ("iothub-connection-auth-generation-id", Value::String(event.generation.to_string())),
        ("iothub-connection-auth-method", Value::String(event.auth.to_json())),
        ("iothub-enqueuedtime", enqueued_at()),
        ("iothub-message-source", text("Telemetry")),
    ];
    let mut message = convert::write(&event.message);
    message.annotations = Some(convert::annotations(annotations.into_iter().chain(module), &event.message));
    message
}

/// Where a reader wants to begin. Without a filter that is at the beginning.
pub(super) fn start_of(source: Option<&Source>) -> Result<Start, Refusal> {
    let filters = source.and_then(|source| source.filter.as_ref());
    let Some(filter) = filters.and_then(|filters| {
        filters.iter().find(|(name, _)| name.as_str() == SELECTOR).map(|(_, filter)| filter)
    }) else {
        return Ok(Start::Earliest);
    };
    let expression = match filter {
        Value::Described(described) => &described.value,
        plain => plain,
    };
    match expression {
        Value::String(expression) => parse(expression).ok_or_else(|| {
            Refusal::invalid(format!(
                "The filter '{expression}' is not understood: it must compare (with > or >=) \
                 amqp.annotation.x-opt-offset, x-opt-sequence-number or x-opt-enqueued-time."
            ))
        }),
        _ => Err(Refusal::invalid("The selector filter must be a string.")),
    }
}

/// Like `amqp.annotation.x-opt-sequence-number > '2995'`; some clients leave the quotes out.
fn parse(expression: &str) -> Option<Start> {
    let expression = expression.trim();
    let at = expression.find('>')?;
    let (name, rest) = expression.split_at(at);
    let rest = &rest[1..];
    let (inclusive, value) = match rest.strip_prefix('=') {
        Some(value) => (true, value),
        None => (false, rest),
    };
    let value = value.trim();
    let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    match name.trim().to_ascii_lowercase().as_str() {
        "amqp.annotation.x-opt-offset" if value.eq_ignore_ascii_case("@latest") => Some(Start::Latest),
        "amqp.annotation.x-opt-offset" => Some(Start::Offset { offset: value.parse().ok()?, inclusive }),
        "amqp.annotation.x-opt-sequence-number" => {
            Some(Start::Sequence { sequence: value.parse().ok()?, inclusive })
        }
        "amqp.annotation.x-opt-enqueued-time" | "amqp.annotation.x-opt-enqueuedtimeutc" => {
            let millis: i64 = value.parse().ok()?;
            // Times are whole milliseconds.
            let millis = if inclusive { millis.saturating_sub(1) } else { millis };
            Some(Start::EnqueuedAfter(convert::time(millis.into())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn every_start_that_clients_write_is_understood() {
        let at = |millis| Some(Start::EnqueuedAfter(UNIX_EPOCH + Duration::from_millis(millis)));
        let sequence = |sequence, inclusive| Some(Start::Sequence { sequence, inclusive });
        for (expression, start) in [
            ("amqp.annotation.x-opt-offset > '-1'", Some(Start::Offset { offset: -1, inclusive: false })),
            ("amqp.annotation.x-opt-offset > '@latest'", Some(Start::Latest)),
            ("amqp.annotation.x-opt-offset >= '77'", Some(Start::Offset { offset: 77, inclusive: true })),
            ("amqp.annotation.x-opt-sequence-number > '2995'", sequence(2995, false)),
            ("amqp.annotation.x-opt-sequence-number > 2995", sequence(2995, false)),
            (" amqp.annotation.x-opt-sequence-number>='2995' ", sequence(2995, true)),
            ("amqp.annotation.x-opt-enqueued-time > '1502966924000'", at(1_502_966_924_000)),
            ("amqp.annotation.x-opt-enqueued-time >= 1502966924000", at(1_502_966_923_999)),
            ("amqp.annotation.x-opt-offset < '5'", None),
            ("amqp.annotation.x-opt-offset > 'five'", None),
            ("amqp.annotation.color > 'red'", None),
            ("", None),
        ] {
            assert_eq!(parse(expression), start, "{expression}");
        }
    }
}
