//! The tables: the hub's codes, HTTP statuses and AMQP conditions, each with its kind.

use super::ErrorKind;
use super::ErrorKind as K;

/// One of the hub's own codes: the status is in its first three digits (rest.md 2.3).
#[derive(Debug)]
pub(super) struct Code {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) kind: ErrorKind,
}

const fn code(number: u32, name: &'static str, kind: ErrorKind) -> Code {
    Code { number, name, kind }
}

/// rest.md 2.3. Codes that are not here get the kind of their status.
static CODES: [Code; 50] = [
    code(400_000, "GenericBadRequest", K::InvalidInput),
    code(400_001, "InvalidProtocolVersion", K::InvalidInput),
    code(400_003, "InvalidOperation", K::Rejected),
    code(400_004, "ArgumentInvalid", K::InvalidInput),
    code(400_005, "ArgumentNull", K::InvalidInput),
    code(400_006, "IotHubFormatError", K::InvalidInput),
    code(400_011, "DeviceDefinedMultipleTimes", K::InvalidInput),
    code(400_013, "BulkRegistryOperationFailure", K::Rejected),
    code(400_014, "DefaultStorageEndpointNotConfigured", K::Rejected),
    code(400_015, "InvalidFileUploadCorrelationId", K::InvalidInput),
    code(400_016, "ExpiredFileUploadCorrelationId", K::InvalidInput),
    code(400_020, "InvalidStorageEndpointOrBlob", K::InvalidInput),
    code(400_028, "InvalidDeviceScope", K::InvalidInput),
    code(400_301, "CannotRegisterModuleToModule", K::InvalidInput),
    code(400_401, "InvalidConfigurationTargetCondition", K::InvalidInput),
    code(400_402, "InvalidConfigurationContent", K::InvalidInput),
    code(400_403, "CannotModifyImmutableConfigurationContent", K::Rejected),
    code(400_404, "InvalidConfigurationCustomMetricsQuery", K::InvalidInput),
    code(401_002, "IotHubUnauthorizedAccess", K::Unauthorized),
    code(401_003, "IotHubUnauthorized", K::Unauthorized),
    // The credentials are fine, `$edgeAgent` and `$edgeHub` are off limits.
    code(401_100, "SystemModuleModifyUnauthorizedAccess", K::Rejected),
    code(403_002, "IotHubQuotaExceeded", K::QuotaExceeded),
    code(403_003, "JobQuotaExceeded", K::QuotaExceeded),
    code(403_004, "DeviceMaximumQueueDepthExceeded", K::QuotaExceeded),
    code(403_006, "DeviceMaximumActiveFileUploadLimitExceeded", K::QuotaExceeded),
    // A twin section that grew too large: the input must change.
    code(403_100, "DeviceModelMaxPropertiesExceeded", K::InvalidInput),
    code(404_001, "DeviceNotFound", K::NotFound),
    code(404_002, "JobNotFound", K::NotFound),
    code(404_010, "ModuleNotFound", K::NotFound),
    // The device exists and is away: another time the same call works.
    code(404_103, "DeviceNotOnline", K::Unavailable),
    code(404_104, "DeviceConnectionClosedRemotely", K::Unavailable),
    code(404_301, "ConfigurationNotFound", K::NotFound),
    code(409_001, "DeviceAlreadyExists", K::AlreadyExists),
    code(409_104, "JobAlreadyExists", K::AlreadyExists),
    code(409_301, "ModuleAlreadyExistsOnDevice", K::AlreadyExists),
    code(409_401, "ConfigurationAlreadyExists", K::AlreadyExists),
    code(412_001, "PreconditionFailed", K::PreconditionFailed),
    code(412_002, "DeviceMessageLockLost", K::PreconditionFailed),
    code(413_001, "MessageTooLarge", K::InvalidInput),
    code(413_002, "TooManyDevices", K::QuotaExceeded),
    code(413_003, "TooManyModulesOnDevice", K::QuotaExceeded),
    code(413_101, "ConfigurationCountLimitExceeded", K::QuotaExceeded),
    code(429_001, "ThrottlingException", K::Throttled),
    code(429_002, "ThrottleBacklogLimitExceeded", K::Throttled),
    code(429_003, "ThrottlingBacklogTimeout", K::Throttled),
    code(429_004, "ThrottlingMaxActiveJobCountExceeded", K::Throttled),
    code(500_001, "ServerError", K::Unavailable),
    code(503_001, "ServiceUnavailable", K::Unavailable),
    code(504_101, "GatewayTimeout", K::Timeout),
    // Known by name only; it comes with status 404 (rest.md 2.2).
    code(0, "IotHubNotFound", K::NotFound),
];

pub(super) fn by_number(number: u32) -> Option<&'static Code> {
    CODES.iter().find(|code| number != 0 && code.number == number)
}

pub(super) fn by_name(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name.eq_ignore_ascii_case(name))
}

/// What a status means when there is no better code.
pub(super) fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        400 | 413 => K::InvalidInput,
        401 => K::Unauthorized,
        404 => K::NotFound,
        408 | 504 => K::Timeout,
        409 => K::AlreadyExists,
        412 => K::PreconditionFailed,
        429 => K::Throttled,
        // Not implemented, version not supported: no retry helps.
        501 | 505 => K::Rejected,
        500..600 => K::Unavailable,
        400..500 => K::Rejected,
        _ => K::Protocol,
    }
}

/// Whether the hub may have done it before it answered so. 503 comes before anything is done.
pub(super) fn may_be_applied(status: u16, code: Option<&Code>) -> bool {
    matches!(status, 408 | 500 | 502 | 504) || code.is_some_and(|code| code.number == 404_104)
}

/// amqp.md 6. What no SDK knows is `Protocol`.
pub(super) fn kind_of_condition(condition: &str) -> ErrorKind {
    match condition {
        "amqp:not-found" | "amqp:resource-deleted" | "com.microsoft:iot-hub-not-found-error" => K::NotFound,
        "amqp:unauthorized-access" => K::Unauthorized,
        "amqp:not-allowed" | "amqp:not-implemented" | "com.microsoft:iot-hub-suspended" => K::Rejected,
        "amqp:resource-limit-exceeded" | "com.microsoft:quota-exceeded" => K::QuotaExceeded,
        "amqp:link:message-size-exceeded"
        | "com.microsoft:argument-error"
        | "com.microsoft:argument-out-of-range" => K::InvalidInput,
        "amqp:precondition-failed"
        | "com.microsoft:precondition-failed"
        | "com.microsoft:message-lock-lost" => K::PreconditionFailed,
        "com.microsoft:device-already-exists" => K::AlreadyExists,
        "com.microsoft:device-container-throttled" => K::Throttled,
        "com.microsoft:timeout" => K::Timeout,
        // The hub's own trouble, a place taken by somebody else for the moment, or a connection that ends:
        // the C# and Java SDKs come back after each of these.
        "amqp:internal-error"
        | "amqp:link:detach-forced"
        | "amqp:link:stolen"
        | "amqp:connection:forced"
        | "amqp:resource-locked"
        | "com.microsoft:link-creation-conflict" => K::Unavailable,
        _ => K::Protocol,
    }
}
