//! From a connection string to a client.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use iothub_amqp::client::Endpoint;
use iothub_common::{
    ClientOptions, DeviceConnectionString, Error, ErrorKind, ReconnectPolicy, Result, RetryPolicy, Transport,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, Line, Settings},
    credentials::Credentials,
    device::DeviceClient,
    module::ModuleClient,
    multiplexer::Multiplexer,
};

const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// What the hub keeps for a device at most (amqp.md 8), so more would not make it quicker.
const DEFAULT_PREFETCH: u32 = 50;

/// Options of a [`ModuleClient`].
pub type ModuleClientBuilder = ClientBuilder<ModuleClient>;
/// Options of a [`DeviceClient`].
pub type DeviceClientBuilder = ClientBuilder<DeviceClient>;

/// Options of a client; see [`ModuleClient::builder`] and [`DeviceClient::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until connect() is awaited"]
pub struct ClientBuilder<T> {
    connection_string: DeviceConnectionString,
    options: ClientOptions,
    transport: Transport,
    connect_timeout: Duration,
    call_timeout: Duration,
    idle_timeout: Duration,
    retry: Arc<dyn ReconnectPolicy>,
    prefetch: u32,
    multiplexer: Option<Multiplexer>,
    face: PhantomData<T>,
}

impl<T> ClientBuilder<T> {
    fn new(connection_string: DeviceConnectionString) -> Self {
        Self {
            connection_string,
            options: ClientOptions::default(),
            transport: Transport::default(),
            connect_timeout: DEFAULT_CALL_TIMEOUT,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            retry: Arc::new(RetryPolicy::default()),
            prefetch: DEFAULT_PREFETCH,
            multiplexer: None,
            face: PhantomData,
        }
    }

    /// Ports and trust, shared with the service half.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// What AMQP travels in: TLS on port 5671 by default.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// How long [`connect`](ClientBuilder::connect) tries; 60 s by default.
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

    /// When to try again after a connection was lost or could not be made: a [`RetryPolicy`], whose default never
    /// gives up, or a policy of your own.
    pub fn retry(mut self, policy: impl ReconnectPolicy + 'static) -> Self {
        self.retry = Arc::new(policy);
        self
    }

    /// Messages from the cloud, or on inputs, that the hub may send ahead of a reader; 50 by default, at least 1.
    pub fn prefetch(mut self, messages: u32) -> Self {
        self.prefetch = messages.max(1);
        self
    }

    /// Shares a connection with the other clients of `multiplexer`. Ports, trust and idle time-out of the first
    /// client to a hub count for all of them.
    pub fn multiplexer(mut self, multiplexer: &Multiplexer) -> Self {
        self.multiplexer = Some(multiplexer.clone());
        self
    }

    async fn connect_client(self) -> Result<Client> {
        let hub = self.connection_string.host_name();
        let host = self.connection_string.gateway_host_name().unwrap_or(hub);
        let endpoint = Endpoint::new(host, &self.options, self.transport, self.idle_timeout)?;
        let settings = Settings {
            identity: self.connection_string.identity().clone(),
            hub: hub.to_owned(),
            credentials: Credentials::Tokens(self.connection_string.token_source()?),
            retry: self.retry.clone(),
            connect_timeout: self.connect_timeout,
            call_timeout: self.call_timeout,
            prefetch: self.prefetch,
            model_id: None,
        };
        match self.multiplexer {
            Some(multiplexer) => multiplexer.connect(endpoint, self.retry, settings).await,
            None => {
                let (line, run) = Line::new(endpoint, self.retry, CancellationToken::new(), true);
                tokio::spawn(run);
                line.connect(settings, None).await
            }
        }
    }
}

impl ClientBuilder<ModuleClient> {
    pub(crate) fn for_module(connection_string: &str) -> Result<Self> {
        let connection_string: DeviceConnectionString = connection_string.parse()?;
        connection_string.require_module()?;
        Ok(Self::new(connection_string))
    }

    /// Connects; see [`ModuleClient::connect`].
    ///
    /// # Errors
    ///
    /// As [`ModuleClient::connect`].
    pub async fn connect(self) -> Result<ModuleClient> {
        Ok(ModuleClient::new(self.connect_client().await?))
    }
}

impl ClientBuilder<DeviceClient> {
    pub(crate) fn for_device(connection_string: &str) -> Result<Self> {
        let connection_string: DeviceConnectionString = connection_string.parse()?;
        if let Some(module) = connection_string.identity().module_id() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "this is the connection string of module `{module}`; connect with ModuleClient, or leave ModuleId out"
                ),
            ));
        }
        Ok(Self::new(connection_string))
    }

    /// Connects; see [`DeviceClient::connect`].
    ///
    /// # Errors
    ///
    /// As [`DeviceClient::connect`].
    pub async fn connect(self) -> Result<DeviceClient> {
        Ok(DeviceClient::new(self.connect_client().await?))
    }
}
