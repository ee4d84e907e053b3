//! Options of a registry.

use std::sync::Arc;
use std::time::Duration;

use iothub_common::{ClientOptions, Result, RetryPolicy, ServiceConnectionString};

use super::Registry;
use crate::credentials::Credentials;
use crate::http::{Http, HttpSettings};
use crate::messaging::{MessagingSlot, Setup};

/// How long a call may take, repetitions included, unless the builder says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How old a connection may get unless the builder says otherwise.
const CONNECTION_AGE: Duration = Duration::from_secs(5 * 60);

/// Makes a [`Registry`]; see [`Registry::builder`].
#[derive(Debug)]
pub struct RegistryBuilder {
    host_name: String,
    credentials: Credentials,
    options: ClientOptions,
    settings: HttpSettings,
}

impl RegistryBuilder {
    pub(super) fn of_connection_string(connection: &ServiceConnectionString) -> Result<Self> {
        let credentials = Credentials::of_connection_string(connection)?;
        Ok(Self::new(connection.host_name(), credentials))
    }

    pub(super) fn new(host_name: &str, credentials: Credentials) -> Self {
        let settings = HttpSettings {
            call_timeout: CALL_TIMEOUT,
            connection_age: CONNECTION_AGE,
            retry: iothub_http::default_policy(),
        };
        Self { host_name: host_name.to_owned(), credentials, options: ClientOptions::default(), settings }
    }

    /// Ports, certificates, and the proxy on the way to the hub.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// How long a call may take, repetitions included; 60 s by default.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// How old a connection may get before new calls use a new one, so that the registry follows when the hub's name
    /// gets another address; 5 minutes by default. Calls under way are not disturbed.
    pub fn connection_age(mut self, age: Duration) -> Self {
        self.settings.connection_age = age;
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
    /// With the defaults a call outlives half a minute of throttling. Other requests fail, with [`may_have_been_applied`](crate::Error::may_have_been_applied) set where the hub may
    /// have acted. A `Retry-After` of the hub is honoured.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// The registry. Does no network I/O.
    ///
    /// # Errors
    ///
    /// [`Certificate`](crate::ErrorKind::Certificate) when no TLS configuration can be made of the options;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the host name is none.
    pub fn build(self) -> Result<Registry> {
        let setup = Setup {
            host: self.host_name.clone(),
            credentials: self.credentials.clone(),
            options: self.options.clone(),
            call_timeout: self.settings.call_timeout,
            retry: self.settings.retry.clone(),
        };
        let http = Http::new(&self.host_name, self.credentials, &self.options, self.settings)?;
        Ok(Registry { http: Arc::new(http), messaging: Arc::new(MessagingSlot::new(setup)) })
    }
}
