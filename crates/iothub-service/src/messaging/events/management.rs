//! Questions about the event hub and its partitions (amqp.md 5.7, 5).

use std::sync::Arc;
use std::time::SystemTime;

use iothub_amqp::message::{Body, Message, application_properties};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::{Binary, OrderedMap};
use iothub_amqp::types::primitives::SimpleValue;
use iothub_common::error::error_from_amqp;
use iothub_common::{Error, ErrorKind, Result, Subject};
use tokio::time::Instant;

use super::StartPosition;
use crate::messaging::connection::Connection;
use crate::messaging::time::from_amqp;

/// What is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// The partition.
    pub partition_id: String,
    /// The number of the oldest event that is kept; of the next one when there is none.
    pub first_sequence_number: i64,
    /// The number of the newest event; below `first_sequence_number` when there was none.
    pub last_sequence_number: i64,
    /// The place of the newest event.
    pub last_offset: String,
    /// When the newest event came.
    pub last_enqueued_time: Option<SystemTime>,
    /// Whether no event is kept.
    pub is_empty: bool,
}

impl PartitionInfo {
    /// After everything that is there now.
    pub(super) fn end(&self) -> StartPosition {
        match self.last_sequence_number {
            // There has never been an event, so nothing can be named after which to begin.
            ..0 => StartPosition::Earliest,
            last => StartPosition::AfterSequenceNumber(last),
        }
    }
}

const PARTITION: &str = "com.microsoft:partition";

type Map = OrderedMap<Value, Value>;

pub(super) async fn partition_ids(connection: &Connection, entity: &str) -> Result<Vec<Arc<str>>> {
    let answer = read(connection, entity, "com.microsoft:eventhub", None).await?;
    let ids = match field(&answer, "partition_ids") {
        Some(Value::Array(ids)) => texts(ids.0.iter()),
        Some(Value::List(ids)) => texts(ids.iter()),
        _ => None,
    };
    ids.filter(|ids| !ids.is_empty()).ok_or_else(|| unreadable("names no partitions"))
}

pub(super) async fn partition_info(
    connection: &Connection,
    entity: &str,
    partition_id: &str,
) -> Result<PartitionInfo> {
    let answer = read(connection, entity, PARTITION, Some(partition_id)).await?;
    info(partition_id, &answer)
}

/// The question of [`partition_info`].
pub(crate) fn partition_question(entity: &str, partition_id: &str, token: &str) -> Message {
    request(entity, PARTITION, Some(partition_id), token)
}

/// What the answer to it says of the newest event; `None` when it is a refusal or cannot be read.
pub(crate) fn last_sequence_number(answer: Message) -> Option<i64> {
    let answer = map(answer, "").ok()?;
    info("", &answer).ok().map(|info| info.last_sequence_number)
}

fn info(partition_id: &str, answer: &Map) -> Result<PartitionInfo> {
    let number = |name| match field(answer, name) {
        Some(Value::Long(number)) => Ok(*number),
        Some(Value::Int(number)) => Ok(i64::from(*number)),
        _ => Err(unreadable(name)),
    };
    Ok(PartitionInfo {
        partition_id: partition_id.to_owned(),
        first_sequence_number: number("begin_sequence_number")?,
        last_sequence_number: number("last_enqueued_sequence_number")?,
        last_offset: match field(answer, "last_enqueued_offset") {
            Some(Value::String(offset)) => offset.clone(),
            _ => String::new(),
        },
        last_enqueued_time: match field(answer, "last_enqueued_time_utc") {
            Some(Value::Timestamp(time)) => from_amqp(time),
            _ => None,
        },
        is_empty: matches!(field(answer, "is_partition_empty"), Some(Value::Bool(true))),
    })
}

/// Reads, and reads again while the endpoint is busy.
async fn read(connection: &Connection, entity: &str, kind: &str, partition: Option<&str>) -> Result<Map> {
    let settings = connection.settings();
    let deadline = Instant::now() + settings.call_timeout;
    let mut backoff = settings.retry.backoff();
    loop {
        let token = settings.credentials.authorization(SystemTime::now()).await?.header;
        let answer = connection.ask(request(entity, kind, partition, token.reveal())).await?;
        let error = match map(answer, &settings.endpoint.host) {
            Ok(map) => return Ok(map),
            Err(error) => error,
        };
        let wait = backoff.next().filter(|wait| error.is_retryable() && Instant::now() + *wait < deadline);
        let Some(wait) = wait else { return Err(error) };
        tokio::time::sleep(wait).await;
    }
}

fn request(entity: &str, kind: &str, partition: Option<&str>, token: &str) -> Message {
    let text = |text: &str| SimpleValue::String(text.to_owned());
    let mut properties = vec![("operation", text("READ")), ("name", text(entity)), ("type", text(kind))];
    properties.extend(partition.map(|id| ("partition", text(id))));
    properties.push(("security_token", text(token)));
    Message {
        properties: None,
        annotations: None,
        application_properties: Some(application_properties(properties)),
        body: Body::Value(Value::Binary(Binary::from(b"[]".to_vec()))),
    }
}

fn map(answer: Message, host: &str) -> Result<Map> {
    let (status, description) = iothub_amqp::cbs::status(&answer);
    if !(200..300).contains(&status) {
        return Err(refusal(&answer, status, &description, host));
    }
    match answer.body {
        Body::Value(Value::Map(map)) => Ok(map),
        _ => Err(unreadable("has no map")),
    }
}

/// Other statuses: the optional `error-condition`, else what Event Hubs clients make of the number (amqp.md 5.7, 5).
fn refusal(answer: &Message, status: i32, description: &str, host: &str) -> Error {
    let condition = match answer.application_property("error-condition") {
        Some(SimpleValue::String(condition)) => condition.as_str(),
        Some(SimpleValue::Symbol(condition)) => condition.as_str(),
        _ => match status {
            400 => "com.microsoft:argument-error",
            401 | 403 => "amqp:unauthorized-access",
            404 => "amqp:not-found",
            503 => "amqp:link:detach-forced",
            _ => "amqp:internal-error",
        },
    };
    error_from_amqp(condition, Some(description), &Subject::Hub(host)).with_may_have_been_applied(false)
}

fn field<'a>(map: &'a Map, name: &str) -> Option<&'a Value> {
    map.iter().find_map(|(key, value)| match key {
        Value::String(key) if key == name => Some(value),
        Value::Symbol(key) if key.as_str() == name => Some(value),
        _ => None,
    })
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Option<Vec<Arc<str>>> {
    values
        .map(|value| match value {
            Value::String(text) => Some(text.as_str().into()),
            _ => None,
        })
        .collect()
}

fn unreadable(what: &str) -> Error {
    let message = format!("the answer of the built-in endpoint cannot be read: {what}");
    Error::new(ErrorKind::Protocol, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use iothub_amqp::serde_amqp::primitives::Timestamp;

    use super::*;

    fn partition(first: i64, last: i64, empty: bool) -> Map {
        let text = |text: &str| Value::String(text.to_owned());
        let mut map = Map::new();
        map.insert(text("name"), text("hub"));
        map.insert(text("partition"), text("1"));
        map.insert(text("begin_sequence_number"), Value::Long(first));
        map.insert(text("last_enqueued_sequence_number"), Value::Long(last));
        map.insert(text("last_enqueued_offset"), text("5000"));
        map.insert(text("last_enqueued_time_utc"), Value::Timestamp(Timestamp::from_milliseconds(1500)));
        map.insert(text("is_partition_empty"), Value::Bool(empty));
        map
    }

    #[test]
    fn a_partition_is_read() {
        let info = info("1", &partition(3, 41, false)).unwrap();
        let expected = PartitionInfo {
            partition_id: "1".into(),
            first_sequence_number: 3,
            last_sequence_number: 41,
            last_offset: "5000".into(),
            last_enqueued_time: Some(UNIX_EPOCH + Duration::from_millis(1500)),
            is_empty: false,
        };
        assert_eq!(info, expected);
        assert_eq!(super::info("1", &Map::new()).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn latest_is_after_the_last_event_and_the_beginning_of_a_partition_without_one() {
        let end = |first, last, empty| info("1", &partition(first, last, empty)).unwrap().end();
        assert_eq!(end(3, 41, false), StartPosition::AfterSequenceNumber(41));
        assert_eq!(end(42, 41, true), StartPosition::AfterSequenceNumber(41), "all have been dropped");
        assert_eq!(end(0, -1, true), StartPosition::Earliest);
    }

    #[test]
    fn refusals_are_told_apart() {
        let answer = |status, condition: Option<&str>| {
            let text = |text: &str| SimpleValue::String(text.to_owned());
            let mut properties =
                vec![("status-code", SimpleValue::Int(status)), ("status-description", text("because"))];
            properties.extend(condition.map(|condition| ("error-condition", text(condition))));
            Message { application_properties: Some(application_properties(properties)), ..Message::default() }
        };
        for (status, condition, kind) in [
            (404, None, ErrorKind::NotFound),
            (400, None, ErrorKind::InvalidInput),
            (401, None, ErrorKind::Unauthorized),
            (403, None, ErrorKind::Unauthorized),
            (503, None, ErrorKind::Unavailable),
            (500, None, ErrorKind::Unavailable),
            (400, Some("amqp:not-found"), ErrorKind::NotFound),
        ] {
            let error = map(answer(status, condition), "ns.example.net").unwrap_err();
            assert_eq!((error.kind(), error.may_have_been_applied()), (kind, false), "{status}");
        }
        assert_eq!(map(answer(200, None), "ns.example.net").unwrap_err().kind(), ErrorKind::Protocol);
    }
}
