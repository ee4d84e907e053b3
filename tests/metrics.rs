//! The numbers of docs/metrics.md.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use iothub::{
    ClientOptions, ErrorKind, ModuleClient, Registry,
    device::{TelemetryBuffer, WhenFull},
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;
use support::{Bench, Cable, DEVICE, MODULE, within};

/// Everything counted since the last look, by name and labels; of histograms how many values.
type Numbers = BTreeMap<String, f64>;

fn numbers(recorder: &metrics_util::debugging::Snapshotter) -> Numbers {
    let entries = recorder.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let labels: Vec<_> = key.key().labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        let value = match value {
            DebugValue::Counter(n) => u32::try_from(n).unwrap().into(),
            DebugValue::Gauge(value) => value.0,
            DebugValue::Histogram(values) => u32::try_from(values.len()).unwrap().into(),
        };
        let name = key.key().name().strip_prefix("iothub_device_").unwrap();
        (format!("{name} {}", labels.join(",")).trim_end().to_owned(), value)
    });
    entries.collect()
}

// The only test of this file: there is one recorder in a process.
#[tokio::test]
async fn what_happens_is_counted_under_the_documented_names() {
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    recorder.install().unwrap();

    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    let client = within(ModuleClient::connect_with(&bench.module, options)).await.unwrap();
    within(client.twin().get()).await.unwrap();
    within(client.twin().report(&json!({ "a": 1 }))).await.unwrap();
    within(client.send("one")).await.unwrap();
    within(client.send_batch(&["two".into(), "three".into()])).await.unwrap();
    let mut changes = client.status_changes();
    cable.cut();
    while within(changes.next()).await.unwrap().is_connected() {}
    cable.mend();
    within(client.send("four")).await.unwrap();
    let mut methods = within(client.methods()).await.unwrap();
    let answering = async {
        let request = within(methods.next()).await.unwrap();
        within(request.respond(200, &json!(null))).await.unwrap();
    };
    let registry: &Registry = &bench.registry;
    let (called, ()) = tokio::join!(within(registry.invoke_module_method(DEVICE, MODULE, "any")), answering);
    called.unwrap();

    let buffer = TelemetryBuffer::builder().max_messages(2).when_full(WhenFull::DropOldest).start();
    for n in 0..3 {
        within(buffer.push(n.to_string())).await.unwrap();
    }
    let now = numbers(&seen);
    for (name, expected) in [
        ("connected", 1.0),
        ("connects_total", 2.0),
        ("reconnects_total", 1.0),
        ("calls_in_flight call=send", 0.0),
        ("call_seconds call=twin_get,result=Ok", 1.0),
        ("call_seconds call=twin_report,result=Ok", 1.0),
        ("call_seconds call=send,result=Ok", 3.0),
        ("call_seconds call=method_answer,result=Ok", 1.0),
        ("messages_sent_total", 4.0),
        ("messages_received_total what=methods", 1.0),
        ("buffer_waiting", 2.0),
        ("buffer_dropped_total", 1.0),
    ] {
        assert_eq!(now.get(name), Some(&expected), "{name} in {now:#?}");
    }
    // By which error the end of the wire shows itself is up to the moment.
    let losses: f64 =
        now.iter().filter(|(n, _)| n.starts_with("connection_losses_total kind=")).map(|(_, v)| v).sum();
    assert!((losses - 1.0).abs() < f64::EPSILON, "{now:#?}");

    buffer.send_through(&client);
    within(buffer.flush()).await.unwrap();
    within(buffer.close()).await;
    within(registry.delete_module(DEVICE, MODULE)).await.unwrap();
    assert_eq!(within(client.closed()).await.unwrap().kind(), ErrorKind::NotFound);
    let now = numbers(&seen);
    // Gauges too begin at 0 with each look.
    for (name, expected) in [
        ("connected", -1.0),
        ("buffer_waiting", -2.0),
        ("messages_sent_total", 2.0),
        ("connection_losses_total kind=NotFound", 1.0),
        ("connect_failures_total kind=NotFound", 1.0),
    ] {
        assert_eq!(now.get(name), Some(&expected), "{name} in {now:#?}");
    }
}
