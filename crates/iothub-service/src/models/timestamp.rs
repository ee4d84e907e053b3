//! Dates as the hub writes them.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A date and time in UTC, kept in the hub's own text.
///
/// The hub writes a date that never came as the year 1 (`0001-01-01T00:00:00`, with or without `Z`), never as
/// `null` (rest.md 1.8). [`Timestamp::time`] gives `None` for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(String);

impl Timestamp {
    /// The text as the hub sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moment, or `None` when it never came (year 1) or the text is no date.
    pub fn time(&self) -> Option<SystemTime> {
        let date = parse(&self.0)?;
        (date.year() > 1).then(|| date.into())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a date with `Z` or an offset, or without either: then it is UTC.
fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
        .ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn time(text: &str) -> Option<SystemTime> {
        Timestamp(text.to_owned()).time()
    }

    #[test]
    fn both_spellings_of_a_date_mean_utc() {
        // 1700000000 s after 1970 = 2023-11-14 22:13:20 UTC.
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(time("2023-11-14T22:13:20Z"), Some(moment));
        assert_eq!(time("2023-11-14T22:13:20"), Some(moment));
        assert_eq!(time("2023-11-14T23:13:20+01:00"), Some(moment));
        assert_eq!(time("2023-11-14T22:13:20.5000000Z"), Some(moment + Duration::from_millis(500)));
    }

    #[test]
    fn a_date_that_never_came_is_none() {
        assert_eq!(time("0001-01-01T00:00:00"), None);
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn the_text_survives_a_round_trip() {
        let text = "\"2023-01-31T10:37:08.4599400Z\"";
        let read: Timestamp = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
