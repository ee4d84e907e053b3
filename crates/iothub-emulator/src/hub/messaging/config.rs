//! What can be set about messages.

use std::time::Duration;

/// How the hub handles messages; the defaults are those of a new hub (amqp.md 8).
#[derive(Clone, Debug)]
pub struct MessagingConfig {
    /// Partitions of the built-in endpoint. A device's events are all in one.
    pub partitions: u32,
    /// How long events are kept.
    pub retention: Duration,
    /// How long a cloud-to-device message waits that names no expiry.
    pub time_to_live: Duration,
    /// Deliveries of a cloud-to-device message, and of feedback, before it is dropped.
    pub max_delivery_count: u8,
    /// How long feedback waits for more since the last record; 64 records are sent at once. Zero: it does
    /// not wait.
    pub feedback_delay: Duration,
}

impl Default for MessagingConfig {
    fn default() -> Self {
        Self {
            partitions: 4,
            retention: Duration::from_secs(7 * 24 * 3600),
            time_to_live: Duration::from_secs(3600),
            max_delivery_count: 10,
            feedback_delay: Duration::from_secs(15),
        }
    }
}
