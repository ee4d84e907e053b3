//! The hub with its sockets: start, addresses, shutdown.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iothub_common::{ClientOptions, TlsConfig};
use tracing::info;

use crate::front::amqp;
use crate::front::http::HttpFront;
use crate::front::listener::{self, Listener, Port, Tasks};
use crate::front::workload::{self, WorkloadListener};
use crate::hub::{Clock, DeviceAuthorities, Hub, HubConfig, HubError, MessagingConfig, Policy};
use crate::provisioning::{Provisioning, ProvisioningConfig};
use crate::start_error::StartError;
use crate::state_dir::StateDir;
use crate::storage::{Blob, Storage, StorageConfig};
use crate::tls::{self, Authority};

/// The policy of [`LocalHub::connection_string`].
const OWNER: &str = "iothubowner";
const SERVICE: &str = "service";

/// The ports that need not be told to anybody.
const STANDARD_HTTPS: u16 = 443;
const STANDARD_AMQPS: u16 = 5671;

/// How long devices are told to wait for their assignment. Nobody who develops wants to wait for three seconds.
const PROVISIONING_PAUSE: Duration = Duration::from_secs(1);

/// How long [`LocalHub::shutdown`] lets open connections finish what they are doing.
const GRACE: Duration = Duration::from_secs(2);

/// A running local hub, serving on TCP ports of this machine from when [`start`](Self::start) returns.
///
/// Identities and twins live in memory and are gone with the hub. Dropping it ends it at once;
/// [`shutdown`](Self::shutdown) lets its connections say goodbye. It runs on the tokio runtime it was started on.
pub struct LocalHub {
    hub: Hub,
    provisioning: Provisioning,
    ca_pem: String,
    trust: TlsConfig,
    ca_file: Option<PathBuf>,
    env_file: Option<PathBuf>,
    https_port: u16,
    amqps_port: Port,
    amqps: Mutex<Tasks>,
    amqps_tls: rustls::ServerConfig,
    addresses: Vec<IpAddr>,
    workload_uri: Option<String>,
    tasks: Tasks,
}

impl LocalHub {
    /// Starts a hub called `localhost` on free ports of the loopback addresses, with fresh keys and a fresh
    /// certificate authority, all in memory.
    ///
    /// # Errors
    /// When the system gives no ports.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Starts from the same defaults and changes some.
    pub fn builder() -> LocalHubBuilder {
        LocalHubBuilder::default()
    }

    /// The name in connection strings and tokens: the first host name given.
    pub fn host_name(&self) -> &str {
        self.hub.host_name()
    }

    /// The service connection string of the policy `iothubowner`, which may do everything. Contains a key.
    pub fn connection_string(&self) -> String {
        // A started hub has the default policies, this one among them.
        format!("HostName={};{}", self.host_name(), self.policy_key(OWNER))
    }

    /// The connection string of the built-in endpoint for Event Hubs clients, by the policy `service`. Contains a key.
    pub fn event_hub_connection_string(&self) -> String {
        let port = self.amqps_port();
        let port = if port == STANDARD_AMQPS { String::new() } else { format!(":{port}") };
        let key = self.policy_key(SERVICE);
        format!("Endpoint=sb://{}{port}/;{key};EntityPath={}", self.host_name(), self.hub.name())
    }

    fn policy_key(&self, name: &str) -> String {
        let key = self.hub.policy(name).map(|policy| policy.primary.to_base64());
        let key = key.as_ref().map_or("", |key| key.reveal());
        format!("SharedAccessKeyName={name};SharedAccessKey={key}")
    }

    /// What the clients of this SDK need to reach this hub: its ports, and its authority as the only one to trust.
    pub fn client_options(&self) -> ClientOptions {
        ClientOptions {
            https_port: Some(self.https_port),
            amqps_port: Some(self.amqps_port()),
            tls: self.trust.clone(),
            ..ClientOptions::default()
        }
    }

    /// The certificate of the hub's authority in PEM form.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The file with [`ca_pem`](Self::ca_pem), absolute; none without a state directory.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// The file with the environment variables for clients, absolute; none without a state directory.
    pub fn env_file(&self) -> Option<&Path> {
        self.env_file.as_deref()
    }

    /// The port for REST.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port for AMQP.
    pub fn amqps_port(&self) -> u16 {
        self.amqps_port.get()
    }

    /// The environment an IoT Edge runtime gives to a module, for programs that are to run as one; see
    /// [`LocalHubBuilder::edge_workload`], without which there is none.
    ///
    /// # Errors
    /// When there is no such module.
    pub fn edge_environment(
        &self,
        device_id: &str,
        module_id: &str,
    ) -> Result<Vec<(&'static str, String)>, HubError> {
        let generation = self.hub.module_generation(device_id, module_id)?;
        let Some(workload_uri) = self.workload_uri.clone() else { return Ok(Vec::new()) };
        let host_name = self.host_name().to_owned();
        Ok(vec![
            ("IOTEDGE_WORKLOADURI", workload_uri),
            ("IOTEDGE_DEVICEID", device_id.to_owned()),
            ("IOTEDGE_MODULEID", module_id.to_owned()),
            ("IOTEDGE_MODULEGENERATIONID", generation),
            ("IOTEDGE_IOTHUBHOSTNAME", host_name.clone()),
            ("IOTEDGE_GATEWAYHOSTNAME", host_name),
            ("IOTEDGE_AUTHSCHEME", "sasToken".to_owned()),
            ("IOTEDGE_APIVERSION", "2018-06-28".to_owned()),
        ])
    }

    /// The hub behind the sockets: its state can be read and changed without a connection.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// A file that a device has uploaded, by the name of its blob: `{device id}/{name the device gave}`.
    pub fn uploaded_file(&self, blob_name: &str) -> Option<Blob> {
        self.hub.storage()?.blob(blob_name)
    }

    /// The Device Provisioning Service beside the hub, on its name and HTTPS port: enrollments are made here.
    pub fn provisioning(&self) -> &Provisioning {
        &self.provisioning
    }

    /// Moves the hub's clock forward, so that tokens expire without waiting.
    pub fn advance(&self, by: Duration) {
        self.hub.advance(by);
    }

    /// Moves AMQP to another free port, which is returned, as a hub that fails over moves to another address: the old
    /// port is closed, its connections are closed with `amqp:connection:forced`. From now on
    /// [`amqps_port`](Self::amqps_port) and [`client_options`](Self::client_options) name the new port, `hub.env` does
    /// not; clients that are there have to be told, as nothing takes the place of DNS here. AMQP in WebSockets and REST
    /// stay where they are.
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Errors
    /// When the system gives no port; then nothing has changed.
    pub async fn failover(&self) -> Result<u16, StartError> {
        let listener = Listener::bind(&self.addresses, 0).await?;
        let port = listener.port();
        self.amqps_port.set(port);
        self.hub.tally().fault("failover");
        self.serve_amqps(listener);
        info!(host = self.host_name(), amqps_port = port, "hub failed over");
        Ok(port)
    }

    /// Serves AMQP on a port, and no longer where it did before.
    fn serve_amqps(&self, listener: Listener) {
        let tasks = self.tasks.part();
        let (hub, port, shutdown) = (self.hub.clone(), listener.port(), tasks.shutdown.clone());
        listener::serve(listener, self.amqps_tls.clone(), &tasks, move |stream, _peer| {
            let certificate = listener::certificate(&stream);
            amqp::serve(stream, hub.clone(), port, certificate, shutdown.clone())
        });
        // Nothing panics while it is held.
        let mut serving = self.amqps.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *serving, tasks).shutdown.cancel();
    }

    /// What `hub.env` holds: ports only where a client could not guess them.
    fn environment(&self, state: &StateDir) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("IOTHUB_CONNECTION_STRING", self.connection_string()),
            ("IOTHUB_CA_FILE", state.ca_file().display().to_string()),
            ("EVENTHUB_CONNECTION_STRING", self.event_hub_connection_string()),
        ];
        if self.https_port != STANDARD_HTTPS {
            variables.push(("IOTHUB_HTTPS_PORT", self.https_port.to_string()));
        }
        if self.amqps_port() != STANDARD_AMQPS {
            variables.push(("IOTHUB_AMQPS_PORT", self.amqps_port().to_string()));
        }
        variables
    }

    /// Ends the hub: no new connections, two seconds for the open ones to finish, then they are cut.
    ///
    /// Dropping the future cuts them at once.
    pub async fn shutdown(self) {
        self.tasks.shutdown.cancel();
        self.tasks.tracker.close();
        if tokio::time::timeout(GRACE, self.tasks.tracker.wait()).await.is_err() {
            self.tasks.kill.cancel();
            self.tasks.tracker.wait().await;
        }
        info!(host = self.host_name(), "hub stopped");
    }
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        self.tasks.shutdown.cancel();
        self.tasks.kill.cancel();
    }
}

impl fmt::Debug for LocalHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHub")
            .field("host_name", &self.host_name())
            .field("https_port", &self.https_port)
            .field("amqps_port", &self.amqps_port())
            .finish_non_exhaustive()
    }
}

/// Options of a [`LocalHub`].
#[derive(Clone, Debug, Default)]
pub struct LocalHubBuilder {
    host_names: Vec<String>,
    https_port: u16,
    amqps_port: u16,
    addresses: Vec<IpAddr>,
    state_dir: Option<PathBuf>,
    device_authorities: Vec<String>,
    gateway_of: Option<String>,
    provisioning: Option<ProvisioningConfig>,
    edge_workload: Option<String>,
}

impl LocalHubBuilder {
    /// A DNS name or IP address of the hub, `localhost` if none is given. The first one is what the hub calls
    /// itself; further ones are put into its certificate. Clients must be able to resolve it; Microsoft's Java
    /// client wants one with a dot.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.host_names.push(name.into());
        self
    }

    /// The port for REST; 0, the default, is a free one. Microsoft's clients only know 443.
    pub fn https_port(mut self, port: u16) -> Self {
        self.https_port = port;
        self
    }

    /// The port for AMQP; 0, the default, is a free one. Microsoft's clients only know 5671.
    pub fn amqps_port(mut self, port: u16) -> Self {
        self.amqps_port = port;
        self
    }

    /// An address to listen on, instead of `127.0.0.1` and (where there is IPv6) `::1`. Can be given several times;
    /// `0.0.0.0` or `::` is all of them, so then the hub can be reached from other machines.
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// A directory that keeps the authority and the policy keys between runs, and where `hub.env` is written.
    /// It is made when missing. Identities and twins are not kept.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// An authority whose certificates devices and modules of authentication type `certificateAuthority` may show; its
    /// certificate in PEM. Can be given several times.
    pub fn device_authority(mut self, pem: impl Into<String>) -> Self {
        self.device_authorities.push(pem.into());
        self
    }

    /// How the Device Provisioning Service beside the hub behaves. Unless set its ID scope is `0ne00000001`, and devices
    /// are told to ask again after a second.
    pub fn provisioning(mut self, config: ProvisioningConfig) -> Self {
        self.provisioning = Some(config);
        self
    }

    /// Makes the hub play the gateway of an IoT Edge device: the modules of that device may call direct methods of all
    /// devices and modules. Unless set no module may, as in the cloud.
    pub fn edge_gateway(mut self, device_id: impl Into<String>) -> Self {
        self.gateway_of = Some(device_id.into());
        self
    }

    /// Plays the workload API of an IoT Edge runtime at `unix:///path/to/socket` or `http://127.0.0.1:port` (0 is a free
    /// one). Whoever reaches it can sign as any module of the hub.
    pub fn edge_workload(mut self, uri: impl Into<String>) -> Self {
        self.edge_workload = Some(uri.into());
        self
    }

    /// Starts the hub; it serves when this returns. Dropping the future starts nothing.
    ///
    /// # Errors
    /// [`StartError`] when a port is taken or forbidden, the state directory can't be read or written or has
    /// damaged files, or a host name is none.
    pub async fn start(mut self) -> Result<LocalHub, StartError> {
        if self.host_names.is_empty() {
            self.host_names.push("localhost".to_owned());
        }
        let names = tls::certificate_names(&self.host_names, &self.addresses)?;
        let host_name = self.host_names.swap_remove(0);

        let state = self.state_dir.as_deref().map(StateDir::open).transpose()?;
        let policies = Policy::defaults().map_err(|source| StartError::Keys { source })?;
        let (authority, policies) = match &state {
            Some(state) => (state.authority()?, state.policies(policies)?),
            None => (Authority::generate()?, policies),
        };

        let mut device_authorities = DeviceAuthorities::default();
        for pem in &self.device_authorities {
            let added = device_authorities.add_pem(pem.as_bytes());
            added.map_err(|source| StartError::DeviceAuthority { source })?;
        }

        let https = Listener::bind(&self.addresses, self.https_port).await?;
        let amqps = Listener::bind(&self.addresses, self.amqps_port).await?;
        let (https_port, amqps_port) = (https.port(), amqps.port());
        let workload = match self.edge_workload {
            None => None,
            Some(uri) => {
                let bound = WorkloadListener::bind(&uri).await;
                Some(bound.map_err(|source| StartError::Workload { uri, source })?)
            }
        };

        let tls_https = authority.server_config(&names, &[b"http/1.1"])?;
        let tls_amqps = authority.server_config(&names, &[])?;

        let trust = TlsConfig::default().platform_roots(false).ca_pem(authority.ca_pem().as_bytes());
        let trust = trust.map_err(|error| StartError::Certificate { source: error.into() })?;

        // Nobody who develops wants to wait for 15 seconds.
        let messaging = MessagingConfig { feedback_delay: Duration::ZERO, ..MessagingConfig::default() };
        let clock = Clock::new();
        let storage = Storage::new(StorageConfig::new(with_port(&host_name, https_port)), clock.clone());
        let storage = Some(storage.map_err(|source| StartError::Keys { source })?);
        let hub = Hub::new(HubConfig {
            host_name,
            policies,
            clock,
            messaging,
            gateway_of: self.gateway_of,
            storage,
            device_authorities,
        });
        let provisioning = self.provisioning.unwrap_or_else(|| ProvisioningConfig {
            retry_after: PROVISIONING_PAUSE,
            ..ProvisioningConfig::default()
        });
        let mut running = LocalHub {
            hub: hub.clone(),
            provisioning: Provisioning::new(provisioning, hub.clone()),
            ca_pem: authority.ca_pem().to_owned(),
            trust,
            ca_file: state.as_ref().map(StateDir::ca_file),
            env_file: None,
            https_port,
            amqps_port: Port::new(amqps_port),
            amqps: Mutex::default(),
            amqps_tls: tls_amqps,
            addresses: self.addresses,
            workload_uri: workload.as_ref().map(ToString::to_string),
            tasks: Tasks::default(),
        };

        let shutdown = running.tasks.shutdown.clone();
        running.tasks.tracker.spawn({
            let (hub, shutdown) = (hub.clone(), shutdown.clone());
            async move {
                shutdown.run_until_cancelled(hub.run()).await;
            }
        });
        if let Some(listener) = workload {
            workload::serve(listener, hub.clone(), running.ca_pem.clone(), &running.tasks);
        }
        let front = HttpFront::new(hub.clone(), running.provisioning.clone(), running.amqps_port.clone());
        listener::serve(https, tls_https, &running.tasks, {
            let shutdown = shutdown.clone();
            move |stream, _peer| front.clone().serve(stream, shutdown.clone())
        });
        running.serve_amqps(amqps);

        // After the ports are open and served: who reads the file may connect at once.
        if let Some(state) = &state {
            running.env_file = Some(state.write_env(&running.environment(state))?);
        }
        info!(host = running.host_name(), https_port, amqps_port, "hub started");
        Ok(running)
    }
}

/// Where the storage is found, which has no port of its own; clients that know of no ports only know 443.
fn with_port(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == STANDARD_HTTPS { host } else { format!("{host}:{port}") }
}
