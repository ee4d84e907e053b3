//! Numbers about the hub (rest.md 3.1).

use serde::{Deserialize, Serialize};

/// How many devices the hub knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceStatistics {
    /// All of them.
    pub total_device_count: u64,
    /// Those that may connect.
    pub enabled_device_count: u64,
    /// Those that may not.
    pub disabled_device_count: u64,
}

/// How many devices are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ServiceStatistics {
    /// The number.
    pub connected_device_count: u64,
}

/// What was thrown away, see [`Registry::purge_message_queue`](crate::Registry::purge_message_queue).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PurgedMessages {
    /// How many messages.
    pub total_messages_purged: u64,
    /// The device they were for.
    pub device_id: String,
}
