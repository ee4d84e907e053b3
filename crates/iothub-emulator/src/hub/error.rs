//! What the hub says when it refuses: the table of its codes, and the bodies the wire carries them in.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use iothub_common::twin_rules::{Rule, Violation};
use serde_json::json;
use uuid::Uuid;

use super::timestamp::Timestamp;

macro_rules! error_codes {
    ($($(#[$doc:meta])+ $name:ident = $number:literal,)+) => {
        /// The hub's error codes (rest.md 2.3). The status is the first three digits of the number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum ErrorCode {
            $($(#[$doc])+ $name = $number,)+
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name as bodies and the `iothub-errorcode` header carry it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

error_codes! {
    /// A member of the body is not known, or the body is malformed.
    GenericBadRequest = 400000,
    /// The api-version is missing or is none.
    InvalidProtocolVersion = 400001,
    /// The operation makes no sense here.
    InvalidOperation = 400003,
    /// An id, key, twin key, value, time limit or query is not acceptable.
    ArgumentInvalid = 400004,
    /// There is no body where one is needed.
    ArgumentNull = 400005,
    /// The body is no JSON.
    IotHubFormatError = 400006,
    /// A bulk request names a device twice.
    DeviceDefinedMultipleTimes = 400011,
    /// Some items of a bulk request failed.
    BulkRegistryOperationFailure = 400013,
    /// The hub has no storage for file uploads.
    DefaultStorageEndpointNotConfigured = 400014,
    /// No file upload has this correlation id.
    InvalidFileUploadCorrelationId = 400015,
    /// The file upload's time is over.
    ExpiredFileUploadCorrelationId = 400016,
    /// The storage or the blob is not acceptable.
    InvalidStorageEndpointOrBlob = 400020,
    /// The device scope names no edge device.
    InvalidDeviceScope = 400028,
    /// A module cannot have modules.
    CannotRegisterModuleToModule = 400301,
    /// A configuration's target condition cannot be read.
    InvalidConfigurationTargetCondition = 400401,
    /// A configuration's content is not acceptable.
    InvalidConfigurationContent = 400402,
    /// A configuration's content cannot change.
    CannotModifyImmutableConfigurationContent = 400403,
    /// A configuration's metrics query cannot be read.
    InvalidConfigurationCustomMetricsQuery = 400404,
    /// The token is missing, wrong, over, or lacks the right.
    IotHubUnauthorizedAccess = 401002,
    /// A device or module did not prove who it is.
    IotHubUnauthorized = 401003,
    /// `$edgeAgent` and `$edgeHub` are the hub's own.
    SystemModuleModifyUnauthorizedAccess = 401100,
    /// The daily number of messages is used up.
    IotHubQuotaExceeded = 403002,
    /// An import or export job is running already.
    JobQuotaExceeded = 403003,
    /// Too many cloud-to-device messages wait.
    DeviceMaximumQueueDepthExceeded = 403004,
    /// Too many file uploads are open.
    DeviceMaximumActiveFileUploadLimitExceeded = 403006,
    /// Too many calls of methods are under way.
    DeviceMaximumInflightMethodExceeded = 403800,
    /// A section of the twin would be too large.
    DeviceModelMaxPropertiesExceeded = 403100,
    /// The device does not exist, or is disabled.
    DeviceNotFound = 404001,
    /// The job does not exist.
    JobNotFound = 404002,
    /// The module does not exist.
    ModuleNotFound = 404010,
    /// The target of a method is not connected, or does not listen for methods.
    DeviceNotOnline = 404103,
    /// The target of a method went away during the call.
    DeviceConnectionClosedRemotely = 404104,
    /// The configuration does not exist.
    ConfigurationNotFound = 404301,
    /// The device exists already.
    DeviceAlreadyExists = 409001,
    /// The job exists already.
    JobAlreadyExists = 409104,
    /// The module exists already.
    ModuleAlreadyExistsOnDevice = 409301,
    /// The configuration exists already.
    ConfigurationAlreadyExists = 409401,
    /// The etag given is not the current one.
    PreconditionFailed = 412001,
    /// The lock of a cloud-to-device message is over.
    DeviceMessageLockLost = 412002,
    /// The message or body is too large.
    MessageTooLarge = 413001,
    /// The hub, or a bulk request, holds too many devices.
    TooManyDevices = 413002,
    /// The device has 50 modules.
    TooManyModulesOnDevice = 413003,
    /// The hub has 100 configurations.
    ConfigurationCountLimitExceeded = 413101,
    /// Too many requests.
    ThrottlingException = 429001,
    /// Too many requests wait.
    ThrottleBacklogLimitExceeded = 429002,
    /// The request waited too long for its turn.
    ThrottlingBacklogTimeout = 429003,
    /// Too many jobs run.
    ThrottlingMaxActiveJobCountExceeded = 429004,
    /// The hub has a fault.
    ServerError = 500001,
    /// The hub cannot serve now.
    ServiceUnavailable = 503001,
    /// The target of a method did not answer in time.
    GatewayTimeout = 504101,
}

impl ErrorCode {
    /// The number, like 404001.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The HTTP status that goes with it, like 404.
    pub fn status(self) -> u16 {
        // Six digits, so the first three fit.
        (self.number() / 1000) as u16
    }
}

/// A refusal: what the hub answers instead of a result, on any transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubError {
    /// HTTP status, like 404.
    pub status: u16,
    /// The hub's code, like 404001.
    pub code: u32,
    /// The code's name, like `DeviceNotFound`; goes into the `iothub-errorcode` header.
    pub name: &'static str,
    /// For people: what is wrong.
    pub text: String,
}

impl HubError {
    /// A refusal with one of the hub's codes.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { status: code.status(), code: code.number(), name: code.name(), text: text.into() }
    }

    /// Body for the service side: `{"Message":"ErrorCode:{name};{text}","ExceptionMessage":"Tracking ID:…"}`.
    ///
    /// A semicolon in the text becomes a comma: Node's client cuts the text at it (rest.md 2.2).
    pub fn service_body(&self, now: SystemTime) -> Bytes {
        let text = self.text.replace(';', ",");
        json_bytes(&json!({
            "Message": format!("ErrorCode:{};{text}", self.name),
            "ExceptionMessage": format!("Tracking ID:{}", tracking_id(now)),
        }))
    }

    /// Body of direct methods: `Message` is JSON text with the number, and `info` in it (rest.md 2.1, shape B).
    pub fn nested_body(&self, info: &serde_json::Value, now: SystemTime) -> Bytes {
        let message = json!({
            "errorCode": self.code,
            "trackingId": tracking_id(now),
            "message": self.text,
            "info": info,
            "timestampUtc": Timestamp::from(now).for_twin(),
        });
        json_bytes(&json!({ "Message": message.to_string(), "ExceptionMessage": "" }))
    }

    /// Body for the device side, for AMQP descriptions too:
    /// `{"errorCode":n,"trackingId":"…","message":"{text}","timestampUtc":"…"}`.
    pub fn device_body(&self, now: SystemTime) -> Bytes {
        json_bytes(&json!({
            "errorCode": self.code,
            "trackingId": tracking_id(now),
            "message": self.text,
            "timestampUtc": Timestamp::from(now).for_twin(),
        }))
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.code, self.text)
    }
}

impl std::error::Error for HubError {}

impl From<Violation> for HubError {
    fn from(violation: Violation) -> Self {
        let code = match violation.rule {
            Rule::SectionSize => ErrorCode::DeviceModelMaxPropertiesExceeded,
            _ => ErrorCode::ArgumentInvalid,
        };
        Self::new(code, violation.hub_text())
    }
}

fn tracking_id(now: SystemTime) -> String {
    format!("{}-G:0-TimeStamp:{}", Uuid::new_v4().simple(), Timestamp::from(now).for_tracking_id())
}

/// JSON text of a value.
pub(crate) fn json_bytes(value: &serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_code_has_its_status_and_no_twin() {
        let mut numbers: Vec<_> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        for (code, status, name) in [
            (ErrorCode::DeviceNotFound, 404, "DeviceNotFound"),
            (ErrorCode::ModuleAlreadyExistsOnDevice, 409, "ModuleAlreadyExistsOnDevice"),
            (ErrorCode::DeviceModelMaxPropertiesExceeded, 403, "DeviceModelMaxPropertiesExceeded"),
            (ErrorCode::GatewayTimeout, 504, "GatewayTimeout"),
        ] {
            assert_eq!((code.status(), code.name()), (status, name));
        }
    }

    #[test]
    fn the_service_body_has_one_semicolon() {
        let now = UNIX_EPOCH + Duration::from_secs(1_502_966_924);
        let error = HubError::new(ErrorCode::ArgumentInvalid, "one; two");
        let body: Value = serde_json::from_slice(&error.service_body(now)).unwrap();
        assert_eq!(body["Message"], "ErrorCode:ArgumentInvalid;one, two");
        let tracking = body["ExceptionMessage"].as_str().unwrap();
        assert!(tracking.starts_with("Tracking ID:"));
        assert!(tracking.ends_with("-G:0-TimeStamp:08/17/2017 10:48:44"), "{tracking}");
    }

    #[test]
    fn the_device_body_has_the_number() {
        let now = UNIX_EPOCH + Duration::from_secs(1_502_966_924);
        let error = HubError::new(ErrorCode::DeviceNotFound, "d");
        let body: Value = serde_json::from_slice(&error.device_body(now)).unwrap();
        assert_eq!(body["errorCode"], 404001);
        assert_eq!(body["message"], "d");
        assert_eq!(body["timestampUtc"], "2017-08-17T10:48:44Z");
        assert_eq!(
            body["trackingId"].as_str().unwrap().len(),
            32 + "-G:0-TimeStamp:08/17/2017 10:48:44".len()
        );
    }
}
