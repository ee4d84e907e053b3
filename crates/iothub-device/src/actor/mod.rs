//! The task that owns the connection: it connects, serves, and connects again until it is closed or the hub
//! refuses for good. Commands are taken and deadlines kept in every phase.

mod calls;
mod command;
mod connect;
mod pair;
mod serve;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use iothub_common::{Error, ErrorKind};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub(crate) use command::{Command, TwinOp};
pub(crate) use connect::Settings;

use crate::{client::closed_error, desired::Tracker, status::ConnectionStatus};
use calls::{Call, Calls};
use serve::{Ended, Subscribing};

/// Calls that may wait for an answer; more wait in the command queue, then in `send`.
const MAX_CALLS: usize = 1024;
/// A connection that lived this long counts as established: what comes after is a new series of attempts.
const ESTABLISHED_AFTER: Duration = Duration::from_secs(30);
/// How long the hub may take to agree to the end of the connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

pub(crate) struct Actor {
    settings: Arc<Settings>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<ConnectionStatus>,
    shutdown: CancellationToken,
    calls: Calls,
    desired: Tracker,
    subscribing: Vec<Subscribing>,
    /// What stands in the way of being connected.
    trouble: Option<Error>,
}

impl Actor {
    pub(crate) fn new(
        settings: Settings,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<ConnectionStatus>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            settings: Arc::new(settings),
            commands,
            status,
            shutdown,
            calls: Calls::default(),
            desired: Tracker::default(),
            subscribing: Vec::new(),
            trouble: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let error = self.run_until_final().await;
        match &error {
            Some(error) => tracing::warn!(identity = %self.settings.identity, %error, "gave up"),
            None => tracing::debug!(identity = %self.settings.identity, "closed"),
        }
        self.finish(error);
    }

    /// Connects and serves until there is a reason to stop: `None` when the application closed the client.
    async fn run_until_final(&mut self) -> Option<Error> {
        let mut backoff = self.settings.retry.backoff();
        let mut attempt = 0;
        let mut was_connected = false;
        loop {
            let settings = self.settings.clone();
            let error = match self.while_down(connect::connect(&settings)).await? {
                Ok(wire) => {
                    was_connected = true;
                    let since = Instant::now();
                    self.connected();
                    let error = match self.serve(wire).await {
                        Ended::Closed => return None,
                        Ended::Lost(error) => error,
                    };
                    if since.elapsed() >= ESTABLISHED_AFTER {
                        backoff.reset();
                        attempt = 0;
                    }
                    error
                }
                Err(error) if is_final(&error, was_connected) => return Some(error),
                Err(error) => error,
            };
            attempt += 1;
            let Some(wait) = backoff.next() else { return Some(error) };
            self.retrying(attempt, wait, error);
            self.while_down(sleep(wait)).await?;
        }
    }

    /// Waits for something that needs no connection, taking commands and keeping deadlines meanwhile.
    /// `None` when the client is to be closed.
    async fn while_down<F: Future>(&mut self, what: F) -> Option<F::Output> {
        let mut what = pin!(what);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                output = &mut what => return Some(output),
                command = self.commands.recv(), if self.calls.len() < MAX_CALLS => self.take(command?),
                () = wait_until(deadline) => self.expire(),
            }
        }
    }

    fn connected(&mut self) {
        self.trouble = None;
        self.status.send_replace(ConnectionStatus::Connected);
        tracing::info!(identity = %self.settings.identity, "connected");
    }

    fn retrying(&mut self, attempt: u32, wait: Duration, error: Error) {
        tracing::warn!(identity = %self.settings.identity, attempt, ?wait, %error, "not connected, trying again");
        self.trouble = Some(error.clone());
        self.status.send_replace(ConnectionStatus::Retrying { attempt, next_try: wait, error });
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Twin { op, body, deadline, reply } => {
                self.calls.push(Call { op, body, reply }, deadline)
            }
            Command::SubscribeDesired { deadline, reply } => {
                let queue = self.desired.subscribe();
                self.subscribing.push(Subscribing { queue, deadline, reply });
            }
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let subscribing = self.subscribing.iter().map(|s| s.deadline).min();
        [self.calls.next_deadline(), subscribing].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.calls.expire(now, self.trouble.as_ref());
        for late in self.subscribing.extract_if(.., |s| s.deadline <= now) {
            late.reply.send(Err(calls::timed_out(true, self.trouble.as_ref()))).ok();
        }
    }

    fn finish(&mut self, error: Option<Error>) {
        self.status.send_replace(ConnectionStatus::Closed { error: error.clone() });
        let error = error.unwrap_or_else(closed_error);
        self.calls.fail_all(&error);
        for waiting in self.subscribing.drain(..) {
            waiting.reply.send(Err(error.clone())).ok();
        }
        self.desired.end();
    }
}

/// Whether trying again is of no use. A certificate that was fine before may be so again.
fn is_final(error: &Error, was_connected: bool) -> bool {
    match error.kind() {
        ErrorKind::Unauthorized | ErrorKind::NotFound | ErrorKind::InvalidInput => true,
        ErrorKind::Certificate => !was_connected,
        _ => false,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
