//! `If-Match` and `If-None-Match`.

use iothub_common::IfMatch;

use super::error::{ErrorCode, HubError};

/// What a request demands of the etag of the resource it writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Neither header: on the registry's PUT this means "create" (rest.md 1.6).
    #[default]
    None,
    /// `If-Match`: the etag without quotes, or `None` for `*`, which any existing resource meets.
    IfMatch(Option<String>),
    /// `If-None-Match: *`: create only.
    IfNoneMatchAny,
}

impl Precondition {
    /// Reads the two headers. Quotes and `W/` may be there or not, around the star too: every client spells
    /// it in its own way (rest.md 1.6). An `If-None-Match` with an etag asks for nothing here.
    pub fn from_headers(if_match: Option<&str>, if_none_match: Option<&str>) -> Self {
        match (if_match.map(IfMatch::from_header), if_none_match.map(IfMatch::from_header)) {
            (Some(IfMatch::Any), _) => Self::IfMatch(None),
            (Some(IfMatch::ETag(etag)), _) => Self::IfMatch(Some(etag.as_str().to_owned())),
            (None, Some(IfMatch::Any)) => Self::IfNoneMatchAny,
            (None, _) => Self::None,
        }
    }

    /// Whether a write to an existing resource with this etag may proceed.
    pub(super) fn check(&self, etag: &str) -> Result<(), HubError> {
        match self {
            Self::None | Self::IfMatch(None) => Ok(()),
            Self::IfMatch(Some(expected)) if expected == etag => Ok(()),
            Self::IfMatch(Some(_)) | Self::IfNoneMatchAny => Err(HubError::new(
                ErrorCode::PreconditionFailed,
                "The etag in the request does not match the etag of the existing resource, as per RFC7232, \
                 please check and retry with the current one.",
            )),
        }
    }

    /// Whether a PUT with this may create what is not there.
    pub(super) fn may_create(&self) -> bool {
        !matches!(self, Self::IfMatch(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_with_and_without_quotes() {
        let etag = |text: &str| Precondition::IfMatch(Some(text.to_owned()));
        for (if_match, if_none_match, expected) in [
            (None, None, Precondition::None),
            (Some("*"), None, Precondition::IfMatch(None)),
            (Some("\"*\""), None, Precondition::IfMatch(None)),
            (Some("\"MQ==\""), None, etag("MQ==")),
            (Some("W/\"MQ==\""), None, etag("MQ==")),
            (Some(" MQ== "), None, etag("MQ==")),
            (Some("\""), None, etag("\"")),
            (None, Some("*"), Precondition::IfNoneMatchAny),
            (None, Some("\"MQ==\""), Precondition::None),
        ] {
            assert_eq!(Precondition::from_headers(if_match, if_none_match), expected);
        }
    }

    #[test]
    fn only_a_different_etag_or_create_only_is_refused() {
        let allowed = |pre: Precondition| pre.check("MQ==").is_ok();
        assert!(allowed(Precondition::None));
        assert!(allowed(Precondition::IfMatch(None)));
        assert!(allowed(Precondition::IfMatch(Some("MQ==".to_owned()))));
        assert!(!allowed(Precondition::IfMatch(Some("abc".to_owned()))));
        assert!(!allowed(Precondition::IfNoneMatchAny));
    }
}
