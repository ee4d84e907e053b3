//! The handle that every face of a client shares.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use iothub_common::{Error, ErrorKind, Identity, Result};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actor::{Actor, Command, Settings, TwinOp},
    desired::DesiredUpdates,
    status::{ConnectionStatus, StatusChanges},
};

/// Commands on their way to the connection task before callers wait.
const COMMAND_QUEUE: usize = 64;
/// `close` ends within this time whatever the network does.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Cheap to clone; the connection lives as long as one clone does.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    identity: Identity,
    call_timeout: Duration,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<ConnectionStatus>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Client {
    /// Starts the connection task and waits until the hub accepted the identity.
    pub(crate) async fn connect(settings: Settings, connect_timeout: Duration) -> Result<Self> {
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (status, watcher) = watch::channel(ConnectionStatus::Connecting);
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let client = Self(Arc::new(Shared {
            identity: settings.identity.clone(),
            call_timeout: settings.call_timeout,
            commands,
            status: watcher,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        }));
        tasks.spawn(Actor::new(settings, receiver, status, shutdown).run());
        tasks.close();
        let mut status = client.0.status.clone();
        let settled = status.wait_for(|s| s.is_connected() || s.is_closed());
        match timeout(connect_timeout, settled).await {
            Ok(Ok(status)) => {
                if let ConnectionStatus::Closed { error } = &*status {
                    return Err(error.clone().unwrap_or_else(closed_error));
                }
            }
            Ok(Err(_)) => return Err(closed_error()),
            Err(_) => return Err(client.connect_timed_out(connect_timeout)),
        }
        Ok(client)
    }

    /// The reason of the last attempt, if one ended; the connection task ends with the handle.
    fn connect_timed_out(&self, limit: Duration) -> Error {
        match &*self.0.status.borrow() {
            ConnectionStatus::Retrying { error, .. } => error.clone(),
            _ => Error::new(
                ErrorKind::Timeout,
                format!("the hub did not accept {} within {limit:?}", self.0.identity),
            ),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.call_timeout
    }

    pub(crate) fn status(&self) -> ConnectionStatus {
        self.0.status.borrow().clone()
    }

    pub(crate) fn status_changes(&self) -> StatusChanges {
        StatusChanges::new(self.0.status.clone())
    }

    /// Waits for the end; `None` when the application closed the client.
    pub(crate) async fn closed(&self) -> Option<Error> {
        let mut status = self.0.status.clone();
        match status.wait_for(ConnectionStatus::is_closed).await.as_deref() {
            Ok(ConnectionStatus::Closed { error }) => error.clone(),
            _ => None,
        }
    }

    pub(crate) async fn close(&self) {
        self.0.shutdown.cancel();
        if timeout(CLOSE_LIMIT, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(identity = %self.0.identity, "the connection task did not end in time");
        }
    }

    /// A twin request and its answer: body and version.
    pub(crate) async fn twin(&self, op: TwinOp, body: Bytes, limit: Duration) -> Result<(Bytes, u64)> {
        let deadline = Instant::now() + limit;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Twin { op, body, deadline, reply }, deadline).await?;
        self.answer(answer).await
    }

    pub(crate) async fn subscribe_desired(&self, limit: Duration) -> Result<DesiredUpdates> {
        let deadline = Instant::now() + limit;
        let (reply, answer) = oneshot::channel();
        self.send(Command::SubscribeDesired { deadline, reply }, deadline).await?;
        let queue = self.answer(answer).await?;
        Ok(DesiredUpdates::new(queue, self.clone()))
    }

    async fn send(&self, command: Command, deadline: Instant) -> Result<()> {
        match timeout_at(deadline, self.0.commands.send(command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.closed_because()),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the call had to wait too long behind others")),
        }
    }

    /// The connection task answers at the deadline of a call at the latest.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<Result<T>, oneshot::error::RecvError>>,
    ) -> Result<T> {
        answer.await.unwrap_or_else(|_| Err(self.closed_because()))
    }

    fn closed_because(&self) -> Error {
        match &*self.0.status.borrow() {
            ConnectionStatus::Closed { error: Some(error) } => error.clone(),
            _ => closed_error(),
        }
    }
}

pub(crate) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the client is closed; connect a new one")
}
