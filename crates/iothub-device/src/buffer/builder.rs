//! Options of a buffer.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, TelemetryBuffer,
    limits::{Limits, WhenFull},
    memory::MemoryStore,
    refusal::{OnRefused, RefusedMessage},
    stats::BufferStats,
    store::MessageStore,
    worker::{Parts, Worker},
};

/// Pushes on their way to the task before callers wait.
const PUSH_QUEUE: usize = 256;

/// Options of a [`TelemetryBuffer`]; see [`TelemetryBuffer::builder`].
#[must_use = "nothing happens until start() is called"]
pub struct TelemetryBufferBuilder {
    limits: Limits,
    when_full: WhenFull,
    push_timeout: Duration,
    max_in_flight: usize,
    on_refused: OnRefused,
    store: Box<dyn MessageStore>,
}

impl Default for TelemetryBufferBuilder {
    fn default() -> Self {
        Self {
            limits: Limits { messages: 10_000, bytes: 64 << 20 },
            when_full: WhenFull::default(),
            push_timeout: Duration::from_secs(60),
            max_in_flight: 256,
            on_refused: OnRefused::default(),
            store: Box::new(MemoryStore::new()),
        }
    }
}

impl TelemetryBufferBuilder {
    /// How many messages may wait; 10,000 by default, at least 1.
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.limits.messages = messages.max(1);
        self
    }

    /// How many bytes may wait, encoded as they travel, which is a little more than bodies and properties; 64 MiB
    /// by default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// What happens to a message for which there is no room; it waits by default.
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// How long a push may wait for room, and a flush for the hub; 60 s by default.
    pub fn push_timeout(mut self, limit: Duration) -> Self {
        self.push_timeout = limit;
        self
    }

    /// How many messages may be on their way to the hub, and in memory for that; 256 by default, at least 1, at
    /// most 1024.
    pub fn max_in_flight(mut self, messages: usize) -> Self {
        self.max_in_flight = messages.clamp(1, 1024);
        self
    }

    /// Where messages wait; in memory by default. What is in the store already is sent first.
    pub fn store(mut self, store: impl MessageStore) -> Self {
        self.store = Box::new(store);
        self
    }

    /// Is told of messages that the hub refused for good: malformed, too large, not allowed. They leave the buffer,
    /// so that others are not held up; without this they are only logged. After a crash the same message may be told
    /// again.
    ///
    /// Called in the task of the buffer, so it should be quick: pass the message on.
    pub fn on_refused(mut self, tell: impl Fn(RefusedMessage) + Send + Sync + 'static) -> Self {
        self.on_refused = OnRefused::new(tell);
        self
    }

    /// Starts the buffer. Messages wait until it is told through [which client](TelemetryBuffer::send_through).
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn start(self) -> TelemetryBuffer {
        let (pushes, push_receiver) = mpsc::channel(PUSH_QUEUE);
        let (control, control_receiver) = mpsc::unbounded_channel();
        let (stats, stats_receiver) = watch::channel(BufferStats::default());
        let (closing, done) = (CancellationToken::new(), CancellationToken::new());
        let worker = Worker::new(Parts {
            limits: self.limits,
            when_full: self.when_full,
            on_refused: self.on_refused,
            store: self.store,
            max_in_flight: self.max_in_flight,
            pushes: push_receiver,
            control: control_receiver,
            closing: closing.clone(),
            stats,
            done: done.clone().drop_guard(),
        });
        tokio::spawn(worker.run());
        TelemetryBuffer(Arc::new(Shared {
            limits: self.limits,
            push_timeout: self.push_timeout,
            pushes,
            control,
            stats: stats_receiver,
            closing,
            done,
        }))
    }
}

impl std::fmt::Debug for TelemetryBufferBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelemetryBufferBuilder")
            .field("limits", &self.limits)
            .field("when_full", &self.when_full)
            .field("push_timeout", &self.push_timeout)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}
