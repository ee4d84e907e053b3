//! Times between AMQP, which counts milliseconds since 1970, and `SystemTime`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iothub_amqp::message::Message;
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::Timestamp;

/// Milliseconds since 1970, rounded down; negative before.
pub(super) fn to_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let part = i64::from(before.subsec_nanos() % 1_000_000 > 0);
            i64::try_from(before.as_millis()).map_or(i64::MIN, |millis| -millis - part)
        }
    }
}

pub(super) fn to_amqp(time: SystemTime) -> Timestamp {
    Timestamp::from_milliseconds(to_millis(time))
}

/// `None` when it is beyond what this system can count.
pub(super) fn from_amqp(time: &Timestamp) -> Option<SystemTime> {
    let millis = time.milliseconds();
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// An annotation that is a time.
pub(super) fn annotation_time(message: &Message, name: &str) -> Option<SystemTime> {
    match message.annotation(name)? {
        Value::Timestamp(time) => from_amqp(time),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for millis in [0, 1, 999, 1_700_000_000_123, -1, -999, -62_135_596_800_000] {
            let time = from_amqp(&Timestamp::from_milliseconds(millis)).unwrap();
            assert_eq!(to_millis(time), millis);
        }
    }

    #[test]
    fn parts_of_a_millisecond_are_cut_towards_the_past() {
        assert_eq!(to_millis(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
        assert_eq!(to_millis(UNIX_EPOCH - Duration::from_micros(1)), -1);
    }
}
