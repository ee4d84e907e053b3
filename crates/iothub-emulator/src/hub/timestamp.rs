//! Points in time as the hub stores and prints them: .NET ticks, so 100 nanoseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Ticks of 100 ns since 0001-01-01T00:00:00Z. Zero is "never happened" (rest.md 1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Timestamp(u64);

const TICKS_PER_SECOND: u64 = 10_000_000;
const UNIX_EPOCH_TICKS: u64 = 621_355_968_000_000_000;
/// 9999-12-31T23:59:59.9999999Z, the last moment .NET knows.
const MAX_TICKS: u64 = 3_155_378_975_999_999_999;

impl Timestamp {
    /// A date that never happened.
    pub(crate) const NEVER: Self = Self(0);

    pub(crate) fn ticks(self) -> u64 {
        self.0
    }

    /// As identities show it: `0001-01-01T00:00:00` without a `Z` for never (rest.md 1.8).
    pub(crate) fn for_identity(self) -> String {
        if self == Self::NEVER { "0001-01-01T00:00:00".to_owned() } else { self.for_twin() }
    }

    /// As twins show it: always with `Z`, up to 7 fraction digits, trailing zeros cut (twins.md 2.6).
    pub(crate) fn for_twin(self) -> String {
        let date = self.date();
        let mut text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second()
        );
        let fraction = self.0 % TICKS_PER_SECOND;
        if fraction != 0 {
            let digits = format!(".{fraction:07}");
            text.push_str(digits.trim_end_matches('0'));
        }
        text.push('Z');
        text
    }

    /// As tracking ids show it: `MM/dd/yyyy HH:mm:ss` (rest.md 2.1).
    pub(crate) fn for_tracking_id(self) -> String {
        let date = self.date();
        format!(
            "{:02}/{:02}/{:04} {:02}:{:02}:{:02}",
            u8::from(date.month()),
            date.day(),
            date.year(),
            date.hour(),
            date.minute(),
            date.second()
        )
    }

    fn date(self) -> OffsetDateTime {
        let ticks = i128::from(self.0) - i128::from(UNIX_EPOCH_TICKS);
        // Every value up to MAX_TICKS is within what `time` can hold, so the epoch is never taken.
        OffsetDateTime::from_unix_timestamp_nanos(ticks * 100).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let ticks = since_epoch.as_nanos() / 100 + u128::from(UNIX_EPOCH_TICKS);
        Self(u64::try_from(ticks).unwrap_or(MAX_TICKS).min(MAX_TICKS))
    }
}

/// A time in ISO 8601 with any fraction; without an offset it is UTC.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    parse(text).or_else(|| parse(&format!("{text}Z"))).map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_up_to_seven_digits_and_no_trailing_zeros() {
        for (micros, text) in [
            (1_547_455_680_736_671_u64, "2019-01-14T08:48:00.736671Z"),
            (1_547_456_055_599_000, "2019-01-14T08:54:15.599Z"),
            (1_547_456_055_000_000, "2019-01-14T08:54:15Z"),
        ] {
            let at = Timestamp::from(UNIX_EPOCH + Duration::from_micros(micros));
            assert_eq!(at.for_twin(), text);
            assert_eq!(at.for_identity(), text);
        }
        let at = Timestamp::from(UNIX_EPOCH + Duration::from_nanos(1_700));
        assert_eq!(at.for_twin(), "1970-01-01T00:00:00.0000017Z");
    }

    #[test]
    fn what_never_happened_has_a_z_in_twins_only() {
        assert_eq!(Timestamp::NEVER.for_identity(), "0001-01-01T00:00:00");
        assert_eq!(Timestamp::NEVER.for_twin(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn tracking_ids_have_american_dates() {
        let at = Timestamp::from(UNIX_EPOCH + Duration::from_secs(1_502_966_924));
        assert_eq!(at.for_tracking_id(), "08/17/2017 10:48:44");
    }

    #[test]
    fn the_far_future_is_the_year_9999() {
        let at = Timestamp::from(UNIX_EPOCH + Duration::from_secs(400_000_000_000));
        assert_eq!(at.for_twin(), "9999-12-31T23:59:59.9999999Z");
    }
}
