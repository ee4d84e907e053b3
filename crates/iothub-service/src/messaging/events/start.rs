//! Where to begin to read in a partition, and how the hub is told (amqp.md 5.7).

use std::time::SystemTime;

use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::described::Described;
use iothub_amqp::serde_amqp::descriptor::Descriptor;
use iothub_amqp::serde_amqp::primitives::Symbol;
use iothub_amqp::types::messaging::FilterSet;
use iothub_common::{Error, ErrorKind, Result};

use crate::messaging::time::to_millis;

const FILTER: &str = "apache.org:selector-filter:string";
const FILTER_CODE: u64 = 0x0000_468C_0000_0004;

/// Where to begin to read the events of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartPosition {
    /// With the oldest event that the hub still keeps.
    Earliest,
    /// With what arrives from now on: nothing that is there when the reader opens, all that comes later, also when
    /// the connection is lost before the first event.
    #[default]
    Latest,
    /// With the event at this [offset](super::DeviceEvent::offset), or the next one after it.
    AtOffset(String),
    /// After the event at this [offset](super::DeviceEvent::offset).
    AfterOffset(String),
    /// With the event of this [number](super::DeviceEvent::sequence_number), or the next one after it.
    AtSequenceNumber(i64),
    /// After the event of this [number](super::DeviceEvent::sequence_number): how to go on from the last event that
    /// a program has handled.
    AfterSequenceNumber(i64),
    /// With the first event that the hub received after this time. Milliseconds count.
    After(SystemTime),
}

impl StartPosition {
    pub(super) fn check(&self) -> Result<()> {
        match self {
            // It stands between quotes in the filter.
            Self::AtOffset(offset) | Self::AfterOffset(offset)
                if offset.is_empty() || offset.contains(|c: char| !c.is_ascii_graphic() || c == '\'') =>
            {
                Err(Error::new(ErrorKind::InvalidInput, format!("`{offset}` is no offset of an event")))
            }
            _ => Ok(()),
        }
    }

    /// The filter of a link that begins here.
    pub(crate) fn filter(&self) -> FilterSet {
        let value = Described { descriptor: Descriptor::Code(FILTER_CODE), value: self.expression().into() };
        let mut filter = FilterSet::new();
        filter.insert(Symbol::from(FILTER), Value::Described(Box::new(value)));
        filter
    }

    fn expression(&self) -> String {
        let (what, how, value) = match self {
            Self::Earliest => ("offset", ">", "-1".to_owned()),
            Self::Latest => ("offset", ">", "@latest".to_owned()),
            Self::AtOffset(offset) => ("offset", ">=", offset.clone()),
            Self::AfterOffset(offset) => ("offset", ">", offset.clone()),
            Self::AtSequenceNumber(number) => ("sequence-number", ">=", number.to_string()),
            Self::AfterSequenceNumber(number) => ("sequence-number", ">", number.to_string()),
            Self::After(time) => ("enqueued-time", ">", to_millis(*time).to_string()),
        };
        format!("amqp.annotation.x-opt-{what} {how} '{value}'")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The table of amqp.md 5.7.
    #[test]
    fn expressions_are_those_of_the_event_hubs_client() {
        for (start, expected) in [
            (StartPosition::Earliest, "amqp.annotation.x-opt-offset > '-1'"),
            (StartPosition::Latest, "amqp.annotation.x-opt-offset > '@latest'"),
            (StartPosition::AfterOffset("5000".into()), "amqp.annotation.x-opt-offset > '5000'"),
            (StartPosition::AtOffset("5000".into()), "amqp.annotation.x-opt-offset >= '5000'"),
            (StartPosition::AfterSequenceNumber(2995), "amqp.annotation.x-opt-sequence-number > '2995'"),
            (StartPosition::AtSequenceNumber(0), "amqp.annotation.x-opt-sequence-number >= '0'"),
            (
                StartPosition::After(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
                "amqp.annotation.x-opt-enqueued-time > '1700000000123'",
            ),
        ] {
            assert_eq!(start.expression(), expected);
        }
    }

    #[test]
    fn the_filter_is_a_described_string() {
        let filter = StartPosition::Earliest.filter();
        let value = filter.get(&Symbol::from("apache.org:selector-filter:string")).unwrap();
        let Value::Described(described) = value else { panic!("{value:?}") };
        assert_eq!(described.descriptor, Descriptor::Code(0x0000_468C_0000_0004));
        assert_eq!(described.value, Value::String("amqp.annotation.x-opt-offset > '-1'".into()));
    }

    #[test]
    fn no_offset_breaks_out_of_its_quotes() {
        for bad in ["", "1' OR '1'='1", "1 2", "ü"] {
            assert!(StartPosition::AfterOffset(bad.into()).check().is_err(), "{bad}");
        }
        for good in ["0", "-1", "@latest", "12345678901234567890", "2:17:9"] {
            assert!(StartPosition::AtOffset(good.into()).check().is_ok(), "{good}");
        }
    }
}
