//! The ways to a hub: TLS, WebSockets, proxies, gateways.
#![allow(clippy::unwrap_used)]

#[path = "support/connect_proxy.rs"]
mod connect_proxy;
mod support;

use connect_proxy::ConnectProxy;
use iothub::{
    ClientOptions, ConnectionStatus, DeviceClient, ErrorKind, Message, ModuleClient, Proxy, Registry,
    RetryPolicy, Transport, TwinPatch,
};
use iothub_emulator::LocalHub;
use serde_json::{Value, json};
use support::{Bench, Cable, DEVICE, MODULE, within};

/// One attempt with these options through a WebSocket.
async fn web_socket(connection_string: &str, options: ClientOptions) -> iothub::Result<ModuleClient> {
    let builder = ModuleClient::builder(connection_string)?.options(options).retry(RetryPolicy::never());
    within(builder.transport(Transport::AmqpWebSocket).connect()).await
}

/// Only the HTTPS port is right: what reaches the hub came through it.
fn https_only(bench: &Bench) -> ClientOptions {
    ClientOptions { amqps_port: Some(1), ..bench.options() }
}

/// Twin in both directions and telemetry.
async fn use_it(bench: &Bench, client: &ModuleClient) {
    let mut desired = within(client.twin().desired()).await.unwrap();
    let first = within(desired.next()).await.unwrap().version();
    let patch = TwinPatch::new().desired(&json!({ "interval": 5 }));
    within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
    let update = within(desired.next()).await.unwrap();
    assert_eq!(update.version(), first + 1);
    assert_eq!(update.properties().get::<u32>("interval").unwrap(), Some(5));

    let parts: Vec<String> = (0..7).map(|n| n.to_string().repeat(4000)).collect();
    within(client.twin().report(&json!({ "parts": parts }))).await.unwrap();
    let twin = within(bench.registry.get_module_twin(DEVICE, MODULE)).await.unwrap();
    let reported: Value = twin.reported().unwrap();
    assert!(reported["parts"] == json!(parts));

    // Many frames and WebSocket messages.
    within(client.send(Message::new(vec![7; 200_000]))).await.unwrap();
}

#[tokio::test]
async fn a_module_does_in_a_websocket_what_it_does_over_tls() {
    let bench = Bench::start().await;
    let client = web_socket(&bench.module, https_only(&bench)).await.unwrap();
    use_it(&bench, &client).await;
    within(client.close()).await;
    let device = within(bench.registry.get_module(DEVICE, MODULE)).await.unwrap();
    assert_eq!(device.connection_state, Some(iothub::service::ConnectionState::Disconnected));
}

#[tokio::test]
async fn a_websocket_that_was_cut_is_made_anew() {
    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.https_port()).await;
    let options = ClientOptions { https_port: Some(cable.port()), amqps_port: Some(1), ..bench.options() };
    let builder = ModuleClient::builder(&bench.module).unwrap().options(options);
    let client = within(builder.transport(Transport::AmqpWebSocket).connect()).await.unwrap();
    use_it(&bench, &client).await;
    let mut changes = client.status_changes();
    cable.cut();
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Retrying { .. }) {}
    cable.mend();
    within(client.twin().report(&json!({ "back": true }))).await.unwrap();
    assert!(client.status().is_connected());
}

#[tokio::test]
async fn who_answers_without_being_a_hub_is_told_so() {
    let bench = Bench::start().await;
    // The AMQP port takes TLS and then expects an AMQP header.
    let options = ClientOptions { https_port: Some(bench.hub.amqps_port()), ..bench.options() };
    let error = web_socket(&bench.module, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&format!("localhost:{}", bench.hub.amqps_port())), "{error}");
}

#[tokio::test]
async fn a_hub_that_shuts_down_says_goodbye_in_the_websocket() {
    let bench = Bench::start().await;
    let client = web_socket(&bench.module, https_only(&bench)).await.unwrap();
    within(bench.hub.shutdown()).await;
    let error = within(client.closed()).await.unwrap();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_proxy_carries_websockets_and_https() {
    let bench = Bench::start().await;
    let office = ConnectProxy::start(bench.hub.https_port()).await;
    let options = ClientOptions { proxy: Some(office.proxy()), ..https_only(&bench) };
    let client = web_socket(&bench.module, options.clone()).await.unwrap();
    use_it(&bench, &client).await;
    assert_eq!(office.asked(), [format!("localhost:{}", bench.hub.https_port())]);

    let registry =
        Registry::from_connection_string_with(&bench.hub.connection_string(), options.clone()).unwrap();
    within(registry.get_device(DEVICE)).await.unwrap();
    assert_eq!(office.asked().len(), 2);

    // An exception is dialled directly.
    let proxy = Some(office.proxy().except("localhost"));
    web_socket(&bench.module, ClientOptions { proxy, ..options }).await.unwrap();
    assert_eq!(office.asked().len(), 2);
}

#[tokio::test]
async fn what_a_proxy_says_no_to_is_told_apart() {
    let bench = Bench::start().await;
    let office = ConnectProxy::start(bench.hub.https_port()).await;
    let gone = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let forbidden = bench.module_with("HostName", "forbidden");
    for (connection_string, proxy, kind, says) in [
        (&bench.module, office.with_user("user:wrong"), ErrorKind::Unauthorized, "user and password"),
        (
            &bench.module,
            Proxy::new(&format!("127.0.0.1:{}", office.port())).unwrap(),
            ErrorKind::Unauthorized,
            "user and",
        ),
        (&forbidden, office.proxy(), ErrorKind::Connect, "forbidden:"),
        (
            &bench.module,
            Proxy::new(&format!("127.0.0.1:{gone}")).unwrap(),
            ErrorKind::Connect,
            "could not reach the proxy",
        ),
    ] {
        let options = ClientOptions { proxy: Some(proxy.clone()), ..https_only(&bench) };
        let error = web_socket(connection_string, options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(says), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{}", proxy.port())), "{text}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    assert!(office.asked().is_empty());
}

#[tokio::test]
async fn a_proxy_does_not_carry_bare_amqp_and_that_is_said_before_anything_is_dialled() {
    let bench = Bench::start().await;
    let office = ConnectProxy::start(bench.hub.amqps_port()).await;
    let options = ClientOptions { proxy: Some(office.proxy()), ..bench.options() };
    let error = within(ModuleClient::connect_with(&bench.module, options.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.contains("AmqpWebSocket") && text.contains("localhost"), "{text}");
    assert!(office.asked().is_empty());

    let proxy = Some(office.proxy().except("localhost"));
    within(ModuleClient::connect_with(&bench.module, ClientOptions { proxy, ..options })).await.unwrap();
}

#[tokio::test]
async fn a_gateway_is_dialled_and_must_be_who_it_says() {
    let hub = LocalHub::builder().hostname("hub.test").hostname("gateway.test").start().await.unwrap();
    // No name server knows these names; the proxy takes them to the local hub.
    let office = ConnectProxy::start(hub.https_port()).await;
    let options = ClientOptions { proxy: Some(office.proxy()), ..hub.client_options() };
    let registry = Registry::from_connection_string_with(&hub.connection_string(), options.clone()).unwrap();
    within(registry.create_device(DEVICE)).await.unwrap();
    let module = within(registry.add_module(DEVICE, MODULE)).await.unwrap();
    let module = module.connection_string("hub.test").unwrap();
    let asked = office.asked().len();

    let client =
        web_socket(&format!("{module};GatewayHostName=gateway.test"), options.clone()).await.unwrap();
    within(client.twin().get()).await.unwrap();
    assert_eq!(office.asked()[asked..], [format!("gateway.test:{}", hub.https_port())]);

    let stranger = format!("{module};GatewayHostName=stranger.test");
    let error = web_socket(&stranger, options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
    assert!(error.to_string().contains("not valid for the name stranger.test"), "{error}");
}

#[tokio::test]
async fn a_gateway_is_dialled_over_tls_too() {
    let hub = LocalHub::builder().hostname("hub.test").start().await.unwrap();
    let body = json!({ "deviceId": DEVICE });
    let device = hub.hub().put_device(DEVICE, &body, iothub_emulator::hub::Precondition::None).unwrap();
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let string =
        format!("HostName=hub.test;DeviceId={DEVICE};SharedAccessKey={key};GatewayHostName=localhost");
    let client = within(DeviceClient::connect_with(&string, hub.client_options())).await.unwrap();
    within(client.twin().get()).await.unwrap();
}
