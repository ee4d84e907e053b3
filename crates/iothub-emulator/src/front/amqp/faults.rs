//! Faults that clients ask for with properties of a message, as Microsoft's own tests do (amqp.md 7).

use std::time::{Duration, SystemTime};

use iothub_amqp::message::Message;
use iothub_amqp::proto::{Connection, LinkId, SessionId};
use iothub_amqp::serde_amqp::primitives::Symbol;
use iothub_amqp::types::definitions::{AmqpError, ConnectionError, ErrorCondition};
use iothub_amqp::types::primitives::SimpleValue;
use iothub_common::Identity;

use super::address::Endpoint;
use super::peer::{Peer, Purpose};
use super::refusal::Refusal;
use crate::hub::ErrorCode;

const OPERATION: &str = "AzIoTHub_FaultOperationType";
const REASON: &str = "AzIoTHub_FaultOperationCloseReason";
const DELAY: &str = "AzIoTHub_FaultOperationDelayInSecs";
const DURATION: &str = "AzIoTHub_FaultOperationDurationInSecs";

/// Where a test names none.
const DEFAULT_DURATION: f64 = 5.0;
/// No test wants more.
const MAX_SECONDS: f64 = 3600.0;
/// Faults that wait on one connection; more are dropped.
const MAX_PLANNED: usize = 64;

/// What is to happen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    operation: Operation,
    reason: String,
    delay: Duration,
    duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// The socket goes.
    KillTcp,
    /// The connection is closed, with an error or without.
    Close { graceful: bool },
    /// The session of the message ends with an error.
    EndSession,
    /// A link is detached with an error.
    Detach { of: Target, client_sends: bool },
    /// Messages are refused for a while.
    Refuse(Refused),
    /// Known, but nothing of AMQP.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Cbs,
    Endpoint(Endpoint),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Throttling,
    Quota,
    Auth,
}

/// What was asked for on a connection and has not happened, or not ended.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Planned>,
    refusing: Vec<Refusing>,
}

#[derive(Debug)]
struct Planned {
    at: SystemTime,
    fault: Fault,
    identity: Identity,
    session: SessionId,
}

#[derive(Debug)]
struct Refusing {
    identity: Identity,
    refused: Refused,
    until: SystemTime,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault, identity: &Identity, session: SessionId, now: SystemTime) {
        if self.planned.len() < MAX_PLANNED {
            let at = now + fault.delay;
            self.planned.push(Planned { at, fault, identity: identity.clone(), session });
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<SystemTime> {
        self.planned.iter().map(|planned| planned.at).min()
    }

    fn take_due(&mut self, now: SystemTime) -> Vec<Planned> {
        self.refusing.retain(|refusing| refusing.until > now);
        self.planned.extract_if(.., |planned| planned.at <= now).collect()
    }

    /// What the messages of an identity are refused with now.
    pub(super) fn refusal(&self, identity: &Identity, now: SystemTime) -> Option<Refusal> {
        let active = |refusing: &&Refusing| refusing.identity == *identity && refusing.until > now;
        self.refusing.iter().rev().find(active).map(|refusing| refusing.refused.refusal())
    }
}

impl Refused {
    fn refusal(self) -> Refusal {
        let text = "As asked for by a fault injection message.";
        match self {
            Self::Throttling => Refusal::new(
                ErrorCondition::Custom(Symbol::from("com.microsoft:device-container-throttled")),
                ErrorCode::ThrottlingException,
                text,
            ),
            Self::Quota => {
                Refusal::new(AmqpError::ResourceLimitExceeded, ErrorCode::IotHubQuotaExceeded, text)
            }
            Self::Auth => Refusal::new(AmqpError::UnauthorizedAccess, ErrorCode::IotHubUnauthorized, text),
        }
    }
}

/// The fault that a message asks for, if it does. Unknown ones do nothing.
pub(super) fn read(message: &Message) -> Option<Fault> {
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
        let link = |endpoint, client_sends| Self::Detach { of: Target::Endpoint(endpoint), client_sends };
        match name.to_ascii_lowercase().as_str() {
            "killtcp" => Self::KillTcp,
            "killamqpconnection" => Self::Close { graceful: false },
            "shutdownamqp" => Self::Close { graceful: true },
            "killamqpsession" => Self::EndSession,
            "killamqpcbslinkreq" => Self::Detach { of: Target::Cbs, client_sends: true },
            "killamqpcbslinkresp" => Self::Detach { of: Target::Cbs, client_sends: false },
            "killamqpd2clink" => link(Endpoint::Events, true),
            "killamqpc2dlink" => link(Endpoint::DeviceBound, false),
            "killamqptwinlinkreq" => link(Endpoint::Twin, true),
            "killamqptwinlinkresp" => link(Endpoint::Twin, false),
            // For methods the request is towards the device.
            "killamqpmethodreqlink" => link(Endpoint::Methods, false),
            "killamqpmethodresplink" => link(Endpoint::Methods, true),
            "invokethrottling" => Self::Refuse(Refused::Throttling),
            "invokemaxmessagequota" => Self::Refuse(Refused::Quota),
            "invokeautherror" => Self::Refuse(Refused::Auth),
            _ => Self::Nothing,
        }
    }
}

impl Peer {
    /// Does what is due; true when the connection is over with that.
    pub(super) fn do_faults(&mut self, engine: &mut Connection) -> bool {
        let now = self.hub.now();
        for Planned { fault, identity, session, .. } in self.faults.take_due(now) {
            tracing::debug!(?fault, %identity, "fault injection");
            let reason = Refusal::come_back(format!("Fault injection: {}", fault.reason));
            match fault.operation {
                Operation::KillTcp => {
                    self.hang_up = true;
                    return true;
                }
                Operation::Close { graceful: true } => {
                    engine.close(None);
                    return true;
                }
                Operation::Close { graceful: false } => {
                    let condition = ConnectionError::ConnectionForced.into();
                    return self.close(engine, &Refusal { condition, ..reason }).is_break();
                }
                Operation::EndSession => {
                    let condition = AmqpError::InternalError.into();
                    engine.end(session, Some(Refusal { condition, ..reason }.to_amqp(now)));
                }
                Operation::Detach { of, client_sends } => {
                    for link in self.links_of(of, client_sends, &identity) {
                        self.detach(engine, link, &reason);
                    }
                }
                Operation::Refuse(refused) => {
                    self.faults.refusing.push(Refusing { identity, refused, until: now + fault.duration });
                }
                Operation::Nothing => {}
            }
        }
        false
    }

    fn links_of(&self, of: Target, client_sends: bool, identity: &Identity) -> Vec<LinkId> {
        let matches = |purpose: &Purpose| match (purpose, of) {
            (Purpose::Cbs, Target::Cbs) => true,
            (Purpose::Identity(who, endpoint), Target::Endpoint(target)) => {
                who == identity && *endpoint == target
            }
            _ => false,
        };
        let links =
            self.links.iter().filter(|(_, link)| link.client_sends == client_sends && matches(&link.purpose));
        links.map(|(id, _)| *id).collect()
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
            operation: Operation::Detach { of: Target::Endpoint(Endpoint::DeviceBound), client_sends: false },
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
