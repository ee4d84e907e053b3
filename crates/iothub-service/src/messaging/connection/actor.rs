//! The task: it waits until something needs a connection, connects, serves, and connects again until nothing needs
//! it any more or trying on is of no use. Commands are taken and deadlines kept in every phase.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use iothub_common::{Error, ErrorKind};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connect::connect;
use super::outbox::Outbox;
use super::receiver::Receiver;
use super::requests::Requests;
use super::serve::Ended;
use super::settlements::Settlements;
use super::{Command, Settings, closed_error, timed_out};

/// A connection that lived this long counts as established: what comes after is a new series of attempts.
const ESTABLISHED_AFTER: Duration = Duration::from_secs(30);
/// A hub that was never reached is given up after so many attempts: its name may be wrong. The same as over HTTPS.
pub(crate) const FIRST_ATTEMPTS: u32 = 4;
/// The node that answers questions (amqp.md 5.7).
const MANAGEMENT: &str = "$management";

pub(super) struct Actor {
    pub(super) settings: Arc<Settings>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Readers took messages or went, or messages got their outcomes.
    pub(super) wake: Arc<Notify>,
    pub(super) settlements: Arc<Settlements>,
    pub(super) shutdown: CancellationToken,
    pub(super) outbox: Outbox,
    pub(super) requests: Requests,
    /// By number, in the order in which they were opened.
    pub(super) receivers: BTreeMap<u64, Receiver>,
    next_receiver: u64,
    /// Connections so far.
    pub(super) connections: u64,
    /// What stands in the way of being connected.
    trouble: Option<Error>,
}

/// How a series of attempts ended.
enum Over {
    /// The application closed the connection or dropped its last handle.
    Closed,
    /// Nothing needs it at present.
    Idle,
    GaveUp(Error),
}

impl Actor {
    pub(super) fn new(
        settings: Arc<Settings>,
        commands: mpsc::Receiver<Command>,
        wake: Arc<Notify>,
        settlements: Arc<Settlements>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            outbox: Outbox::new(&settings.retry),
            requests: Requests::new(MANAGEMENT, &settings.retry),
            settings,
            commands,
            wake,
            settlements,
            shutdown,
            receivers: BTreeMap::new(),
            next_receiver: 0,
            connections: 0,
            trouble: None,
        }
    }

    pub(super) async fn run(mut self) {
        while self.until_needed().await.is_some() {
            match self.keep_up().await {
                Over::Closed => break,
                Over::Idle => {}
                Over::GaveUp(error) => {
                    tracing::warn!(endpoint = %self.settings.endpoint, %error, "gave up");
                    self.fail_all(&error, Some(&error));
                }
            }
            self.trouble = None;
        }
        tracing::debug!(endpoint = %self.settings.endpoint, "closed");
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        self.fail_all(&closed_error(), None);
        self.settle_without_connection();
    }

    /// `None` when there will be no more commands.
    async fn until_needed(&mut self) -> Option<()> {
        while !self.is_needed() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                command = self.commands.recv() => self.take(command?),
                () = self.wake.notified() => self.sweep(),
            }
        }
        Some(())
    }

    fn is_needed(&self) -> bool {
        !self.outbox.is_empty() || !self.requests.is_empty() || !self.receivers.is_empty()
    }

    async fn keep_up(&mut self) -> Over {
        let mut backoff = self.settings.retry.backoff();
        let mut attempt = 0;
        loop {
            let settings = self.settings.clone();
            let Some(connected) = self.while_down(Box::pin(connect(&settings))).await else {
                return Over::Closed;
            };
            let error = match connected {
                Ok(wire) => {
                    tracing::info!(endpoint = %settings.endpoint, "connected");
                    self.connections += 1;
                    self.trouble = None;
                    let since = Instant::now();
                    let error = match self.serve(wire).await {
                        Ended::Closed => return Over::Closed,
                        Ended::Lost(error) => error,
                    };
                    if since.elapsed() >= ESTABLISHED_AFTER {
                        backoff.reset();
                        attempt = 0;
                    }
                    error
                }
                Err(error) => error,
            };
            self.sweep();
            if !self.is_needed() {
                tracing::debug!(endpoint = %settings.endpoint, %error, "not connected, and nobody needs it");
                return Over::Idle;
            }
            attempt += 1;
            let first = self.connections == 0;
            if is_final(&error, first) || (first && attempt >= FIRST_ATTEMPTS) {
                return Over::GaveUp(error);
            }
            let Some(wait) = backoff.next() else { return Over::GaveUp(error) };
            tracing::warn!(endpoint = %settings.endpoint, attempt, ?wait, %error, "not connected, trying again");
            self.trouble = Some(error);
            if self.while_down(sleep(wait)).await.is_none() {
                return Over::Closed;
            }
        }
    }

    /// Waits for something that needs no connection, taking commands and keeping deadlines meanwhile.
    /// `None` when the connection is to be closed.
    async fn while_down<F: Future>(&mut self, what: F) -> Option<F::Output> {
        let mut what = pin!(what);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                output = &mut what => return Some(output),
                command = self.commands.recv() => self.take(command?),
                () = self.wake.notified() => self.sweep(),
                () = wait_until(deadline) => self.expire(Instant::now()),
            }
        }
    }

    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Send { payload, to, deadline, reply } => self.outbox.push(payload, to, deadline, reply),
            Command::Ask { request, deadline, reply } => self.requests.push(*request, deadline, reply),
            Command::Listen { feed, mailbox, source, deadline, reply } => {
                let opening = (deadline, reply);
                let receiver = Receiver::new(feed, mailbox, source, opening, &self.settings.retry);
                self.receivers.insert(self.next_receiver, receiver);
                self.next_receiver += 1;
            }
        }
    }

    /// Forgets links that nobody reads from, and outcomes that come too late. While there is no connection.
    fn sweep(&mut self) {
        self.receivers.retain(|_, receiver| !receiver.mailbox.is_over());
        self.settle_without_connection();
    }

    pub(super) fn settle_without_connection(&mut self) {
        for settlement in self.settlements.take() {
            if let Some((reply, _)) = settlement.waiter {
                reply.send(Err(lock_lost())).ok();
            }
        }
    }

    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let opening = self.receivers.values().filter_map(Receiver::opening_deadline).min();
        [self.outbox.next_deadline(), self.requests.next_deadline(), opening].into_iter().flatten().min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let why = self.trouble.as_ref();
        self.outbox.expire(now, why);
        self.requests.expire(now, why);
        let late: Vec<_> = self
            .receivers
            .iter()
            .filter(|(_, receiver)| receiver.opening_deadline().is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for receiver in late.into_iter().filter_map(|number| self.receivers.remove(&number)) {
            receiver.end(Some(timed_out(true, self.trouble.as_ref())));
        }
    }

    /// Ends calls with `error` and streams with `reason`.
    fn fail_all(&mut self, error: &Error, reason: Option<&Error>) {
        self.outbox.fail_all(error);
        self.requests.fail_all(error);
        for (_, receiver) in std::mem::take(&mut self.receivers) {
            receiver.end(reason.cloned());
        }
    }
}

/// Whether trying again is of no use. A certificate that was fine before may be so again.
fn is_final(error: &Error, first: bool) -> bool {
    match error.kind() {
        ErrorKind::Unauthorized | ErrorKind::NotFound | ErrorKind::InvalidInput => true,
        ErrorKind::Certificate => first,
        _ => false,
    }
}

/// The error for the outcome of a message that went back to its queue meanwhile.
pub(super) fn lock_lost() -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "the connection was lost since the message came: the hub will hand it out again",
    )
}

pub(super) async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
