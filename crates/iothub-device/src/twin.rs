//! The twin of a module or device, as it sees it itself.

use std::time::Duration;

use bytes::Bytes;
use iothub_common::{
    Error, ErrorKind, Result, TwinProperties,
    twin_rules::{Section, check_patch},
};
use serde::Serialize;
use serde_json::Value;

use crate::{client::Client, desired::DesiredUpdates, features::TwinKind};

/// The twin of the connected identity. A handle: cheap to clone, no I/O to make.
///
/// Every call ends within the call time-out of the client (60 s unless the builder says otherwise), also while
/// offline. Calls made while the connection is being restored wait for it within that time.
#[derive(Debug, Clone)]
pub struct Twin {
    client: Client,
    limit: Duration,
}

impl Twin {
    pub(crate) fn new(client: Client) -> Self {
        let limit = client.call_timeout();
        Self { client, limit }
    }

    /// The same twin with another time limit for its calls.
    #[must_use]
    pub fn with_timeout(&self, limit: Duration) -> Self {
        Self { client: self.client.clone(), limit }
    }

    /// Reads desired and reported properties from the hub. Without metadata and tags: devices do not see those.
    ///
    /// Cancelling has no effect on the twin.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], [`ErrorKind::Closed`], [`ErrorKind::Throttled`], or why the client gave up.
    pub async fn get(&self) -> Result<TwinProperties> {
        let (body, _) = self.client.twin(TwinKind::Get, Bytes::new(), self.limit).await?;
        TwinProperties::from_slice(&body)
    }

    /// Merges `patch`, a JSON object, into the reported properties: objects merge, `null` removes, everything
    /// else replaces. Returns the new `$version` of the reported properties. Reports of one client reach the
    /// hub in the order in which their futures were first polled.
    ///
    /// Dropping the future may leave the patch applied.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`] before anything is sent, naming the path: keys with `.`, `$`, `#`, white
    ///   space or control characters, `null` in arrays, more than 10 levels, strings over 4096 bytes, integers
    ///   outside ±2^52 (twins.md 1.2).
    /// - [`ErrorKind::QuotaExceeded`] or [`ErrorKind::Rejected`] when the hub refuses, for instance more than 32 KiB in all.
    /// - [`ErrorKind::Timeout`], [`ErrorKind::Unavailable`]: look at [`Error::may_have_been_applied`].
    pub async fn report<T: Serialize + ?Sized>(&self, patch: &T) -> Result<u64> {
        let body = reported_patch(patch)?;
        let (_, version) = self.client.twin(TwinKind::Report, body, self.limit).await?;
        Ok(version)
    }

    /// Subscribes to the desired properties. Returns once the hub has confirmed; the first item of the stream
    /// is the state at that moment. Every call makes a stream of its own.
    ///
    /// Cancelling unsubscribes.
    ///
    /// # Errors
    ///
    /// As for [`Twin::get`].
    pub async fn desired(&self) -> Result<DesiredUpdates> {
        self.client.subscribe_desired(self.limit).await
    }
}

/// The bytes of a patch, checked.
fn reported_patch<T: Serialize + ?Sized>(patch: &T) -> Result<Bytes> {
    let not_json =
        |e: serde_json::Error| Error::new(ErrorKind::InvalidInput, "the patch is no JSON").with_source(e);
    let body = serde_json::to_vec(patch).map_err(not_json)?;
    let tree: Value = serde_json::from_slice(&body).map_err(not_json)?;
    check_patch(Section::Reported, &tree)?;
    Ok(body.into())
}
