//! Numbers for the application's metrics, see docs/metrics.md. Without the feature `metrics` all of this is nothing.

#[cfg(feature = "metrics")]
#[path = "measure/on.rs"]
mod imp;
#[cfg(not(feature = "metrics"))]
#[path = "measure/off.rs"]
mod imp;

pub(crate) use imp::*;
