//! From a connection string to a client.

use std::time::Duration;

use iothub_amqp::client::Endpoint;
use iothub_common::{ClientOptions, DeviceConnectionString, Result, RetryPolicy};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Line, Settings},
    module::ModuleClient,
};

/// The hub's port for AMQP over TLS (amqp.md 1.1).
const AMQPS_PORT: u16 = 5671;
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of a [`ModuleClient`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until connect() is awaited"]
pub struct ModuleClientBuilder {
    connection_string: DeviceConnectionString,
    options: ClientOptions,
    connect_timeout: Duration,
    call_timeout: Duration,
    idle_timeout: Duration,
    retry: RetryPolicy,
}

impl ModuleClientBuilder {
    pub(crate) fn new(connection_string: &str) -> Result<Self> {
        let connection_string: DeviceConnectionString = connection_string.parse()?;
        connection_string.require_module()?;
        Ok(Self {
            connection_string,
            options: ClientOptions::default(),
            connect_timeout: DEFAULT_CALL_TIMEOUT,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            retry: RetryPolicy::default(),
        })
    }

    /// Ports and trust, shared with the service half.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// How long [`ModuleClientBuilder::connect`] tries; 60 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a call may take in all, reconnecting included; 60 s by default.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// A connection on which nothing is heard for twice this time is given up; 60 s by default.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// When to try again after a connection was lost or could not be made. The default never gives up.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Connects; see [`ModuleClient::connect`].
    ///
    /// # Errors
    ///
    /// As [`ModuleClient::connect`].
    pub async fn connect(self) -> Result<ModuleClient> {
        let hub = self.connection_string.host_name();
        let endpoint = Endpoint {
            host: self.connection_string.gateway_host_name().unwrap_or(hub).to_owned(),
            port: self.options.amqps_port.unwrap_or(AMQPS_PORT),
            tls: self.options.tls.client_config(&[])?,
            idle_timeout: self.idle_timeout,
        };
        let settings = Settings {
            identity: self.connection_string.identity().clone(),
            hub: hub.to_owned(),
            tokens: self.connection_string.token_source()?,
            retry: self.retry.clone(),
            connect_timeout: self.connect_timeout,
            call_timeout: self.call_timeout,
        };
        let line = Line::start(endpoint, self.retry, CancellationToken::new(), true);
        Ok(ModuleClient::new(line.connect(settings).await?))
    }
}
