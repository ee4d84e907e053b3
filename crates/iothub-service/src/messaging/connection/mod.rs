//! One AMQP connection of a service, opened when it is first used and kept up by one task while it is needed.
//!
//! Handles send commands; the task alone knows the connection. `actor` connects and connects again, `serve` is what
//! happens while the connection is up, the other files are the parts of it that need no connection: messages on
//! their way (`outbox`), questions (`requests`), links that receive (`receiver`, `attachment`), what they bring
//! (`mailbox`) and what becomes of it (`settlements`, `settling`).

mod actor;
mod attachment;
mod connect;
mod mailbox;
mod outbox;
mod receiver;
mod requests;
mod serve;
mod settlements;
mod settling;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use iothub_amqp::client::Endpoint;
use iothub_amqp::message::Message;
use iothub_common::{Error, ErrorKind, Identity, Result, RetryPolicy};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::actor::Actor;
use self::mailbox::Mailbox;
use self::settlements::Settlements;
use crate::credentials::Credentials;

pub(super) use self::actor::FIRST_ATTEMPTS;
pub(super) use self::mailbox::{Item, Window};
pub(super) use self::receiver::{Feed, PartitionFeed};
pub(super) use self::settlements::{Lock, Verdict};

/// Commands on their way to the connection task before callers wait.
const COMMAND_QUEUE: usize = 64;
/// `close` ends within this time whatever the network does.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// What clients call themselves.
const USER_AGENT: &str = concat!("iothub-rust/", env!("CARGO_PKG_VERSION"));

type Reply<T> = oneshot::Sender<Result<T>>;

/// What a connection is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) credentials: Credentials,
    /// The name under which tokens are shown (amqp.md 2.2).
    pub(crate) audience: String,
    pub(crate) call_timeout: Duration,
    pub(crate) retry: RetryPolicy,
}

/// Every command is answered at its deadline at the latest, connected or not.
#[derive(Debug)]
enum Command {
    Send { payload: Bytes, to: Identity, deadline: Instant, reply: Reply<()> },
    Listen { feed: Feed, mailbox: Arc<Mailbox>, source: usize, deadline: Instant, reply: Reply<()> },
    Ask { request: Box<Message>, deadline: Instant, reply: Reply<Message> },
}

/// A handle. Cheap to clone; the connection is closed when the last one goes.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

struct Shared {
    settings: Arc<Settings>,
    /// The way to the task. None before the first use.
    task: Mutex<Option<mpsc::Sender<Command>>>,
    wake: Arc<Notify>,
    settlements: Arc<Settlements>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Connection {
    /// Does nothing yet.
    pub(crate) fn new(settings: Settings) -> Self {
        let wake = Arc::new(Notify::new());
        Self(Arc::new(Shared {
            settings: Arc::new(settings),
            task: Mutex::new(None),
            settlements: Arc::new(Settlements::new(wake.clone())),
            wake,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.settings.call_timeout
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.shutdown.is_cancelled()
    }

    /// Ends everything; returns within 5 s.
    pub(crate) async fn close(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        if timeout(CLOSE_LIMIT, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(endpoint = %self.0.settings.endpoint, "the connection task did not end in time");
        }
    }

    /// Sends a message to a device or module; returns once the hub has it.
    pub(crate) async fn send(&self, payload: Bytes, to: Identity) -> Result<()> {
        let sent = self.call(|deadline, reply| Command::Send { payload, to, deadline, reply }).await;
        sent.unwrap_or_else(|unanswered| Err(unanswered.with_may_have_been_applied(true)))
    }

    /// Asks the node `$management` of the endpoint.
    pub(crate) async fn ask(&self, request: Message) -> Result<Message> {
        let request = Box::new(request);
        self.call(|deadline, reply| Command::Ask { request, deadline, reply }).await.unwrap_or_else(Err)
    }

    /// Opens a stream of what comes in on the links of `feeds`; returns once the hub has granted them all.
    pub(crate) async fn listen(&self, feeds: Vec<Feed>, window: Window) -> Result<Reader> {
        let mailbox = Arc::new(Mailbox::new(feeds.len(), window, self.0.wake.clone()));
        // From here on the links go with the reader, also when the future is dropped.
        let reader = Reader { mailbox, connection: self.clone() };
        let open = feeds.into_iter().enumerate().map(async |(source, feed)| {
            let mailbox = reader.mailbox.clone();
            let listen = |deadline, reply| Command::Listen { feed, mailbox, source, deadline, reply };
            self.call(listen).await.unwrap_or_else(Err)
        });
        futures_util::future::try_join_all(open).await?;
        Ok(reader)
    }

    /// The answer to a command; an error outside when the task took it and then went without an answer, with its
    /// runtime.
    async fn call<T>(&self, command: impl FnOnce(Instant, Reply<T>) -> Command) -> Result<Result<T>, Error> {
        let deadline = Instant::now() + self.call_timeout();
        let (reply, answer) = oneshot::channel();
        let task = match self.task() {
            Ok(task) => task,
            Err(error) => return Ok(Err(error)),
        };
        match timeout_at(deadline, task.send(command(deadline, reply))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(Err(closed_error())),
            Err(_) => {
                let message = "the call had to wait too long behind others";
                return Ok(Err(Error::new(ErrorKind::Timeout, message)));
            }
        }
        drop(task);
        answer.await.map_err(|_| closed_error())
    }

    /// The way to the task, which is started when there is none: before the first use, and when the runtime it ran
    /// on is gone.
    fn task(&self) -> Result<mpsc::Sender<Command>> {
        if self.is_closed() {
            return Err(closed_error());
        }
        let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = task.as_ref().filter(|running| !running.is_closed()) {
            return Ok(running.clone());
        }
        let (sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let shared = &*self.0;
        let actor = Actor::new(
            shared.settings.clone(),
            commands,
            shared.wake.clone(),
            shared.settlements.clone(),
            shared.shutdown.clone(),
        );
        shared.tasks.spawn(actor.run());
        *task = Some(sender.clone());
        Ok(sender)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.0.settings.endpoint).finish_non_exhaustive()
    }
}

/// What came in on the links of one [`Connection::listen`]. An item that is an error is the last one.
#[derive(Debug)]
pub(crate) struct Reader {
    mailbox: Arc<Mailbox>,
    connection: Connection,
}

impl Reader {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends the stream: the reader has told why.
    pub(crate) fn end(&self) {
        self.mailbox.end(None);
        self.mailbox.close();
    }
}

impl Stream for Reader {
    type Item = Result<Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.mailbox.poll_next(cx)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

fn closed_error() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the connection for messages was closed; get a new handle from the registry",
    )
}

/// The error for a call whose time is up. `why` is what stands in the way of being connected.
fn timed_out(sent: bool, why: Option<&Error>) -> Error {
    match why {
        Some(error) => {
            Error::new(ErrorKind::Timeout, "the hub could not be reached within the time of the call")
                .with_source(error.clone())
        }
        None if sent => Error::new(ErrorKind::Timeout, "the hub did not answer within the time of the call"),
        None => Error::new(ErrorKind::Timeout, "the call could not be sent within its time"),
    }
}
