//! Telemetry: messages to the hub, confirmed one by one, sent again after a loss (amqp.md 3.4).

use std::time::Duration;

use iothub_amqp::{
    client::link_error,
    condition,
    proto::{AttachOptions, Event, LinkId, Outcome, Outgoing},
    types::definitions::Error as AmqpError,
};
use iothub_common::{Error, ErrorKind, Identity, Result, Subject, error::error_from_amqp};
use tokio::time::Instant;

use super::{Retry, Up};
use crate::calls::{Call, Calls};

/// How long the hub may take to grant the link.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);
/// Messages handed to the connection and not confirmed. Order is kept over any number.
const MAX_IN_FLIGHT: usize = 2048;

/// A message, encoded; its kind is the message format.
pub(crate) type TelemetryCall = Call<u32, ()>;

pub(crate) struct Telemetry {
    address: String,
    link: Option<LinkId>,
    ready: bool,
    give_up_at: Option<Instant>,
    retry: Retry,
    calls: Calls<u32, ()>,
}

impl Telemetry {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            address: identity.amqp_path("messages/events"),
            link: None,
            ready: false,
            give_up_at: None,
            retry: Retry::default(),
            calls: Calls::default(),
        }
    }

    pub(crate) fn call(&mut self, call: TelemetryCall, deadline: Instant) {
        self.calls.push(call, deadline);
    }

    /// Starts whatever can be started.
    pub(crate) fn pump(&mut self, up: &mut Up<'_>) {
        let Some(link) = self.link else {
            if self.calls.is_waiting() && self.retry.may_try(Instant::now()) {
                self.retry.trying();
                self.attach(up);
            }
            return;
        };
        if !self.ready {
            return;
        }
        while self.calls.in_flight() < MAX_IN_FLIGHT {
            let Some((id, call)) = self.calls.start_next() else { return };
            let payload = call.body.clone();
            let message = Outgoing { payload, format: call.kind, tag: None, settled: false, token: id };
            up.connection.send(link, message);
        }
    }

    /// True when the event was about this link. An error concerns the whole identity.
    pub(crate) fn on_event(&mut self, up: &mut Up<'_>, event: &Event) -> Result<bool> {
        match event {
            Event::Attached { link, .. } if self.link == Some(*link) => {
                self.ready = true;
                self.give_up_at = None;
            }
            Event::Detached { link, error } if self.link == Some(*link) => {
                self.forget();
                self.on_lost(link_error(error.as_ref(), &up.subject()))?;
            }
            Event::Outcome { link, token, outcome } if self.link == Some(*link) => {
                self.on_outcome(*token, outcome, &up.subject());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        let again = self.retry.next_deadline(self.calls.is_waiting());
        [self.calls.next_deadline(), self.give_up_at, again].into_iter().flatten().min()
    }

    /// Ends calls whose time is up, connected or not.
    pub(crate) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        self.calls.expire(now, why);
    }

    pub(crate) fn on_timer(&mut self, up: &mut Up<'_>, now: Instant) -> Result<()> {
        if self.give_up_at.is_some_and(|at| at <= now) {
            if let Some(link) = self.link {
                up.connection.detach(link, None);
            }
            self.forget();
            self.on_lost(Error::new(ErrorKind::Timeout, "the hub does not answer on the telemetry link"))?;
        }
        Ok(())
    }

    /// The session is gone, and with it the link.
    pub(crate) fn session_lost(&mut self, error: &Error) {
        self.forget();
        self.retry.worked();
        self.calls.lost(error);
    }

    /// The client is closed.
    pub(crate) fn finish(&mut self, error: &Error) {
        self.calls.fail_all(error);
    }

    fn attach(&mut self, up: &mut Up<'_>) {
        let options = AttachOptions {
            properties: Some(up.sender_properties()),
            ..AttachOptions::sender(format!("telemetry-{}", uuid::Uuid::new_v4()), &self.address)
        };
        self.link = up.connection.attach(up.session, options);
        self.give_up_at = Some(Instant::now() + ATTACH_LIMIT);
        up.new_links.extend(self.link);
    }

    fn on_lost(&mut self, error: Error) -> Result<()> {
        tracing::info!(%error, "the telemetry link was lost");
        self.calls.lost(&error);
        self.retry.failed(error)
    }

    fn forget(&mut self) {
        self.link = None;
        self.ready = false;
        self.give_up_at = None;
    }

    fn on_outcome(&mut self, id: u64, outcome: &Outcome, subject: &Subject<'_>) {
        let result = match outcome {
            Outcome::Accepted => Ok(()),
            Outcome::Rejected(error) => Err(rejected(error.as_ref(), subject)),
            Outcome::Released | Outcome::Modified | Outcome::Settled => Err(not_taken()),
            // The links' end follows, and with it the decision who is sent again.
            Outcome::Lost { .. } => return,
        };
        if result.is_ok() {
            self.retry.worked();
        }
        if let Some(call) = self.calls.finish(id) {
            call.answer(result);
        }
    }
}

fn rejected(error: Option<&AmqpError>, subject: &Subject<'_>) -> Error {
    match error {
        Some(error) => error_from_amqp(&condition(error), error.description.as_deref(), subject),
        None => Error::new(ErrorKind::Rejected, "the hub rejected the message without saying why"),
    }
}

fn not_taken() -> Error {
    Error::new(ErrorKind::Unavailable, "the hub gave the message back without storing it; send it again")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_nobody_wants_is_not_due_for_ever() {
        let mut telemetry = Telemetry::new(&Identity::device("d").unwrap());
        telemetry.on_lost(Error::new(ErrorKind::Unavailable, "cut")).unwrap();
        assert_eq!(telemetry.next_deadline(), None);
    }
}
