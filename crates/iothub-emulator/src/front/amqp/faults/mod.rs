//! Faults: what connections do when they are told to misbehave, in process or by a message.

mod message;
mod twin;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::SystemTime;

use iothub_amqp::proto::{Connection, LinkId, SessionId};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::Symbol;
use iothub_amqp::types::definitions::{AmqpError, ConnectionError, Error, ErrorCondition, LinkError};
use iothub_common::Identity;

use self::message::Operation;
pub(super) use self::message::{Fault, read};
pub(super) use self::twin::Later;
use super::address::Endpoint;
use super::peer::{Peer, Purpose};
use super::refusal::Refusal;
use crate::hub::{Disruption, ErrorCode, LinkKind, Redirection, TelemetryRefusal};

/// Faults that wait on one connection; more are dropped.
const MAX_PLANNED: usize = 64;

/// What a message asked for on a connection and has not happened, or not ended.
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
    refused: TelemetryRefusal,
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

    fn refused(&self, identity: &Identity, now: SystemTime) -> Option<TelemetryRefusal> {
        let active = |refusing: &&Refusing| refusing.identity == *identity && refusing.until > now;
        self.refusing.iter().rev().find(active).map(|refusing| refusing.refused)
    }
}

fn telemetry_refusal(refused: TelemetryRefusal) -> Refusal {
    let text = "As asked for by fault injection.";
    match refused {
        TelemetryRefusal::Throttled => Refusal::new(
            ErrorCondition::Custom(Symbol::from("com.microsoft:device-container-throttled")),
            ErrorCode::ThrottlingException,
            text,
        ),
        TelemetryRefusal::Quota => {
            Refusal::new(AmqpError::ResourceLimitExceeded, ErrorCode::IotHubQuotaExceeded, text)
        }
        TelemetryRefusal::Unauthorized => {
            Refusal::new(AmqpError::UnauthorizedAccess, ErrorCode::IotHubUnauthorized, text)
        }
    }
}

impl Peer {
    /// What the telemetry of an identity is refused with now.
    pub(super) fn refuses_telemetry(&self, identity: &Identity) -> Option<Refusal> {
        let refused = self.faults.refused(identity, self.hub.now());
        refused.or_else(|| self.hub.faults().telemetry(identity)).map(telemetry_refusal)
    }

    /// Does what messages asked for and is due; `Break` when the connection is over with that.
    pub(super) fn do_faults(&mut self, engine: &mut Connection) -> ControlFlow<()> {
        let now = self.hub.now();
        for Planned { fault, identity, session, .. } in self.faults.take_due(now) {
            match fault.operation {
                Operation::Disrupt(disruption) => {
                    self.disrupt(engine, &identity, disruption, &fault.reason)?;
                }
                Operation::EndSession => {
                    self.hub.tally().fault(Disruption::EndSession.name());
                    self.end_session(engine, session, &fault.reason);
                }
                Operation::Refuse(refused) => {
                    self.hub.tally().fault(refused.name());
                    self.faults.refusing.push(Refusing { identity, refused, until: now + fault.duration });
                }
                Operation::Nothing => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// Does something to the connection, for the sake of one identity on it.
    pub(super) fn disrupt(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        disruption: Disruption,
        reason: &str,
    ) -> ControlFlow<()> {
        tracing::debug!(?disruption, %identity, reason, "fault injection");
        self.hub.tally().fault(disruption.name());
        match disruption {
            Disruption::DropConnection => {
                self.hang_up = true;
                return ControlFlow::Break(());
            }
            Disruption::CloseConnectionQuietly => {
                engine.close(None);
                return ControlFlow::Break(());
            }
            Disruption::CloseConnection => {
                let condition = ConnectionError::ConnectionForced.into();
                return self.close(engine, &Refusal { condition, ..because(reason) });
            }
            Disruption::EndSession => {
                for session in self.sessions_of(identity) {
                    self.end_session(engine, session, reason);
                }
            }
            Disruption::DetachLink(kind) => {
                for link in self.links_of(kind, identity) {
                    self.detach(engine, link, &because(reason));
                }
            }
            Disruption::DetachLinkQuietly(kind) => {
                for link in self.links_of(kind, identity) {
                    engine.detach(link, None);
                    self.forget(link);
                }
            }
            Disruption::StopReading(lasting) => self.deaf_until = self.hub.now().checked_add(lasting),
        }
        ControlFlow::Continue(())
    }

    fn end_session(&self, engine: &mut Connection, session: SessionId, reason: &str) {
        let condition = AmqpError::InternalError.into();
        let refusal = Refusal { condition, ..because(reason) };
        engine.end(session, Some(refusal.to_amqp(self.hub.now())));
    }

    fn sessions_of(&self, identity: &Identity) -> BTreeSet<SessionId> {
        let of_it = |purpose: &Purpose| matches!(purpose, Purpose::Identity(who, _) if who == identity);
        self.links.values().filter(|link| of_it(&link.purpose)).map(|link| link.session).collect()
    }

    fn links_of(&self, kind: LinkKind, identity: &Identity) -> Vec<LinkId> {
        let (wanted, client_sends) = match kind {
            LinkKind::TwinRequests => (Some(Endpoint::Twin), true),
            LinkKind::TwinReplies => (Some(Endpoint::Twin), false),
            LinkKind::MethodRequests => (Some(Endpoint::Methods), false),
            LinkKind::MethodAnswers => (Some(Endpoint::Methods), true),
            LinkKind::Cloud => (Some(Endpoint::DeviceBound), false),
            LinkKind::Telemetry => (Some(Endpoint::Events), true),
            LinkKind::Inputs => (Some(Endpoint::Events), false),
            LinkKind::TokenRequests => (None, true),
            LinkKind::TokenReplies => (None, false),
        };
        let matches = |purpose: &Purpose| match purpose {
            Purpose::Cbs => wanted.is_none(),
            Purpose::Identity(who, endpoint) => who == identity && wanted == Some(*endpoint),
            Purpose::Service(..) => false,
        };
        let links =
            self.links.iter().filter(|(_, link)| link.client_sends == client_sends && matches(&link.purpose));
        links.map(|(id, _)| *id).collect()
    }

    /// An identity has attached a link: whether it is sent elsewhere instead.
    pub(super) fn redirect(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        link: LinkId,
    ) -> ControlFlow<()> {
        let Some(Redirection { whole_connection, port }) = self.hub.faults().redirection(identity) else {
            return ControlFlow::Continue(());
        };
        let host = Value::String(self.hub.host_name().to_owned());
        let info = iothub_amqp::message::fields([
            ("hostname", host.clone()),
            ("network-host", host),
            ("port", Value::Ushort(port)),
        ]);
        let condition: ErrorCondition =
            if whole_connection { ConnectionError::Redirect.into() } else { LinkError::Redirect.into() };
        let error = Error::new(condition, "The hub is at another port.".to_owned(), info);
        if whole_connection {
            engine.close(Some(error));
            return ControlFlow::Break(());
        }
        engine.detach(link, Some(error));
        self.forget(link);
        ControlFlow::Continue(())
    }
}

fn because(reason: &str) -> Refusal {
    Refusal::come_back(format!("Fault injection: {reason}"))
}
