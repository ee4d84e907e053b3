//! The task that owns a connection and the identities on it: it connects, serves, and connects again until it
//! is closed or nobody is left. Commands are taken and deadlines kept in every phase.

mod asks;
mod command;
mod member;
mod proof;
mod recovery;
mod serve;
mod timers;

use std::{collections::HashMap, future::Future, pin::pin, sync::Arc, time::Duration};

use iothub_amqp::client::Endpoint;
use iothub_common::{Error, ReconnectPolicy};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field};

pub(crate) use command::{Command, Control, Key};
pub(crate) use member::Member;

use asks::Asks;
use recovery::is_final;
use serve::Ended;
use timers::Timers;

/// One attempt, from the name to the hub's `open`.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
/// A connection that lived this long counts as established: what comes after is a new series of attempts.
const ESTABLISHED_AFTER: Duration = Duration::from_secs(30);

pub(crate) struct Actor {
    endpoint: Endpoint,
    retry: Arc<dyn ReconnectPolicy>,
    commands: mpsc::Receiver<(Key, Command)>,
    control: mpsc::UnboundedReceiver<Control>,
    members: HashMap<Key, Member>,
    timers: Timers,
    asks: Asks,
    /// Stays up without members, as a multiplexer does, until this is cancelled.
    shutdown: CancellationToken,
    ends_when_empty: bool,
}

impl Actor {
    pub(crate) fn new(
        endpoint: Endpoint,
        retry: Arc<dyn ReconnectPolicy>,
        commands: mpsc::Receiver<(Key, Command)>,
        control: mpsc::UnboundedReceiver<Control>,
        shutdown: CancellationToken,
        ends_when_empty: bool,
    ) -> Self {
        let (members, timers, asks) = (HashMap::new(), Timers::default(), Asks::default());
        Self { endpoint, retry, commands, control, members, timers, asks, shutdown, ends_when_empty }
    }

    /// Runs to the end. The first command must add a member, unless the connection stays up without any.
    pub(crate) async fn run(mut self) {
        let error = self.run_until_final().await;
        for (_, mut member) in self.members.drain() {
            member.finish(None, error.clone());
            member.done.cancel();
        }
    }

    /// `None` when the application closed everything.
    async fn run_until_final(&mut self) -> Option<Error> {
        let mut failures = 0;
        let mut was_connected = false;
        loop {
            self.wait_for_member().await?;
            let endpoint = self.endpoint.clone();
            let span = self.span(failures + 1);
            let opened = self.while_down(Box::pin(endpoint.open(ATTEMPT_LIMIT))).instrument(span.clone());
            let error = match opened.await? {
                Ok(driver) => {
                    was_connected = true;
                    let since = Instant::now();
                    let error = match self.serve(driver).instrument(span.clone()).await {
                        Ended::Closed => return None,
                        Ended::Lost(error) => error,
                    };
                    if since.elapsed() >= ESTABLISHED_AFTER {
                        failures = 0;
                    }
                    error
                }
                Err(error) if is_final(&error, was_connected) => return Some(error),
                Err(error) => error,
            };
            failures += 1;
            let Some(wait) = self.retry.next_try(failures, &error) else { return Some(error) };
            let told = span.entered();
            for (key, member) in &mut self.members {
                member.connection_lost(failures, wait, &error);
                self.timers.schedule(*key, member);
            }
            drop(told);
            self.while_down(sleep(wait)).await?;
        }
    }

    /// What happens on one connection, from the first look for its address to its end.
    fn span(&self, attempt: u32) -> Span {
        let span = tracing::info_span!(
            "connection",
            host = self.endpoint.host,
            identity = field::Empty,
            identities = field::Empty,
            attempt
        );
        match self.members.values().next() {
            Some(only) if self.members.len() == 1 => span.record("identity", field::display(&only.identity)),
            _ => span.record("identities", self.members.len()),
        };
        span
    }

    /// Nothing is dialled for nobody.
    async fn wait_for_member(&mut self) -> Option<()> {
        while self.members.is_empty() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                control = self.control.recv() => self.control_while_down(control?)?,
                // Of a client that is gone: dropped, and its caller told so by that.
                Some((key, command)) = self.commands.recv() => self.take(key, command),
            }
        }
        Some(())
    }

    /// Waits for something that needs no connection, taking commands and keeping deadlines meanwhile.
    /// `None` when there is nothing left to do.
    async fn while_down<F: Future>(&mut self, what: F) -> Option<F::Output> {
        let mut what = pin!(what);
        loop {
            let deadline = self.timers.next();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                control = self.control.recv() => self.control_while_down(control?)?,
                output = &mut what => return Some(output),
                Some((key, command)) = self.commands.recv() => self.take(key, command),
                (key, answer) = self.asks.next() => {
                    if let Some(member) = self.members.get_mut(&key) {
                        // Kept for when there is a connection.
                        member.on_provided(key, answer, None);
                    }
                }
                () = wait_until(deadline) => self.expire(),
            }
        }
    }

    fn control_while_down(&mut self, control: Control) -> Option<()> {
        match control {
            Control::Add(key, member) => drop(self.members.insert(key, *member)),
            Control::Remove(key) => {
                self.asks.forget(key);
                if let Some(mut member) = self.members.remove(&key) {
                    member.finish(None, None);
                    member.done.cancel();
                }
            }
            // Without a connection the hub knows already.
            Control::Touch(_) | Control::MethodDropped(..) | Control::Release(..) => {}
        }
        (!(self.ends_when_empty && self.members.is_empty())).then_some(())
    }

    /// A command for a member that is gone is dropped, and its caller told so by that.
    fn take(&mut self, key: Key, command: Command) {
        if let Some(member) = self.members.get_mut(&key) {
            member.take(command);
            self.timers.schedule(key, member);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(key) = self.timers.pop(now, &mut self.members) {
            if let Some(member) = self.members.get_mut(&key) {
                member.expire(now);
                self.timers.schedule(key, member);
            }
        }
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
