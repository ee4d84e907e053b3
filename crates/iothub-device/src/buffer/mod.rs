//! Telemetry that waits for the hub: on a bad line, and over restarts.

mod builder;
#[cfg(feature = "file-buffer")]
mod file;
mod limits;
mod memory;
mod refusal;
mod slot;
mod stats;
mod store;
mod turn;
mod window;
mod worker;

#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod turn_tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use iothub_common::{Error, ErrorKind, Result};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::unconstrained,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{DeviceClient, ModuleClient, client::Client, message::Message};

pub use builder::TelemetryBufferBuilder;
#[cfg(feature = "file-buffer")]
pub use file::FileStore;
pub use limits::WhenFull;
pub use memory::MemoryStore;
pub use refusal::RefusedMessage;
pub use stats::BufferStats;
pub use store::MessageStore;

use limits::Limits;
use turn::Push;
use worker::Control;

/// `close` ends within this time whatever store and network do.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long a store may take beyond the time of a push.
const STORE_GRACE: Duration = Duration::from_secs(5);

/// A bounded queue between the application and the hub: [`push`](Self::push) returns as soon as a message is stored,
/// connected or not, and a task of its own sends what is stored.
///
/// ```no_run
/// # async fn run(connection_string: &str) -> iothub_device::Result<()> {
/// use iothub_device::{ModuleClient, TelemetryBuffer, WhenFull};
///
/// let buffer = TelemetryBuffer::builder().max_messages(100_000).when_full(WhenFull::DropOldest).start();
/// buffer.push("21.5").await?; // stored; there need be no connection yet
///
/// let client = ModuleClient::connect(connection_string).await?;
/// buffer.send_through(&client);
/// buffer.flush().await?; // the hub has it
/// buffer.close().await;
/// # Ok(())
/// # }
/// ```
///
/// - A message leaves the store when the hub has confirmed it, never before: it arrives at least once. After a lost
///   connection, a crash or a restart some arrive twice; their ids tell.
/// - Messages are sent in the order of the pushes, many at a time. Repeats begin with the first unconfirmed message.
///   Only when the hub declines one for the moment, and takes others that are on their way, do those overtake it.
/// - Messages that the hub refuses for good leave the buffer, see
///   [`on_refused`](TelemetryBufferBuilder::on_refused).
/// - When the client is closed, by whomever, the messages wait for the next
///   [`send_through`](Self::send_through).
///
/// Cheap to clone. Must be used within a Tokio runtime. When the last clone is dropped the buffer closes as by
/// [`close`](Self::close). It keeps the client alive.
#[derive(Debug, Clone)]
pub struct TelemetryBuffer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    push_timeout: Duration,
    pushes: mpsc::Sender<Push>,
    control: mpsc::UnboundedSender<Control>,
    stats: watch::Receiver<BufferStats>,
    closing: CancellationToken,
    /// Cancelled when the store is closed.
    done: CancellationToken,
}

/// The client that a [`TelemetryBuffer`] sends through: made from a [`ModuleClient`] or a [`DeviceClient`].
#[derive(Debug, Clone)]
pub struct BufferOutlet(Client);

impl From<&ModuleClient> for BufferOutlet {
    fn from(client: &ModuleClient) -> Self {
        Self(client.inner().clone())
    }
}

impl From<&DeviceClient> for BufferOutlet {
    fn from(client: &DeviceClient) -> Self {
        Self(client.inner().clone())
    }
}

impl TelemetryBuffer {
    /// A buffer in memory, of 10,000 messages or 64 MiB, that sends through this client.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(client: impl Into<BufferOutlet>) -> Self {
        let buffer = Self::builder().start();
        buffer.send_through(client);
        buffer
    }

    /// Options, then [`TelemetryBufferBuilder::start`].
    pub fn builder() -> TelemetryBufferBuilder {
        TelemetryBufferBuilder::default()
    }

    /// Sends what is stored, and what will be, through this client instead of an earlier one.
    pub fn send_through(&self, client: impl Into<BufferOutlet>) {
        self.control(Control::SendThrough(client.into().0));
    }

    /// Stores a message. Returns once it is stored, as safely as the store does that; not once it is sent.
    ///
    /// Messages keep the order in which the futures were first polled. Dropping the future may leave the message
    /// stored.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](ErrorKind::InvalidInput), naming the part: as [`ModuleClient::send`]; or larger than the
    ///   whole buffer.
    /// - [`QuotaExceeded`](ErrorKind::QuotaExceeded): it is full, with [`WhenFull::DropNewest`].
    /// - [`Timeout`](ErrorKind::Timeout): it stayed full, with [`WhenFull::Wait`].
    /// - [`Unavailable`](ErrorKind::Unavailable): the store failed.
    /// - [`Closed`](ErrorKind::Closed): the buffer is closed.
    pub async fn push(&self, message: impl Into<Message>) -> Result<()> {
        self.store(message.into().encode(None)?).await
    }

    /// Stores a message for an output of an Edge module.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub async fn push_to_output(&self, output: &str, message: impl Into<Message>) -> Result<()> {
        self.store(message.into().encode(Some(output))?).await
    }

    /// Waits until everything that is stored now has left: sent, refused or dropped. Up to 60 s, or what
    /// [`push_timeout`](TelemetryBufferBuilder::push_timeout) says.
    ///
    /// # Errors
    ///
    /// - [`Timeout`](ErrorKind::Timeout): messages still wait, and go on doing so.
    /// - [`Closed`](ErrorKind::Closed): the buffer is closed, or was before that.
    pub async fn flush(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.control(Control::Flush(reply));
        match timeout(self.0.push_timeout, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(closed_error()),
            Err(_) => {
                let waiting = self.stats().waiting;
                let text = format!("the hub has not taken all messages in time; {waiting} wait");
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// What the buffer holds and has done. No I/O.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        *self.0.stats.borrow()
    }

    /// Stops taking and sending messages, waits for confirmations that are on their way, and closes the store.
    /// Returns what there was at the end: messages that still wait stay in a store that keeps them, and are lost with
    /// one in memory. For none to wait, [`flush`](Self::flush) first.
    ///
    /// Ends within 5 s and cannot fail. May be called any number of times. The client stays open.
    pub async fn close(&self) -> BufferStats {
        self.0.closing.cancel();
        if timeout(CLOSE_LIMIT, self.0.done.cancelled()).await.is_err() {
            tracing::warn!("the store of a telemetry buffer was not closed in time");
        }
        self.stats()
    }

    async fn store(&self, bytes: Bytes) -> Result<()> {
        let shared = &*self.0;
        if bytes.len() as u64 > shared.limits.bytes {
            return Err(shared.limits.never_fits(bytes.len()));
        }
        let deadline = Instant::now() + shared.push_timeout;
        let (reply, answer) = oneshot::channel();
        let push = shared.pushes.send(Push { bytes, deadline, reply });
        // Pushes keep the order of their first polls, see `Client::start`.
        match unconstrained(timeout_at(deadline, push)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(closed_error()),
            Err(_) => return Err(shared.limits.full_too_long()),
        }
        match timeout_at(deadline + STORE_GRACE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(closed_error()),
            Err(_) => {
                let text =
                    "the store of the telemetry buffer does not answer; the message may be stored or not";
                Err(Error::new(ErrorKind::Timeout, text).with_may_have_been_applied(true))
            }
        }
    }

    fn control(&self, control: Control) {
        // The task is gone when this fails; what was asked for is dropped, and who waits for it told by that.
        self.0.control.send(control).ok();
    }
}

fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the telemetry buffer is closed; start a new one")
}
