//! Ten thousand messages over one link, with windows of several sizes: none is lost, order is kept.
#![allow(clippy::unwrap_used)]

mod support;

use futures_util::{StreamExt, stream};
use iothub::{ModuleClient, NewDevice, TwinPatch, service::StartPosition};
use serde_json::json;
use support::{Bench, within};
use tokio::sync::Semaphore;

const MESSAGES: u32 = 10_000;
/// 50 is the default of a reader, 2048 where Microsoft's Node package stalls against a hub that forgets its session
/// window.
const WINDOWS: [usize; 4] = [1, 50, 100, 2_048];

#[tokio::test]
async fn telemetry_with_any_number_in_flight() {
    for window in WINDOWS {
        let bench = Bench::start().await;
        let client = bench.connect().await;
        let mut sends = stream::iter(0..MESSAGES).map(|n| client.send(n.to_string())).buffered(window);
        while let Some(result) = within(sends.next()).await {
            result.unwrap();
        }
        let start = StartPosition::Earliest;
        let mut events = within(bench.registry.events().start(start).stream()).await.unwrap();
        for n in 0..MESSAGES {
            let event = within(events.next()).await.unwrap().unwrap();
            assert_eq!(event.body, n.to_string(), "window {window}");
        }
    }
}

#[tokio::test]
async fn inputs_with_any_prefetch() {
    for window in WINDOWS {
        let bench = Bench::start().await;
        let registry = &bench.registry;
        within(registry.create_device(NewDevice::new("edge").iot_edge(true))).await.unwrap();
        let routes = json!({ "routes": {
            "all": "FROM /messages/modules/source/outputs/* INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
        } });
        let patch = TwinPatch::new().desired(&routes);
        within(registry.update_module_twin("edge", "$edgeHub", &patch)).await.unwrap();
        let source = connect(&bench, "source", 50).await;
        let sink = connect(&bench, "sink", u32::try_from(window).unwrap()).await;
        let mut inputs = within(sink.inputs()).await.unwrap();
        // The local hub keeps 1000 for an input.
        let room = Semaphore::new(500);
        let send = async {
            let numbers = stream::iter(0..MESSAGES).then(async |n| {
                room.acquire().await.unwrap().forget();
                n
            });
            let sends = numbers.map(|n| source.send_to_output("out", n.to_string())).buffered(100);
            sends.for_each(async |result| result.unwrap()).await;
        };
        let receive = async {
            for n in 0..MESSAGES {
                let message = within(inputs.next()).await.unwrap();
                assert_eq!(message.input_name(), Some("in"));
                assert_eq!(message.body(), n.to_string().as_bytes(), "window {window}");
                within(message.complete()).await.unwrap();
                room.add_permits(1);
            }
        };
        tokio::join!(send, receive);
    }
}

async fn connect(bench: &Bench, module: &str, prefetch: u32) -> ModuleClient {
    let module = within(bench.registry.add_module("edge", module)).await.unwrap();
    let string = module.connection_string(bench.registry.host_name()).unwrap();
    let builder = ModuleClient::builder(&string).unwrap().options(bench.options());
    within(builder.prefetch(prefetch).connect()).await.unwrap()
}
