//! Entity tags: which version of a thing the caller has seen.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An entity tag as the hub gave it, opaque, without quotes.
///
/// Headers quote it, JSON bodies do not (rest.md 1.5); every spelling of the same tag makes equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETag(String);

/// The condition of an update or delete, sent as `If-Match`.
///
/// Where a call takes an `Option<&IfMatch>`, `None` sends no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever is there, as long as something is: `*`.
    Any,
    /// Only if nobody changed it since this tag was read; else the call fails with
    /// [`ErrorKind::PreconditionFailed`](crate::ErrorKind::PreconditionFailed).
    ETag(ETag),
}

impl ETag {
    /// A tag from any of its spellings: `abc`, `"abc"`, `W/"abc"`.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(bare(text.as_ref()).to_owned())
    }

    /// The tag without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag as a header carries it, in quotes: an unquoted one is refused or silently ignored
    /// (rest.md 1.6).
    #[must_use]
    pub fn to_header(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl IfMatch {
    /// Reads a header value: `*` with or without quotes is [`IfMatch::Any`] (rest.md 1.6).
    #[must_use]
    pub fn from_header(value: &str) -> Self {
        match bare(value) {
            "*" => Self::Any,
            tag => Self::ETag(ETag(tag.to_owned())),
        }
    }

    /// The header value: `*`, or the quoted tag.
    #[must_use]
    pub fn to_header(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::ETag(tag) => tag.to_header(),
        }
    }
}

fn bare(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ETag {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for ETag {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<ETag> for IfMatch {
    fn from(tag: ETag) -> Self {
        Self::ETag(tag)
    }
}

impl Serialize for ETag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ETag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_spelling_is_the_same_tag() {
        for text in ["MQ==", "\"MQ==\"", "W/\"MQ==\"", " \"MQ==\" "] {
            let tag = ETag::new(text);
            assert_eq!(
                (tag.as_str(), tag.to_header().as_str(), tag.to_string().as_str()),
                ("MQ==", "\"MQ==\"", "MQ==")
            );
        }
        assert_eq!(ETag::new("\"").as_str(), "\"");
        assert_eq!(ETag::new("").to_header(), "\"\"");
    }

    #[test]
    fn json_carries_it_bare() {
        let tag: ETag = serde_json::from_str(r#""\"AAAAAAAAAAE=\"""#).unwrap();
        assert_eq!(serde_json::to_string(&tag).unwrap(), r#""AAAAAAAAAAE=""#);
    }

    #[test]
    fn if_match_headers() {
        assert_eq!(IfMatch::from_header("*"), IfMatch::Any);
        assert_eq!(IfMatch::from_header("\"*\""), IfMatch::Any);
        assert_eq!(IfMatch::from_header("\"MQ==\""), IfMatch::ETag(ETag::new("MQ==")));
        assert_eq!(IfMatch::Any.to_header(), "*");
        assert_eq!(IfMatch::from(ETag::new("MQ==")).to_header(), "\"MQ==\"");
    }
}
