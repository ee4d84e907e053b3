//! Modules on an IoT Edge device, with the environment its runtime gives them. The local hub plays the runtime.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use iothub::{
    ClientOptions, ConnectionStatus, ErrorKind, Message, ModuleClient, Registry, RetryPolicy, SymmetricKey,
    TlsConfig, Transport, service::NewAuthentication,
};
use iothub_emulator::LocalHub;
use serde_json::json;
use support::{Cable, DEVICE, MODULE, within};

/// A hub with the workload API, and a module of an Edge device.
struct Edge {
    hub: LocalHub,
    registry: Registry,
    environment: HashMap<&'static str, String>,
}

impl Edge {
    async fn start(workload: &str) -> Self {
        let hub = LocalHub::builder().edge_workload(workload).start().await.unwrap();
        let registry =
            Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
        within(registry.create_device(DEVICE)).await.unwrap();
        within(registry.add_module(DEVICE, MODULE)).await.unwrap();
        let environment = hub.edge_environment(DEVICE, MODULE).unwrap().into_iter().collect();
        Self { hub, registry, environment }
    }

    /// The hub's ports, and nobody to trust: that is for the trust bundle.
    fn options(&self) -> ClientOptions {
        ClientOptions { tls: TlsConfig::default().platform_roots(false), ..self.hub.client_options() }
    }

    async fn connect(&self) -> iothub::Result<ModuleClient> {
        self.connect_with(self.options()).await
    }

    async fn connect_with(&self, options: ClientOptions) -> iothub::Result<ModuleClient> {
        let builder = ModuleClient::from_edge_variables(|name| self.environment.get(name).cloned())?;
        within(builder.options(options).retry(RetryPolicy::never()).connect()).await
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_runtime_signs_over_its_unix_socket_and_says_whom_to_trust() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("workload.sock");
    let edge = Edge::start(&format!("unix://{}", socket.display())).await;
    let client = edge.connect().await.unwrap();
    assert_eq!((client.device_id(), client.module_id()), (DEVICE, MODULE));
    within(client.twin().report(&json!({ "edge": true }))).await.unwrap();
    within(client.send_to_output("alerts", Message::new("hot"))).await.unwrap();
    within(client.close()).await;
    within(edge.hub.shutdown()).await;
    assert!(!socket.exists(), "the socket goes with the hub");
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("workload.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let uri = format!("unix://{}", socket.display());
    let edge = Edge::start(&uri).await;
    edge.connect().await.unwrap();
    let error = LocalHub::builder().edge_workload(&uri).start().await.unwrap_err();
    assert!(error.to_string().contains(&uri), "{error}");
    edge.connect().await.unwrap();
}

#[tokio::test]
async fn the_runtime_signs_over_http_through_a_websocket_too() {
    let edge = Edge::start("http://127.0.0.1:0").await;
    let builder = ModuleClient::from_edge_variables(|name| edge.environment.get(name).cloned()).unwrap();
    let builder = builder.options(edge.options()).transport(Transport::AmqpWebSocket);
    let client = within(builder.connect()).await.unwrap();
    let mut desired = within(client.twin().desired()).await.unwrap();
    within(desired.next()).await.unwrap();
}

#[tokio::test]
async fn keys_that_were_rolled_are_those_of_the_next_token() {
    let edge = Edge::start("http://127.0.0.1:0").await;
    let cable = Cable::to(edge.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..edge.options() };
    let builder = ModuleClient::from_edge_variables(|name| edge.environment.get(name).cloned()).unwrap();
    let client = within(builder.options(options).connect()).await.unwrap();

    let mut module = within(edge.registry.get_module(DEVICE, MODULE)).await.unwrap();
    let [primary, secondary] = [(); 2].map(|()| SymmetricKey::generate().unwrap().to_base64());
    module.authentication.change_to(NewAuthentication::Keys { primary, secondary }).unwrap();
    within(edge.registry.update_module(&module)).await.unwrap();

    let mut changes = client.status_changes();
    cable.cut();
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Retrying { .. }) {}
    cable.mend();
    within(client.twin().report(&json!({ "back": true }))).await.unwrap();
}

#[tokio::test]
async fn a_module_that_was_made_anew_is_somebody_else() {
    let edge = Edge::start("http://127.0.0.1:0").await;
    within(edge.registry.delete_module(DEVICE, MODULE)).await.unwrap();
    within(edge.registry.add_module(DEVICE, MODULE)).await.unwrap();
    let error = edge.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("generation"), "{error}: {cause}");
}

#[tokio::test]
async fn a_runtime_that_is_down_is_named() {
    let mut edge = Edge::start("http://127.0.0.1:0").await;
    let gone = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    edge.environment.insert("IOTEDGE_WORKLOADURI", gone.clone());
    let error = edge.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&gone) && error.to_string().contains("Edge runtime"), "{error}");
}

#[tokio::test]
async fn the_trust_bundle_is_trusted_and_nobody_else_without_it() {
    let edge = Edge::start("http://127.0.0.1:0").await;
    // The same environment with a connection string: no trust bundle is asked for.
    let module = within(edge.registry.get_module(DEVICE, MODULE)).await.unwrap();
    let string = module.connection_string("localhost").unwrap();
    let mut environment = edge.environment.clone();
    environment.insert("EdgeHubConnectionString", format!("{string};GatewayHostName=localhost"));
    let connect = |environment: HashMap<&'static str, String>| {
        let builder = ModuleClient::from_edge_variables(|name| environment.get(name).cloned()).unwrap();
        within(builder.options(edge.options()).retry(RetryPolicy::never()).connect())
    };
    let error = connect(environment.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), edge.hub.ca_pem()).unwrap();
    environment.insert("EdgeModuleCACertificateFile", file.path().display().to_string());
    let client = connect(environment).await.unwrap();
    within(client.twin().get()).await.unwrap();
}

#[tokio::test]
async fn the_gateway_is_dialled_and_the_hub_is_signed_for() {
    let hub =
        LocalHub::builder().hostname("hub.test").edge_workload("http://127.0.0.1:0").start().await.unwrap();
    let none = || iothub_emulator::hub::Precondition::None;
    hub.hub().put_device(DEVICE, &json!({}), none()).unwrap();
    hub.hub().put_module(DEVICE, MODULE, &json!({}), none()).unwrap();
    let mut environment: HashMap<_, _> = hub.edge_environment(DEVICE, MODULE).unwrap().into_iter().collect();
    assert_eq!(environment["IOTEDGE_IOTHUBHOSTNAME"], "hub.test");
    environment.insert("IOTEDGE_GATEWAYHOSTNAME", "localhost".to_owned());
    let builder = ModuleClient::from_edge_variables(|name| environment.get(name).cloned()).unwrap();
    let client = within(builder.options(hub.client_options()).connect()).await.unwrap();
    within(client.twin().get()).await.unwrap();
}

#[tokio::test]
async fn a_model_is_announced_and_shows_in_the_twin() {
    let edge = Edge::start("http://127.0.0.1:0").await;
    const MODEL: &str = "dtmi:com:example:Thermostat;1";
    let device = within(edge.registry.get_device(DEVICE)).await.unwrap();
    let string = device.connection_string("localhost").unwrap();
    let builder = iothub::DeviceClient::builder(&string).unwrap().options(edge.hub.client_options());
    let client = within(builder.model_id(MODEL).connect()).await.unwrap();
    within(client.send(Message::new("21.5"))).await.unwrap();
    let twin = within(edge.registry.get_device_twin(DEVICE)).await.unwrap();
    assert_eq!(twin.model_id.as_deref(), Some(MODEL));
}
