//! How a refusal looks in AMQP: a condition for programs, JSON for people (amqp.md 6).

use std::time::SystemTime;

use iothub_amqp::message::fields;
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::Symbol;
use iothub_amqp::types::definitions::{AmqpError, Error, ErrorCondition, LinkError};
use iothub_amqp::types::messaging::{DeliveryState, Rejected};

use crate::hub::{ErrorCode, HubError, ReaderRefused};

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) condition: ErrorCondition,
    pub(super) error: HubError,
}

impl Refusal {
    pub(super) fn new(
        condition: impl Into<ErrorCondition>,
        code: ErrorCode,
        text: impl Into<String>,
    ) -> Self {
        Self { condition: condition.into(), error: HubError::new(code, text) }
    }

    /// An address that names nothing, in the real hub's words (amqp.md 3.1).
    pub(super) fn address(address: &str) -> Self {
        let text = format!("The link address '{address}' did not match any of the expected formats.");
        let error = HubError { status: 404, code: 404_006, name: "InvalidLinkAddress", text };
        Self { condition: AmqpError::NotFound.into(), error }
    }

    /// Something a client can put right by doing it differently.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::new(AmqpError::InvalidField, ErrorCode::ArgumentInvalid, text)
    }

    /// Bytes that are no message.
    pub(super) fn undecodable(text: impl Into<String>) -> Self {
        Self::new(AmqpError::DecodeError, ErrorCode::ArgumentInvalid, text)
    }

    pub(super) fn too_large(text: impl Into<String>) -> Self {
        Self::new(LinkError::MessageSizeExceeded, ErrorCode::MessageTooLarge, text)
    }

    /// One more than a connection may have.
    pub(super) fn too_many(text: impl Into<String>) -> Self {
        Self::new(AmqpError::ResourceLimitExceeded, ErrorCode::ThrottlingException, text)
    }

    /// Not now; every SDK comes back after this one (amqp.md 6).
    pub(super) fn come_back(text: impl Into<String>) -> Self {
        Self::new(LinkError::DetachForced, ErrorCode::ServiceUnavailable, text)
    }

    /// Another link of the same kind took over, in the real hub's words (amqp.md 3.5).
    pub(super) fn displaced() -> Self {
        let text = "Another AMQP Client has opened a Receive Link".to_owned();
        let name = "ConnectionForcefullyClosedOnNewConnection";
        let error = HubError { status: 400, code: 400_027, name, text };
        Self { condition: AmqpError::InternalError.into(), error }
    }

    /// A new pair of links of the same identity on the same connection took over.
    pub(super) fn stolen(what: &str) -> Self {
        let text = format!("A new pair of {what} links took the place of this one.");
        Self::new(LinkError::Stolen, ErrorCode::DeviceConnectionClosedRemotely, text)
    }

    /// What the real hub says to the same pair once more (amqp.md 3.3).
    pub(super) fn pair_exists(what: &str) -> Self {
        let condition = ErrorCondition::Custom(Symbol::from("com.microsoft:link-creation-conflict"));
        let text = format!("There is a {what} link with this channel-correlation-id already.");
        // Only the status is known, not the number.
        let error = HubError { status: 409, code: 409_000, name: "LinkCreationConflict", text };
        Self { condition, error }
    }

    /// C# knows a lock that was lost by this condition only (amqp.md 3.5).
    pub(super) fn lock_lost(error: HubError) -> Self {
        Self { condition: AmqpError::NotFound.into(), error }
    }

    /// A reader of events that has to go.
    pub(super) fn reader_stolen() -> Self {
        let text = "A reader with an owner level took the partition over.";
        Self::new(LinkError::Stolen, ErrorCode::DeviceConnectionClosedRemotely, text)
    }

    /// A reader of events that is not admitted.
    pub(super) fn reader(refused: ReaderRefused, group: &str, partition: &str) -> Self {
        match refused {
            ReaderRefused::Epoch { current } => {
                let text = format!(
                    "Partition '{partition}' of consumer group '{group}' has a reader with owner level (epoch) \
                     {current}; only one with this level or a higher one may take over."
                );
                Self::new(LinkError::Stolen, ErrorCode::DeviceConnectionClosedRemotely, text)
            }
            ReaderRefused::TooMany => Self::too_many(format!(
                "Partition '{partition}' of consumer group '{group}' has as many readers as it may have."
            )),
        }
    }

    /// The token of a link has ended, in the real hub's words (amqp.md 2.5).
    pub(super) fn token_over() -> Self {
        HubError::new(ErrorCode::IotHubUnauthorized, "Token Invalid.").into()
    }

    /// As `detach`, `close` and `rejected` carry it.
    pub(super) fn to_amqp(&self, now: SystemTime) -> Error {
        let description = String::from_utf8_lossy(&self.error.device_body(now)).into_owned();
        // Seen from the real hub; nobody reads it (amqp.md 6).
        let info = fields([("com.microsoft:is-filtered", Value::Bool(true))]);
        Error::new(self.condition.clone(), description, info)
    }

    /// As the outcome of a message. Node takes a rejection without an error for a success (amqp.md 3.4).
    pub(super) fn to_outcome(&self, now: SystemTime) -> DeliveryState {
        DeliveryState::Rejected(Rejected { error: Some(self.to_amqp(now)) })
    }
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        let microsoft = |name: &str| ErrorCondition::Custom(Symbol::from(name));
        let condition = match error.status {
            400 => microsoft("com.microsoft:argument-error"),
            401 => AmqpError::UnauthorizedAccess.into(),
            403 => AmqpError::ResourceLimitExceeded.into(),
            404 => AmqpError::NotFound.into(),
            412 => AmqpError::PreconditionFailed.into(),
            413 => LinkError::MessageSizeExceeded.into(),
            429 => microsoft("com.microsoft:device-container-throttled"),
            503 => LinkError::DetachForced.into(),
            504 => microsoft("com.microsoft:timeout"),
            _ => AmqpError::InternalError.into(),
        };
        Self { condition, error }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_description_is_json_with_the_hubs_code() {
        let now = UNIX_EPOCH + Duration::from_secs(1_502_966_924);
        let error = Refusal::address("/x").to_amqp(now);
        assert_eq!(error.condition, ErrorCondition::AmqpError(AmqpError::NotFound));
        let body: serde_json::Value = serde_json::from_str(&error.description.unwrap()).unwrap();
        assert_eq!(body["errorCode"], 404006);
        assert_eq!(body["message"], "The link address '/x' did not match any of the expected formats.");
        assert_eq!(body["timestampUtc"], "2017-08-17T10:48:44Z");
        assert!(body["trackingId"].is_string());
    }

    #[test]
    fn conditions_follow_the_status() {
        for (code, condition) in [
            (ErrorCode::ArgumentInvalid, "com.microsoft:argument-error"),
            (ErrorCode::IotHubUnauthorized, "amqp:unauthorized-access"),
            (ErrorCode::IotHubQuotaExceeded, "amqp:resource-limit-exceeded"),
            (ErrorCode::DeviceNotFound, "amqp:not-found"),
            (ErrorCode::ModuleNotFound, "amqp:not-found"),
            (ErrorCode::PreconditionFailed, "amqp:precondition-failed"),
            (ErrorCode::MessageTooLarge, "amqp:link:message-size-exceeded"),
            (ErrorCode::ThrottlingException, "com.microsoft:device-container-throttled"),
            (ErrorCode::ServerError, "amqp:internal-error"),
        ] {
            let refusal = Refusal::from(HubError::new(code, "x"));
            assert_eq!(name(&refusal.condition), condition, "{code:?}");
        }
    }

    fn name(condition: &ErrorCondition) -> String {
        match condition {
            ErrorCondition::AmqpError(error) => Symbol::from(error),
            ErrorCondition::ConnectionError(error) => Symbol::from(error),
            ErrorCondition::SessionError(error) => Symbol::from(error),
            ErrorCondition::LinkError(error) => Symbol::from(error),
            ErrorCondition::Custom(symbol) => symbol.clone(),
        }
        .into_inner()
    }
}
