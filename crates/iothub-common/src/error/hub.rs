//! From what the hub said to an [`Error`]: HTTP answers, AMQP conditions and statuses over AMQP.

use std::fmt;

use super::hub_answer::{Answer, HubSaid, known};
use super::hub_codes::{Code, kind_of_condition, kind_of_status, may_be_applied};
use super::{Error, ErrorKind};
use crate::identity::Identity;

/// What a call was about: it words the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The hub as a whole, by host name.
    Hub(&'a str),
    /// A device.
    Device(&'a str),
    /// A module.
    Module {
        /// The device it is on.
        device: &'a str,
        /// The module.
        module: &'a str,
    },
    /// A job, by id.
    Job(&'a str),
    /// A configuration, by id.
    Configuration(&'a str),
}

impl<'a> From<&'a Identity> for Subject<'a> {
    fn from(identity: &'a Identity) -> Self {
        let device = identity.device_id();
        identity.module_id().map_or(Self::Device(device), |module| Self::Module { device, module })
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(host) => write!(f, "hub `{host}`"),
            Self::Device(device) => write!(f, "device `{device}`"),
            Self::Module { device, module } => write!(f, "module `{module}` on device `{device}`"),
            Self::Job(job) => write!(f, "job `{job}`"),
            Self::Configuration(configuration) => write!(f, "configuration `{configuration}`"),
        }
    }
}

/// The error of an HTTP answer that is not a success.
///
/// `error_code_header` is `iothub-errorcode`, a name or a number; where it and the body differ the body is
/// believed. The caller adds `Retry-After` with [`Error::with_retry_after`].
/// [`may_have_been_applied`](Error::may_have_been_applied) is set for 408, 500, 502 and 504: a caller that
/// only read takes it back.
#[must_use]
pub fn error_from_http(
    status: u16,
    error_code_header: Option<&str>,
    body: &[u8],
    subject: &Subject<'_>,
) -> Error {
    let mut answer = Answer::parse(body);
    // The body is more specific, unless it says nothing we know.
    if let Some(header) = error_code_header.map(str::trim).filter(|code| !code.is_empty())
        && answer.known_code().is_none()
        && (answer.code.is_none() || known(header).is_some())
    {
        answer.code = Some(header.to_owned());
    }
    from_status(status, answer, subject)
}

/// The error of a twin answer over AMQP whose status is not a success (amqp.md 3.8), or of a refused token.
///
/// A status no HTTP answer could have is [`ErrorKind::Protocol`].
#[must_use]
pub fn error_from_twin_status(status: i32, body: &[u8], subject: &Subject<'_>) -> Error {
    match u16::try_from(status) {
        Ok(status) => from_status(status, Answer::parse(body), subject),
        Err(_) => Error::new(ErrorKind::Protocol, format!("the hub answered {status} about {subject}")),
    }
}

fn from_status(status: u16, answer: Answer, subject: &Subject<'_>) -> Error {
    let code = answer.known_code();
    let kind = code.map_or(kind_of_status(status), |code| code.kind);
    let said = if answer.text.is_empty() { format!("status {status}") } else { answer.text.clone() };
    build(kind, code, &said, &answer, subject)
        .with_status(status)
        .with_may_have_been_applied(may_be_applied(status, code))
}

/// The error of a link, session, connection or delivery that the hub ended or refused (amqp.md 6).
///
/// The description may be JSON with `errorCode`, `trackingId` and `message`, a JSON string, or plain text. A
/// code the hub is known to use says more than the condition and decides the kind.
#[must_use]
pub fn error_from_amqp(condition: &str, description: Option<&str>, subject: &Subject<'_>) -> Error {
    let mut answer = Answer::parse(description.unwrap_or_default().as_bytes());
    let code = answer.known_code();
    let number = answer.code.as_deref().and_then(|code| code.parse().ok()).or(code.map(|code| code.number));
    let status =
        number.and_then(|number: u32| u16::try_from(number / 1000).ok()).filter(|s| (400..600).contains(s));
    let kind = match (code, kind_of_condition(condition), status) {
        (Some(code), _, _) => code.kind,
        // A condition nobody knows beside a number: the number is the hub's own.
        (None, ErrorKind::Protocol, Some(status)) => kind_of_status(status),
        (None, kind, _) => kind,
    };
    let said = if answer.text.is_empty() { condition.to_owned() } else { answer.text.clone() };
    answer.code.get_or_insert_with(|| condition.to_owned());
    let error = build(kind, code, &said, &answer, subject);
    let timed_out = condition == "com.microsoft:timeout" || condition == "amqp:internal-error";
    let maybe = timed_out || status.is_some_and(|status| may_be_applied(status, code));
    let error = error.with_may_have_been_applied(maybe);
    match status {
        Some(status) => error.with_status(status),
        None => error,
    }
}

fn build(kind: ErrorKind, code: Option<&Code>, said: &str, answer: &Answer, subject: &Subject<'_>) -> Error {
    let mut error = match advice(kind, code, subject) {
        Some(message) => Error::new(kind, message).with_source(HubSaid(said.to_owned())),
        // The hub's words are the message: nothing is left for a source.
        None => Error::new(kind, format!("the hub refused the call about {subject}: {said}")),
    };
    if let Some(name) = code.map(|code| code.name).or(answer.code.as_deref()) {
        error = error.with_hub_code(name);
    }
    if let Some(id) = &answer.tracking_id {
        error = error.with_tracking_id(id.clone());
    }
    match answer.wait() {
        Some(wait) if kind == ErrorKind::Throttled => error.with_retry_after(wait),
        _ => error,
    }
}

/// What happened and the way out; `None` where only the hub's own words help.
fn advice(kind: ErrorKind, code: Option<&Code>, subject: &Subject<'_>) -> Option<String> {
    let code = code.map_or("", |code| code.name);
    Some(match kind {
        ErrorKind::NotFound => not_found(code, subject),
        ErrorKind::AlreadyExists => already_exists(code, subject),
        ErrorKind::Unauthorized => format!(
            "the hub did not accept the credentials for {subject}; check the key and the host name in the \
             connection string, this machine's clock, and the rights of a shared access policy"
        ),
        ErrorKind::PreconditionFailed if code == "DeviceMessageLockLost" => {
            format!("the message of {subject} is no longer locked for this receiver; it will come again")
        }
        ErrorKind::PreconditionFailed => {
            format!(
                "{subject} was changed in the meantime; get it again and repeat the change with its new etag"
            )
        }
        ErrorKind::Throttled => {
            format!("the hub throttles calls such as this one about {subject}; wait, then repeat it")
        }
        ErrorKind::Timeout => format!("the hub gave up on the call about {subject} for lack of time"),
        ErrorKind::Unavailable if code == "DeviceNotOnline" => {
            format!("{subject} is not connected, or has no handler for this method")
        }
        ErrorKind::Unavailable if code == "DeviceConnectionClosedRemotely" => {
            format!("{subject} disconnected during the call")
        }
        ErrorKind::Unavailable => format!("the hub cannot serve {subject} right now; try again later"),
        _ => return None,
    })
}

fn not_found(code: &str, subject: &Subject<'_>) -> String {
    match (code, subject) {
        (_, Subject::Job(job)) => format!("there is no job `{job}` on the hub"),
        (_, Subject::Configuration(configuration)) => {
            format!("there is no configuration `{configuration}` on the hub")
        }
        ("JobNotFound", _) => "there is no such job on the hub".to_owned(),
        ("ConfigurationNotFound", _) => "there is no such configuration on the hub".to_owned(),
        ("IotHubNotFound", _) | (_, Subject::Hub(_)) => {
            format!("{subject} does not know what was asked for; check the host name and the ids")
        }
        (_, Subject::Device(device)) => {
            format!("device `{device}` not found, or disabled; create it with create_device")
        }
        ("DeviceNotFound", Subject::Module { device, module }) => format!(
            "device `{device}` of module `{module}` not found, or disabled; create it with create_device, \
             then the module with add_module"
        ),
        (_, Subject::Module { device, module }) => {
            format!("module `{module}` not found on device `{device}`; create it with add_module")
        }
    }
}

fn already_exists(code: &str, subject: &Subject<'_>) -> String {
    match (code, subject) {
        (_, Subject::Job(job)) => {
            format!("job `{job}` already exists; read it with get_job, or take another id")
        }
        (_, Subject::Configuration(configuration)) => format!(
            "configuration `{configuration}` already exists; read it with get_configuration, or change it with \
             update_configuration"
        ),
        ("JobAlreadyExists", _) => "a job with this id already exists".to_owned(),
        ("ConfigurationAlreadyExists", _) => "a configuration with this id already exists".to_owned(),
        (_, Subject::Hub(_)) => format!("it already exists on {subject}"),
        (_, Subject::Device(device)) => {
            format!(
                "device `{device}` already exists; read it with get_device, or change it with update_device"
            )
        }
        (_, Subject::Module { device, module }) => format!(
            "module `{module}` already exists on device `{device}`; read it with get_module, or change it with \
             update_module"
        ),
    }
}
