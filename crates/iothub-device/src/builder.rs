//! From a connection string to a client.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use iothub_amqp::client::Endpoint;
use iothub_common::{
    ClientCertificate, ClientOptions, DeviceConnectionString, Error, ErrorKind, Identity, ReconnectPolicy,
    Result, RetryPolicy, Secret, Transport,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, Line, Settings},
    credentials::{Credentials, Given, SasProvider, SasRequest},
    device::DeviceClient,
    edge::Trust,
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
    given: Given,
    /// Whom an Edge module trusts beside the options.
    trust: Option<Trust>,
    model_id: Option<String>,
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
    fn new(given: Given) -> Self {
        Self {
            given,
            trust: None,
            model_id: None,
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

    /// The certificate that proves who connects, and its private key, both in PEM; see
    /// [`ClientCertificate::from_pem`]. The hub knows it by its thumbprint or by the authority that signed it. Goes
    /// with `x509=true` in the connection string, or with [`ModuleClient::builder_for`].
    ///
    /// # Errors
    ///
    /// As [`ClientCertificate::from_pem`].
    pub fn x509(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        self.given.certificate = Some(ClientCertificate::from_pem(certificate, key)?);
        Ok(self)
    }

    /// A function that gives SAS tokens: it is asked before the first connection, and again when four fifths of the
    /// life of a token are over. Goes with [`ModuleClient::builder_for`].
    ///
    /// Its futures run in a task of their own, one at a time, and may take 30 s each. While it fails the client works
    /// on with the token it has, and asks again after growing pauses. An [`Error`] of kind
    /// [`Unauthorized`](ErrorKind::Unauthorized), [`NotFound`](ErrorKind::NotFound) or
    /// [`InvalidInput`](ErrorKind::InvalidInput) ends a client that has no token left; other errors are taken to pass.
    ///
    /// ```no_run
    /// # async fn ask_vault(resource: &str) -> std::io::Result<String> { Ok(resource.to_owned()) }
    /// # async fn run() -> iothub_device::Result<()> {
    /// use iothub_device::{DeviceClient, SasRequest};
    ///
    /// let client = DeviceClient::builder_for("my-hub.azure-devices.net", "myDevice")?
    ///     .sas_provider(|request: SasRequest| async move { ask_vault(request.resource()).await })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sas_provider<F, Fut, S, E>(mut self, provider: F) -> Self
    where
        F: Fn(SasRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<S, E>> + Send + 'static,
        S: Into<Secret>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.given.provider = Some(SasProvider::new(provider));
        self
    }

    /// The IoT Edge gateway to connect to in place of the hub, as `GatewayHostName` in a connection string. Its
    /// certificate must carry that name; tokens keep naming the hub.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when it is no host name.
    pub fn gateway(mut self, host_name: impl Into<String>) -> Result<Self> {
        self.given.set_gateway(host_name.into())?;
        Ok(self)
    }

    /// Announces the Plug and Play model, `dtmi:…`, that this device or module implements; the hub keeps it in the
    /// twin (amqp.md 3.3).
    pub fn model_id(mut self, model_id: impl Into<String>) -> Self {
        self.model_id = Some(model_id.into());
        self
    }

    async fn connect_client(self) -> Result<Client> {
        let started = Instant::now();
        let mut options = self.options;
        if let Some(trust) = &self.trust {
            // Boxed: most clients need no room for it.
            let trusting = Box::pin(trust.add_to(options.tls));
            let late = "the Edge workload API took all the time there was to connect";
            options.tls = timeout(self.connect_timeout, trusting)
                .await
                .map_err(|_| Error::new(ErrorKind::Timeout, late))??;
        }
        let (host, hub) = (self.given.host().to_owned(), self.given.hub.clone());
        let identity = self.given.identity.clone();
        let (credentials, options) = self.given.resolve(options)?;
        if matches!(credentials, Credentials::Certificate) && self.multiplexer.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a connection with a client certificate carries one identity: leave the multiplexer out",
            ));
        }
        let endpoint = Endpoint::new(host.clone(), &options, self.transport, self.idle_timeout)?;
        let settings = Settings {
            identity,
            hub,
            host,
            options,
            credentials,
            retry: self.retry.clone(),
            connect_timeout: self.connect_timeout.saturating_sub(started.elapsed()),
            call_timeout: self.call_timeout,
            prefetch: self.prefetch,
            model_id: self.model_id,
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

impl ModuleClient {
    /// Options for a module without a connection string: it takes
    /// [`sas_provider`](ClientBuilder::sas_provider) or [`x509`](ClientBuilder::x509) to prove who it is. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the host name or an id is none.
    pub fn builder_for(host_name: &str, device_id: &str, module_id: &str) -> Result<ModuleClientBuilder> {
        Ok(ClientBuilder::new(Given::new(host_name, Identity::module(device_id, module_id)?)?))
    }
}

impl DeviceClient {
    /// Options for a device without a connection string: it takes
    /// [`sas_provider`](ClientBuilder::sas_provider) or [`x509`](ClientBuilder::x509) to prove who it is. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the host name or the id is none.
    pub fn builder_for(host_name: &str, device_id: &str) -> Result<DeviceClientBuilder> {
        Ok(ClientBuilder::new(Given::new(host_name, Identity::device(device_id)?)?))
    }
}

impl ClientBuilder<ModuleClient> {
    pub(crate) fn for_module(connection_string: &str) -> Result<Self> {
        let connection_string: DeviceConnectionString = connection_string.parse()?;
        connection_string.require_module()?;
        Ok(Self::new(connection_string.into()))
    }

    pub(crate) fn with(given: Given, trust: Option<Trust>) -> Self {
        Self { trust, ..Self::new(given) }
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
    pub(crate) fn of_device(given: Given) -> Self {
        Self::new(given)
    }

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
        Ok(Self::new(connection_string.into()))
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
