//! Through the `metrics` facade.

use metrics::{counter, gauge};

/// Messages that wait in a buffer; of all buffers of the process together.
#[derive(Debug)]
pub(crate) struct Waiting(usize);

impl Waiting {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    pub(crate) fn set(&mut self, messages: usize) {
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

pub(crate) fn buffer_sent() {
    counter!("iothub_device_buffer_sent_total").increment(1);
}

pub(crate) fn buffer_dropped(messages: u64) {
    if messages > 0 {
        counter!("iothub_device_buffer_dropped_total").increment(messages);
    }
}

pub(crate) fn buffer_refused() {
    counter!("iothub_device_buffer_refused_total").increment(1);
}
