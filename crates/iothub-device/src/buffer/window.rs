//! Messages on their way to the hub, in order.

use std::{
    collections::VecDeque,
    future::ready,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use iothub_common::Result;

use crate::{client::Client, telemetry};

/// How long the client keeps a message without an outcome. The buffer itself notices earlier when nothing moves.
const KEPT: Duration = Duration::from_secs(300);

type Answer = BoxFuture<'static, Result<()>>;

/// Messages handed to the client, and those that are about to be. Outcomes come in the order of the messages, so
/// what is left is always what followed the last one.
pub(super) struct Window {
    max: usize,
    /// Read, and not yet handed over.
    ready: VecDeque<(u64, Bytes)>,
    entering: Option<(u64, Bytes, BoxFuture<'static, Result<Answer>>)>,
    in_flight: VecDeque<(u64, Bytes, Answer)>,
}

/// What became of a message.
pub(super) struct Outcome {
    pub(super) position: u64,
    pub(super) message: Bytes,
    pub(super) result: Result<()>,
}

impl Window {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ready: VecDeque::new(), entering: None, in_flight: VecDeque::new() }
    }

    /// How many more messages are wanted.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.ready.len() + self.in_flight())
    }

    /// How many messages the client has.
    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.entering.is_some()) + self.in_flight.len()
    }

    /// Whether nothing can come from the hub.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight() == 0
    }

    pub(super) fn extend(&mut self, messages: impl IntoIterator<Item = (u64, Bytes)>) {
        self.ready.extend(messages);
    }

    /// The oldest message in it.
    pub(super) fn first(&self) -> Option<u64> {
        let in_flight = self.in_flight.front().map(|(position, ..)| *position);
        let entering = self.entering.as_ref().map(|(position, ..)| *position);
        in_flight.or(entering).or_else(|| self.ready.front().map(|(position, _)| *position))
    }

    /// Hands over nothing more. Returns the oldest message that was to be.
    pub(super) fn hold(&mut self) -> Option<u64> {
        let first = self.ready.front().map(|(position, _)| *position);
        self.ready.clear();
        first
    }

    /// Lets go of everything, the last first: the client sends none of them that it has not sent, and never one
    /// without those before it. Returns the oldest.
    pub(super) fn clear(&mut self) -> Option<u64> {
        let first = self.first();
        self.ready.clear();
        self.entering = None;
        while self.in_flight.pop_back().is_some() {}
        first
    }

    /// These, in order, have left the store.
    pub(super) fn forget(&mut self, positions: &[u64]) {
        let gone = |position: &u64| positions.binary_search(position).is_ok();
        self.ready.retain(|(position, _)| !gone(position));
        if self.entering.as_ref().is_some_and(|(position, ..)| gone(position)) {
            self.entering = None;
        }
        self.in_flight.retain(|(position, ..)| !gone(position));
    }

    /// The outcome of the oldest message. With a client more are handed over to it. Nothing is lost when this is
    /// not polled on.
    pub(super) fn poll_outcome(&mut self, client: Option<&Client>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(client) = client {
            self.hand_over(client, cx);
        }
        let Some((.., answer)) = self.in_flight.front_mut() else { return Poll::Pending };
        let Poll::Ready(result) = answer.poll_unpin(cx) else { return Poll::Pending };
        // It was there above.
        let Some((position, message, _)) = self.in_flight.pop_front() else { return Poll::Pending };
        Poll::Ready(Outcome { position, message, result })
    }

    fn hand_over(&mut self, client: &Client, cx: &mut Context<'_>) {
        loop {
            if let Some((position, message, mut entering)) = self.entering.take() {
                let Poll::Ready(result) = entering.poll_unpin(cx) else {
                    self.entering = Some((position, message, entering));
                    return;
                };
                let answer = result.unwrap_or_else(|error| ready(Err(error)).boxed());
                self.in_flight.push_back((position, message, answer));
            }
            let Some((position, message)) = self.ready.pop_front() else { return };
            let entering = telemetry::start(client.clone(), message.clone(), KEPT).boxed();
            self.entering = Some((position, message, entering));
        }
    }
}
