//! Direct methods that modules call on their neighbours, through a hub that plays their gateway.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use iothub::{
    DeviceClient, ErrorKind, ModuleClient, Registry,
    device::{DirectMethod, MethodRequests},
};
use iothub_emulator::LocalHub;
use serde_json::{Value, json};
use support::within;

const EDGE: &str = "edge-1";

/// A gateway of `edge-1`, whose module `controller` calls, and others to be called.
struct Site {
    hub: LocalHub,
    registry: Registry,
}

impl Site {
    async fn start(gateway: bool) -> Self {
        let builder = LocalHub::builder();
        let builder = if gateway { builder.edge_gateway(EDGE) } else { builder };
        let hub = builder.start().await.unwrap();
        let registry =
            Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
        registry.create_device(EDGE).await.unwrap();
        registry.create_device("leaf").await.unwrap();
        Self { hub, registry }
    }

    async fn module(&self, device: &str, module: &str) -> ModuleClient {
        let module = self.registry.get_or_add_module(device, module).await.unwrap();
        let string = module.connection_string(self.registry.host_name()).unwrap();
        // What is dialled is the gateway, by its name.
        let string = format!("{string};GatewayHostName=localhost");
        within(ModuleClient::connect_with(&string, self.hub.client_options())).await.unwrap()
    }

    async fn device(&self, device: &str) -> DeviceClient {
        let device = self.registry.get_device(device).await.unwrap();
        let string = device.connection_string(self.registry.host_name()).unwrap();
        within(DeviceClient::connect_with(&string, self.hub.client_options())).await.unwrap()
    }
}

/// Answers one request with its name and payload.
async fn echo(mut requests: MethodRequests) {
    let request = requests.next().await.unwrap();
    let payload: Value = request.payload_as().unwrap();
    let answer = json!({ "name": request.name(), "got": payload });
    request.respond(207, &answer).await.unwrap();
}

#[tokio::test]
async fn a_module_calls_a_module_and_a_device() {
    let site = Site::start(true).await;
    let caller = site.module(EDGE, "controller").await;
    let (pump, leaf) = (site.module(EDGE, "pump#1").await, site.device("leaf").await);
    let (on_pump, on_leaf) = (pump.methods().await.unwrap(), leaf.methods().await.unwrap());

    let method = DirectMethod::new("start").payload(&json!({ "speed": 3 }));
    let call = caller.invoke_module_method(EDGE, "pump#1", method);
    let (answer, ()) = within(async { tokio::join!(call, echo(on_pump)) }).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 207);
    assert_eq!(answer.to::<Value>().unwrap(), json!({ "name": "start", "got": { "speed": 3 } }));

    let call = caller.invoke_device_method("leaf", "blink");
    let (answer, ()) = within(async { tokio::join!(call, echo(on_leaf)) }).await;
    assert_eq!(answer.unwrap().to::<Value>().unwrap(), json!({ "name": "blink", "got": null }));
    for client in [caller, pump] {
        client.close().await;
    }
    leaf.close().await;
}

#[tokio::test]
async fn who_is_not_there_or_does_not_listen_is_told_apart() {
    let site = Site::start(true).await;
    let caller = site.module(EDGE, "controller").await;
    let deaf = site.module(EDGE, "deaf").await;
    for (device, module, kind, code) in [
        ("nobody", None, ErrorKind::NotFound, "DeviceNotFound"),
        (EDGE, Some("nobody"), ErrorKind::NotFound, "ModuleNotFound"),
        ("leaf", None, ErrorKind::Unavailable, "DeviceNotOnline"),
        (EDGE, Some("deaf"), ErrorKind::Unavailable, "DeviceNotOnline"),
    ] {
        let result = match module {
            None => within(caller.invoke_device_method(device, "m")).await,
            Some(module) => within(caller.invoke_module_method(device, module, "m")).await,
        };
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.hub_code()), (kind, Some(code)), "{device} {module:?}");
        assert!(!error.may_have_been_applied());
    }
    for client in [caller, deaf] {
        client.close().await;
    }
}

#[tokio::test]
async fn bad_calls_are_refused() {
    let site = Site::start(true).await;
    let caller = site.module(EDGE, "controller").await;
    let methods = [
        DirectMethod::new(""),
        DirectMethod::new("m").payload(&"x".repeat(200_000)),
        DirectMethod::new("m").response_timeout(Duration::from_secs(301)),
        DirectMethod::new("n".repeat(101)),
    ];
    for method in methods {
        let error = within(caller.invoke_device_method("leaf", method)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
    let error = within(caller.invoke_device_method("no such id", "m")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    caller.close().await;
    let error = within(caller.invoke_device_method("leaf", "m")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn only_modules_of_the_gateways_device_may_call() {
    let site = Site::start(true).await;
    let stranger = site.module("leaf", "controller").await;
    let error = within(stranger.invoke_device_method("leaf", "m")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("of its own device"), "{error}");
    stranger.close().await;

    // A hub that is no gateway, like one in the cloud.
    let site = Site::start(false).await;
    let caller = site.module(EDGE, "controller").await;
    let error = within(caller.invoke_device_method("leaf", "m")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("GatewayHostName"), "{error}");
    caller.close().await;
}
