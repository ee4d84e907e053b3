//! Options of a registry.

use std::sync::Arc;
use std::time::Duration;

use iothub_common::{ClientOptions, Result, RetryPolicy, ServiceConnectionString};

use super::Registry;
use crate::http::Http;
use crate::retry;

/// How long a call may take, repetitions included, unless the builder says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes a [`Registry`]; see [`Registry::builder`].
#[derive(Debug)]
pub struct RegistryBuilder {
    connection: ServiceConnectionString,
    options: ClientOptions,
    call_timeout: Duration,
    retry: RetryPolicy,
}

impl RegistryBuilder {
    pub(super) fn new(connection: ServiceConnectionString) -> Self {
        Self {
            connection,
            options: ClientOptions::default(),
            call_timeout: CALL_TIMEOUT,
            retry: retry::default_policy(),
        }
    }

    /// Ports and certificates.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// How long a call may take, repetitions included; 60 s by default.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long to wait before a request is sent again, and how often; by default up to 200 ms, doubled each time up
    /// to 10 s, until the time for the call is over.
    ///
    /// Whatever the policy, sent again are only:
    ///
    /// - requests that certainly changed nothing, because no connection could be made (4 times at most) or the hub
    ///   throttled them (429);
    /// - requests that only read, also when the connection was lost or the hub answered 408, 500, 502, 503 or 504.
    ///
    /// Other requests fail, with [`may_have_been_applied`](crate::Error::may_have_been_applied) set where the hub may
    /// have acted. A `Retry-After` of the hub is honoured.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The registry. Does no network I/O.
    ///
    /// # Errors
    ///
    /// [`Certificate`](crate::ErrorKind::Certificate) when no TLS configuration can be made of the options;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the host name is none.
    pub fn build(self) -> Result<Registry> {
        let http = Http::new(&self.connection, &self.options, self.call_timeout, self.retry)?;
        Ok(Registry { http: Arc::new(http) })
    }
}
