//! Through the `metrics` facade. Every name is in docs/metrics.md.

use std::time::Instant;

use iothub_common::Error;
use metrics::{counter, gauge, histogram};

/// A call that is under way.
pub(super) struct Timer {
    name: &'static str,
    since: Instant,
    result: String,
}

impl Timer {
    pub(super) fn start(name: &'static str) -> Self {
        gauge!("iothub_device_calls_in_flight", "call" => name).increment(1);
        // Unless it comes to an end.
        let result = "Dropped".to_owned();
        Self { name, since: Instant::now(), result }
    }

    pub(super) fn end(mut self, error: Option<&Error>) {
        self.result = error.map_or_else(|| "Ok".to_owned(), kind_of);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        gauge!("iothub_device_calls_in_flight", "call" => self.name).decrement(1);
        let result = std::mem::take(&mut self.result);
        histogram!("iothub_device_call_seconds", "call" => self.name, "result" => result)
            .record(self.since.elapsed());
    }
}

/// Whether an identity is connected.
#[derive(Debug)]
pub(crate) struct Presence {
    is_up: bool,
    was_up: bool,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self { is_up: false, was_up: false }
    }

    /// The hub has accepted the identity.
    pub(crate) fn up(&mut self) {
        if self.is_up {
            return;
        }
        gauge!("iothub_device_connected").increment(1);
        counter!("iothub_device_connects_total").increment(1);
        if self.was_up {
            counter!("iothub_device_reconnects_total").increment(1);
        }
        (self.is_up, self.was_up) = (true, true);
    }

    /// It is not connected, or not any more; without an error by its own will.
    pub(crate) fn down(&mut self, error: Option<&Error>) {
        let was_up = std::mem::take(&mut self.is_up);
        if was_up {
            gauge!("iothub_device_connected").decrement(1);
        }
        match error {
            Some(error) if was_up => {
                counter!("iothub_device_connection_losses_total", "kind" => kind_of(error)).increment(1);
            }
            Some(error) => {
                counter!("iothub_device_connect_failures_total", "kind" => kind_of(error)).increment(1);
            }
            None => {}
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.down(None);
    }
}

/// Messages that wait in a buffer; of all buffers of the process together.
#[derive(Debug)]
pub(crate) struct Waiting(usize);

impl Waiting {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    pub(crate) fn set(&mut self, messages: usize) {
        // Exact up to 2^53 messages.
        let change = messages as f64 - self.0 as f64;
        if change != 0.0 {
            gauge!("iothub_device_buffer_waiting").increment(change);
            self.0 = messages;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(0);
    }
}

pub(crate) fn sent(messages: usize) {
    counter!("iothub_device_messages_sent_total").increment(messages as u64);
}

pub(crate) fn received(what: &'static str) {
    counter!("iothub_device_messages_received_total", "what" => what).increment(1);
}

pub(crate) fn token_renewed() {
    counter!("iothub_device_token_renewals_total", "result" => "Ok").increment(1);
}

pub(crate) fn token_refused() {
    counter!("iothub_device_token_renewals_total", "result" => "Refused").increment(1);
}

pub(crate) fn buffer_dropped(messages: u64) {
    if messages > 0 {
        counter!("iothub_device_buffer_dropped_total").increment(messages);
    }
}

pub(crate) fn buffer_refused() {
    counter!("iothub_device_buffer_refused_total").increment(1);
}

/// The name of the kind.
fn kind_of(error: &Error) -> String {
    format!("{:?}", error.kind())
}
