//! Direct methods: what is asked of a device, and what it answered (rest.md 7).

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::raw_json::RawJson;

/// How long a device has for its answer unless the call says otherwise; what all SDKs send.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than the two timeouts of a method the hub may take for its answer; what C# gives it.
const MARGIN: Duration = Duration::from_secs(15);

/// A method to invoke on a device or module: a name, and what shall differ from the defaults.
///
/// ```
/// use std::time::Duration;
/// use iothub_common::DirectMethod;
///
/// let method = DirectMethod::new("reboot")
///     .payload(&serde_json::json!({ "delay": 5 }))
///     .connect_timeout(Duration::from_secs(20))
///     .response_timeout(Duration::from_secs(60));
/// # let _ = method;
/// ```
#[derive(Clone, Debug)]
pub struct DirectMethod {
    name: String,
    /// That it cannot be written as JSON is told when it is sent: setters do not fail.
    payload: Option<Result<RawJson>>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl DirectMethod {
    /// A method with this name, up to 100 characters, case-sensitive; without a payload.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            payload: None,
            connect_timeout: Duration::ZERO,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }

    /// What the device gets, up to 128 KiB as JSON. Without a payload it gets `null`.
    #[must_use]
    pub fn payload(mut self, payload: &impl Serialize) -> Self {
        self.payload = Some(RawJson::new(payload));
        self
    }

    /// How long the hub waits for a device that is not connected: up to 300 s, in whole seconds (rounded up); by
    /// default not at all.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a connected device has for its answer: 5 to 300 s, in whole seconds (rounded up); 30 s by default.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// The connect and the response timeout in seconds, as they are sent.
    #[doc(hidden)]
    #[must_use]
    pub fn timeouts_in_seconds(&self) -> (u64, u64) {
        (whole_seconds(self.connect_timeout), whole_seconds(self.response_timeout))
    }

    /// Which method.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long the hub may take for its answer: both times of the method, and 15 s as C# gives it.
    #[doc(hidden)]
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.connect_timeout.saturating_add(self.response_timeout).saturating_add(MARGIN)
    }

    /// The payload to send, `null` without one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it cannot be written as JSON.
    #[doc(hidden)]
    pub fn payload_json(&self) -> Result<RawJson> {
        self.payload.clone().unwrap_or_else(|| Ok(RawJson::default()))
    }

    /// The body of a call, and of the part of a job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it has no name, or a payload that cannot be written as JSON.
    #[doc(hidden)]
    pub fn json(&self) -> Result<RawJson> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            method_name: &'a str,
            response_timeout_in_seconds: u64,
            connect_timeout_in_seconds: u64,
            payload: RawJson,
        }
        if self.name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the method has no name"));
        }
        RawJson::new(&Body {
            method_name: &self.name,
            response_timeout_in_seconds: whole_seconds(self.response_timeout),
            connect_timeout_in_seconds: whole_seconds(self.connect_timeout),
            payload: self.payload_json()?,
        })
    }
}

impl From<&str> for DirectMethod {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for DirectMethod {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// Whole seconds, rounded up.
#[doc(hidden)]
#[must_use]
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// What a device or module answered to a method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodResponse {
    /// The status that the device gave, whatever it is; 200 by convention when all went well, and 501 from device SDKs
    /// that have no handler for a method of this name.
    pub status: i32,
    /// What the device sent with it; `null` when nothing.
    #[serde(default)]
    pub payload: RawJson,
}

impl MethodResponse {
    /// An answer.
    #[doc(hidden)]
    #[must_use]
    pub fn new(status: i32, payload: RawJson) -> Self {
        Self { status, payload }
    }

    /// Whether the status is 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The payload as a type of your own.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when it does not fit the type; the source says where.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        self.payload.to()
    }
}
