//! The task that owns a buffer's store and sends from it.

use std::{
    collections::{BTreeSet, VecDeque},
    future::{pending, poll_fn},
    time::Duration,
};

use bytes::Bytes;
use iothub_common::{Error, ReconnectPolicy, RetryPolicy};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    closed_error,
    limits::{Limits, Load, WhenFull},
    refusal::{Doubts, OnRefused},
    slot::Slot,
    stats::BufferStats,
    store::MessageStore,
    turn::{Done, Push, Read, Turn},
    window::{Outcome, Window},
};
use crate::{client::Client, measure, status::ConnectionStatus};

/// Pushes that share a turn, and that wait for room before those after them wait where they are.
const MAX_PUSHES: usize = 256;
/// Messages read in one go.
const READ_STEP: usize = 64;
/// Silence of a connected hub after which everything unconfirmed is sent again.
const SILENCE: Duration = Duration::from_secs(60);
/// After trouble with the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long the end waits for confirmations that are on their way.
const LAST_CONFIRMATIONS: Duration = Duration::from_secs(3);

/// What handles ask for besides pushing.
pub(super) enum Control {
    SendThrough(Client),
    /// Answered once everything that is stored now has left.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Worker {
    limits: Limits,
    when_full: WhenFull,
    on_refused: OnRefused,
    pushes: mpsc::Receiver<Push>,
    control: mpsc::UnboundedReceiver<Control>,
    closing: CancellationToken,
    stats: watch::Sender<BufferStats>,
    counts: BufferStats,
    gauge: measure::Waiting,
    slot: Slot,
    store_pause: Option<Instant>,
    /// What the store held after the last turn, and the position after all of it.
    load: Load,
    end: u64,
    /// Pushes for the next turn.
    next_pushes: VecDeque<Push>,
    /// The first of them found no room.
    stuck: bool,
    /// Messages that the hub has, or refused for good, to be removed.
    settled: BTreeSet<u64>,
    client: Option<Client>,
    status: Option<watch::Receiver<ConnectionStatus>>,
    window: Window,
    /// The message to read next.
    next_read: u64,
    /// The hub took a message for no good now; nothing is sent until then, nor before all are settled.
    held_until: Option<Instant>,
    failures: u32,
    doubts: Doubts,
    /// When something last came from the hub.
    heard_at: Instant,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    _done: DropGuard,
}

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) limits: Limits,
    pub(super) when_full: WhenFull,
    pub(super) on_refused: OnRefused,
    pub(super) store: Box<dyn MessageStore>,
    pub(super) max_in_flight: usize,
    pub(super) pushes: mpsc::Receiver<Push>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    pub(super) closing: CancellationToken,
    pub(super) stats: watch::Sender<BufferStats>,
    pub(super) done: DropGuard,
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Self {
        let store = parts.store;
        let mut worker = Self {
            limits: parts.limits,
            when_full: parts.when_full,
            on_refused: parts.on_refused,
            pushes: parts.pushes,
            control: parts.control,
            closing: parts.closing,
            stats: parts.stats,
            counts: BufferStats::default(),
            gauge: measure::Waiting::new(),
            store_pause: None,
            load: Load { messages: store.len(), bytes: store.bytes() },
            end: store.end(),
            slot: Slot::new(store),
            next_pushes: VecDeque::new(),
            stuck: false,
            settled: BTreeSet::new(),
            client: None,
            status: None,
            window: Window::new(parts.max_in_flight),
            next_read: 0,
            held_until: None,
            failures: 0,
            doubts: Doubts::default(),
            heard_at: Instant::now(),
            flushes: Vec::new(),
            _done: parts.done,
        };
        worker.publish();
        worker
    }

    pub(super) async fn run(mut self) {
        while self.step().await.is_some() {}
        self.wind_up().await;
    }

    /// `None` at the end.
    async fn step(&mut self) -> Option<()> {
        self.resume();
        self.start_turn();
        self.publish();
        let deadline = self.next_deadline();
        let connected = self.is_connected();
        let client = self.client.as_ref().filter(|_| connected);
        tokio::select! {
            biased;
            () = self.closing.cancelled() => return None,
            Some(control) = self.control.recv() => self.on_control(control),
            done = self.slot.next() => self.on_turn(done?),
            alive = changed(self.status.as_mut()) => self.on_status(alive),
            outcome = poll_fn(|cx| self.window.poll_outcome(client, cx)) => self.on_outcome(outcome),
            push = self.pushes.recv(), if self.next_pushes.len() < MAX_PUSHES => self.on_push(push?),
            () = wait_until(deadline) => self.on_timer(Instant::now()),
        }
        Some(())
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::SendThrough(client) => {
                self.rewind();
                self.status = Some(client.watch_status());
                self.client = Some(client);
                (self.held_until, self.failures, self.heard_at) = (None, 0, Instant::now());
            }
            Control::Flush(reply) => self.flushes.push((self.end, reply)),
        }
    }

    fn on_push(&mut self, push: Push) {
        self.next_pushes.push_back(push);
        while self.next_pushes.len() < MAX_PUSHES
            && let Ok(push) = self.pushes.try_recv()
        {
            self.next_pushes.push_back(push);
        }
    }

    /// Gives the store something to do, when it has nothing and there is something.
    fn start_turn(&mut self) {
        if self.slot.is_busy() || self.store_pause.is_some() {
            return;
        }
        let stuck = self.stuck && self.settled.is_empty();
        let pushes = if stuck { VecDeque::new() } else { std::mem::take(&mut self.next_pushes) };
        let read = self.wanted_read();
        if self.settled.is_empty() && pushes.is_empty() && read.is_none() {
            return;
        }
        let remove = self.settled.iter().copied().collect();
        let (limits, when_full) = (self.limits, self.when_full);
        self.slot.start(Turn { limits, when_full, remove, pushes, read });
    }

    /// Messages are read when they can be sent.
    fn wanted_read(&self) -> Option<Read> {
        let max = self.window.room().min(READ_STEP);
        let wanted = max > 0 && self.next_read < self.end && self.held_until.is_none() && self.is_connected();
        wanted.then_some(Read { from: self.next_read, max })
    }

    fn on_turn(&mut self, done: Done) {
        for position in done.removed {
            self.settled.remove(&position);
        }
        self.window.forget(&done.dropped);
        // What was settled meanwhile was dropped for nothing, but not lost.
        let lost = done.dropped.iter().filter(|position| !self.settled.remove(position)).count() as u64;
        let lost = lost + done.turned_away;
        self.counts.dropped += lost;
        self.counts.pushed += done.pushed;
        measure::buffer_dropped(lost);
        self.stuck = !done.blocked.is_empty();
        let later = std::mem::replace(&mut self.next_pushes, done.blocked);
        self.next_pushes.extend(later);
        (self.load, self.end) = (done.load, done.end);
        if let Some((read, found)) = done.read {
            self.on_read(read, found);
        }
        if let Some(error) = done.trouble {
            tracing::warn!(%error, "trouble with the store of a telemetry buffer, trying again");
            self.store_pause = Some(Instant::now() + STORE_PAUSE);
        }
        // Who was told finds it so when it looks.
        self.publish();
        done.ended.into_iter().for_each(|(push, result)| push.answer(result));
    }

    fn on_read(&mut self, read: Read, found: Vec<(u64, Bytes)>) {
        // Something made it begin anew meanwhile.
        if read.from != self.next_read || self.held_until.is_some() {
            return;
        }
        self.next_read = match found.last() {
            Some((last, _)) if found.len() == read.max => last + 1,
            _ => self.end,
        };
        if self.window.is_idle() {
            self.heard_at = Instant::now();
        }
        self.window.extend(found.into_iter().filter(|(position, _)| !self.settled.contains(position)));
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        let Outcome { position, message, result } = outcome;
        self.heard_at = Instant::now();
        let Err(error) = result else {
            self.failures = 0;
            self.counts.sent += 1;
            measure::sent(1);
            self.settled.insert(position);
            return;
        };
        if self.client.as_ref().is_none_or(|client| client.status().is_closed()) {
            self.next_read = self.next_read.min(position);
            return self.on_client_closed();
        }
        if self.doubts.is_final(position, &error) {
            self.on_refused.tell(&message, error);
            self.counts.refused += 1;
            measure::buffer_refused();
            self.settled.insert(position);
            return;
        }
        self.hold(position, &error);
    }

    /// The hub does not take the message for now. What is on its way is waited for; then it is sent again, with
    /// those that follow.
    fn hold(&mut self, position: u64, error: &Error) {
        self.next_read = self.next_read.min(position).min(self.window.hold().unwrap_or(u64::MAX));
        if self.held_until.is_none() {
            self.failures += 1;
            let policy = RetryPolicy::default();
            let wait = policy.next_try(self.failures, error).unwrap_or(policy.ceiling);
            tracing::info!(%error, ?wait, "the hub does not take buffered messages, trying again");
            self.held_until = Some(Instant::now() + wait);
        }
    }

    fn resume(&mut self) {
        if self.held_until.is_some_and(|until| until <= Instant::now()) && self.window.is_idle() {
            self.held_until = None;
        }
    }

    fn on_status(&mut self, alive: bool) {
        match self.status.as_ref().filter(|_| alive).map(|status| status.borrow().clone()) {
            Some(ConnectionStatus::Connected) => self.heard_at = Instant::now(),
            Some(ConnectionStatus::Closed { .. }) | None => self.on_client_closed(),
            // What the hub has not confirmed is sent again once it is back.
            Some(_) => self.rewind(),
        }
    }

    fn on_client_closed(&mut self) {
        self.rewind();
        (self.client, self.status) = (None, None);
        tracing::debug!("the client of a telemetry buffer is closed; its messages wait for another one");
    }

    /// Everything without an outcome is to be sent again.
    fn rewind(&mut self) {
        self.next_read = self.next_read.min(self.window.clear().unwrap_or(u64::MAX));
    }

    fn is_connected(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.borrow().is_connected())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let push = self.next_pushes.front().filter(|_| self.stuck).map(|push| push.deadline);
        let silence = (self.is_connected() && !self.window.is_idle()).then(|| self.heard_at + SILENCE);
        // Once it has passed, an outcome is what is waited for.
        let held = self.held_until.filter(|_| self.window.is_idle());
        [push, silence, held, self.store_pause].into_iter().flatten().min()
    }

    fn on_timer(&mut self, now: Instant) {
        self.store_pause = self.store_pause.filter(|until| *until > now);
        while self.stuck && self.next_pushes.front().is_some_and(|push| push.deadline <= now) {
            if let Some(push) = self.next_pushes.pop_front() {
                push.answer(Err(self.limits.full_too_long()));
            }
            // The next one may be smaller.
            self.stuck = self.next_pushes.front().is_some_and(|push| push.deadline <= now);
        }
        if !self.window.is_idle() && self.is_connected() && self.heard_at + SILENCE <= now {
            tracing::warn!("the hub confirms no messages, sending them again");
            self.rewind();
            self.heard_at = now;
        }
    }

    /// Tells how it stands, and who waits for the messages to leave.
    fn publish(&mut self) {
        self.counts.waiting = self.load.messages.saturating_sub(self.settled.len());
        self.counts.waiting_bytes = self.load.bytes;
        self.counts.in_flight = self.window.in_flight();
        let counts = self.counts;
        self.gauge.set(counts.waiting);
        self.stats.send_if_modified(|stats| std::mem::replace(stats, counts) != counts);
        if self.flushes.is_empty() {
            return;
        }
        let unsent = self.window.first().unwrap_or(u64::MAX).min(self.next_read);
        let oldest = self.settled.first().copied().unwrap_or(u64::MAX).min(unsent);
        let empty = self.load.messages == 0;
        for (_, reply) in self.flushes.extract_if(.., |(end, _)| empty || *end <= oldest) {
            reply.send(()).ok();
        }
    }

    /// The end: takes nothing more, sends nothing more, waits a moment for what is on its way.
    async fn wind_up(mut self) {
        self.pushes.close();
        self.window.hold();
        let limit = Instant::now() + LAST_CONFIRMATIONS;
        while self.is_connected() && !self.window.is_idle() {
            tokio::select! {
                biased;
                () = sleep_until(limit) => break,
                done = self.slot.next() => match done {
                    Some(done) => self.on_turn(done),
                    None => break,
                },
                alive = changed(self.status.as_mut()) => self.on_status(alive),
                outcome = poll_fn(|cx| self.window.poll_outcome(None, cx)) => self.on_outcome(outcome),
            }
        }
        if self.slot.is_busy()
            && let Some(done) = self.slot.next().await
        {
            self.on_turn(done);
        }
        while let Ok(push) = self.pushes.try_recv() {
            self.next_pushes.push_back(push);
        }
        self.next_pushes.drain(..).for_each(|push| push.answer(Err(closed_error())));
        if !self.settled.is_empty() {
            let remove = self.settled.iter().copied().collect();
            let (limits, when_full, pushes) = (self.limits, self.when_full, VecDeque::new());
            self.slot.start(Turn { limits, when_full, remove, pushes, read: None });
            if let Some(done) = self.slot.next().await {
                self.on_turn(done);
            }
        }
        self.window.clear();
        self.publish();
        tracing::debug!(waiting = self.counts.waiting, "a telemetry buffer is closed");
        // The store is closed when this is told.
        drop(self.slot);
    }
}

/// The next change of the status; false when there will be none.
async fn changed(status: Option<&mut watch::Receiver<ConnectionStatus>>) -> bool {
    match status {
        Some(status) => status.changed().await.is_ok(),
        None => pending().await,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
