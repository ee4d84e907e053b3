//! What a hub has done, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Hub;

/// What a hub has done since it started, and what is open now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counters {
    /// AMQP connections that came, TLS done, in WebSockets too; refused ones included.
    pub connections_opened: u64,
    /// Those that are there now.
    pub connections_now: u64,
    /// Links that are there now on all of them, `$cbs` included.
    pub links_now: u64,
    /// Twins that devices and modules read over AMQP.
    pub twin_gets: u64,
    /// Reported properties that were written, over AMQP.
    pub reported_patches: u64,
    /// Tokens on `$cbs` that were taken.
    pub put_tokens_accepted: u64,
    /// Tokens on `$cbs` that were not, whether they were answered or not.
    pub put_tokens_refused: u64,
    /// Messages from devices and modules that were taken, over AMQP, module outputs included.
    pub telemetry_accepted: u64,
    /// Changes of desired properties that were handed to a link.
    pub notifications_sent: u64,
    /// Faults that happened, by [`Effect::name`](super::Effect::name) and [`Disruption::name`](super::Disruption::name),
    /// those asked for in messages too (amqp.md 7), and `failover`.
    pub faults: BTreeMap<&'static str, u64>,
}

/// The numbers where they are counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections_opened: Count,
    pub(crate) connections_now: Count,
    pub(crate) links_now: Count,
    pub(crate) twin_gets: Count,
    pub(crate) reported_patches: Count,
    pub(crate) put_tokens_accepted: Count,
    pub(crate) put_tokens_refused: Count,
    pub(crate) telemetry_accepted: Count,
    pub(crate) notifications_sent: Count,
    faults: Mutex<BTreeMap<&'static str, u64>>,
}

/// A number; nobody relies on an order among several.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, fewer: u64) {
        self.0.fetch_sub(fewer, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub(crate) struct CountedConnection(Hub);

impl Tally {
    pub(crate) fn fault(&self, name: &'static str) {
        *self.faults().entry(name).or_default() += 1;
    }

    pub(super) fn faults_named(&self, name: &str) -> u64 {
        self.faults().get(name).copied().unwrap_or_default()
    }

    fn faults(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        // Nothing panics while it is held.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CountedConnection {
    pub(crate) fn new(hub: Hub) -> Self {
        hub.tally().connections_opened.add(1);
        hub.tally().connections_now.add(1);
        Self(hub)
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.tally().connections_now.take(1);
    }
}

impl Hub {
    /// What the hub has done so far. Numbers that belong together may be counted one after the other.
    pub fn counters(&self) -> Counters {
        let tally = self.tally();
        Counters {
            connections_opened: tally.connections_opened.read(),
            connections_now: tally.connections_now.read(),
            links_now: tally.links_now.read(),
            twin_gets: tally.twin_gets.read(),
            reported_patches: tally.reported_patches.read(),
            put_tokens_accepted: tally.put_tokens_accepted.read(),
            put_tokens_refused: tally.put_tokens_refused.read(),
            telemetry_accepted: tally.telemetry_accepted.read(),
            notifications_sent: tally.notifications_sent.read(),
            faults: tally.faults().clone(),
        }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.shared.tally
    }
}
