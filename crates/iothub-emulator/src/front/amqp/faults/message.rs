//! Faults that clients ask for with properties of a message, as Microsoft's own tests do (amqp.md 7).

use std::time::Duration;

use iothub_amqp::message::Message;
use iothub_amqp::types::primitives::SimpleValue;

use crate::hub::{Disruption, LinkKind, TelemetryRefusal};

const OPERATION: &str = "AzIoTHub_FaultOperationType";
const REASON: &str = "AzIoTHub_FaultOperationCloseReason";
const DELAY: &str = "AzIoTHub_FaultOperationDelayInSecs";
const DURATION: &str = "AzIoTHub_FaultOperationDurationInSecs";

/// Where a test names none.
const DEFAULT_DURATION: f64 = 5.0;
/// No test wants more.
const MAX_SECONDS: f64 = 3600.0;

/// What is to happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(super) operation: Operation,
    pub(super) reason: String,
    pub(super) delay: Duration,
    pub(super) duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// As one may ask for in process.
    Disrupt(Disruption),
    /// The session of the message ends with an error.
    EndSession,
    /// Messages are refused for a while.
    Refuse(TelemetryRefusal),
    /// Known, but nothing of AMQP.
    Nothing,
}

/// The fault that a message asks for, if it does. Unknown ones do nothing.
pub(crate) fn read(message: &Message) -> Option<Fault> {
    let operation = message.application_text(OPERATION)?;
    let seconds = |name, default| {
        let given = message.application_property(name).and_then(number).unwrap_or(default);
        Duration::from_secs_f64(given.clamp(0.0, MAX_SECONDS))
    };
    Some(Fault {
        operation: Operation::parse(operation),
        reason: message.application_text(REASON).unwrap_or_default().to_owned(),
        delay: seconds(DELAY, 0.0),
        duration: seconds(DURATION, DEFAULT_DURATION),
    })
}

/// A number, which is text in all SDKs but Node's.
fn number(value: &SimpleValue) -> Option<f64> {
    match value {
        SimpleValue::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        SimpleValue::Int(number) => Some((*number).into()),
        SimpleValue::Uint(number) => Some((*number).into()),
        SimpleValue::Long(number) => Some(*number as f64),
        SimpleValue::Ulong(number) => Some(*number as f64),
        SimpleValue::Ubyte(number) => Some((*number).into()),
        SimpleValue::Byte(number) => Some((*number).into()),
        SimpleValue::Double(number) => Some(number.0).filter(|number| number.is_finite()),
        _ => None,
    }
}

impl Operation {
    /// Compared without regard to case: C writes `KillAmqpc2dLink`.
    fn parse(name: &str) -> Self {
        let link = |kind| Self::Disrupt(Disruption::DetachLink(kind));
        match name.to_ascii_lowercase().as_str() {
            "killtcp" => Self::Disrupt(Disruption::DropConnection),
            "killamqpconnection" => Self::Disrupt(Disruption::CloseConnection),
            "shutdownamqp" => Self::Disrupt(Disruption::CloseConnectionQuietly),
            "killamqpsession" => Self::EndSession,
            "killamqpcbslinkreq" => link(LinkKind::TokenRequests),
            "killamqpcbslinkresp" => link(LinkKind::TokenReplies),
            "killamqpd2clink" => link(LinkKind::Telemetry),
            "killamqpc2dlink" => link(LinkKind::Cloud),
            "killamqptwinlinkreq" => link(LinkKind::TwinRequests),
            "killamqptwinlinkresp" => link(LinkKind::TwinReplies),
            // For methods the request is towards the device.
            "killamqpmethodreqlink" => link(LinkKind::MethodRequests),
            "killamqpmethodresplink" => link(LinkKind::MethodAnswers),
            "invokethrottling" => Self::Refuse(TelemetryRefusal::Throttled),
            "invokemaxmessagequota" => Self::Refuse(TelemetryRefusal::Quota),
            "invokeautherror" => Self::Refuse(TelemetryRefusal::Unauthorized),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_amqp::message::application_properties;

    use super::*;

    fn asked(pairs: Vec<(&str, SimpleValue)>) -> Option<Fault> {
        read(&Message { application_properties: Some(application_properties(pairs)), ..Message::default() })
    }

    #[test]
    fn delays_are_text_or_numbers() {
        let text = |text: &str| SimpleValue::String(text.to_owned());
        let fault = asked(vec![
            (OPERATION, text("KillAmqpc2dLink")),
            (REASON, text("boom")),
            (DELAY, SimpleValue::Int(2)),
            (DURATION, text("20")),
        ]);
        let expected = Fault {
            operation: Operation::Disrupt(Disruption::DetachLink(LinkKind::Cloud)),
            reason: "boom".to_owned(),
            delay: Duration::from_secs(2),
            duration: Duration::from_secs(20),
        };
        assert_eq!(fault, Some(expected));
        let odd = asked(vec![(OPERATION, text("Whatever")), (DELAY, text("NaN")), (DURATION, text("-1"))]);
        let odd = odd.unwrap();
        assert_eq!(
            (odd.operation, odd.delay, odd.duration),
            (Operation::Nothing, Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(asked(vec![("temperature", text("KillTcp"))]), None);
    }
}
