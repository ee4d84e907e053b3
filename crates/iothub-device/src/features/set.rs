//! All features of one identity, asked one after the other.

use iothub_amqp::proto::Event;
use iothub_common::{Error, Identity, Result};
use tokio::time::Instant;

use super::{Inbox, Methods, Telemetry, TwinLinks, Up};
use crate::{actor::Command, client::Which};

/// What the identity does on its session.
pub(crate) struct Features {
    pub(crate) twin: TwinLinks,
    pub(crate) telemetry: Telemetry,
    pub(crate) methods: Methods,
    cloud: Inbox,
    inputs: Inbox,
}

impl Features {
    pub(crate) fn new(identity: &Identity, prefetch: u32) -> Self {
        Self {
            twin: TwinLinks::new(identity),
            telemetry: Telemetry::new(identity),
            methods: Methods::new(identity),
            cloud: Inbox::new(identity, "messages/devicebound", "messages from the cloud", prefetch),
            inputs: Inbox::new(identity, "messages/events", "inputs", prefetch),
        }
    }

    pub(crate) fn inbox(&mut self, which: Which) -> &mut Inbox {
        match which {
            Which::Cloud => &mut self.cloud,
            Which::Inputs => &mut self.inputs,
        }
    }

    pub(crate) fn take(&mut self, command: Command) {
        match command {
            Command::Twin { call, deadline } => self.twin.call(call, deadline),
            Command::SubscribeDesired { deadline, reply } => self.twin.subscribe(deadline, reply),
            Command::Send { call, deadline } => self.telemetry.call(call, deadline),
            Command::SubscribeMethods { name, deadline, reply } => {
                self.methods.subscribe(name, deadline, reply);
            }
            Command::AnswerMethod { call, deadline } => self.methods.answer(call, deadline),
            Command::Receive { which, input, deadline, reply } => {
                self.inbox(which).subscribe(input, deadline, reply);
            }
            Command::Settle { which, call, deadline } => self.inbox(which).settle(call, deadline),
        }
    }

    /// An error concerns the whole identity.
    pub(crate) fn on_event(&mut self, up: &mut Up<'_>, event: &Event) -> Result<()> {
        let _handled = self.twin.on_event(up, event)?
            || self.telemetry.on_event(up, event)?
            || self.methods.on_event(up, event)?
            || self.cloud.on_event(up, event)?
            || self.inputs.on_event(up, event)?;
        Ok(())
    }

    pub(crate) fn pump(&mut self, up: &mut Up<'_>) {
        self.twin.pump(up);
        self.telemetry.pump(up);
        self.methods.pump(up);
        self.cloud.pump(up);
        self.inputs.pump(up);
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        [
            self.twin.next_deadline(),
            self.telemetry.next_deadline(),
            self.methods.next_deadline(),
            self.cloud.next_deadline(),
            self.inputs.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        self.twin.expire(now, why);
        self.telemetry.expire(now, why);
        self.methods.expire(now, why);
        self.cloud.expire(now, why);
        self.inputs.expire(now, why);
    }

    pub(crate) fn on_timer(&mut self, up: &mut Up<'_>, now: Instant) -> Result<()> {
        self.twin.on_timer(up, now)?;
        self.telemetry.on_timer(up, now)?;
        self.methods.on_timer(up, now)?;
        self.cloud.on_timer(up, now)?;
        self.inputs.on_timer(up, now)
    }

    pub(crate) fn session_lost(&mut self, error: &Error) {
        self.twin.session_lost(error);
        self.telemetry.session_lost(error);
        self.methods.session_lost(error);
        self.cloud.session_lost();
        self.inputs.session_lost();
    }

    pub(crate) fn finish(&mut self, error: &Error) {
        self.twin.finish(error);
        self.telemetry.finish(error);
        self.methods.finish(error);
        self.cloud.finish(error);
        self.inputs.finish(error);
    }
}
