//! Messages to the hub, read back from its built-in endpoint.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::SystemTime;

use futures_util::{StreamExt, stream::FuturesOrdered};
use iothub::{
    ClientOptions, DeviceClient, ErrorKind, Message, Registry,
    service::{DeviceEvent, EventStream, StartPosition},
};
use support::{Bench, Cable, DEVICE, MODULE, within};

async fn events(bench: &Bench) -> EventStream {
    within(bench.registry.events().start(StartPosition::Earliest).stream()).await.unwrap()
}

async fn next(events: &mut EventStream) -> DeviceEvent {
    within(events.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_message_arrives_with_all_its_properties() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let message = Message::json(&serde_json::json!({ "t": 21.5 }))
        .unwrap()
        .message_id("id-1")
        .correlation_id("id-0")
        .creation_time(SystemTime::UNIX_EPOCH)
        .property("alert", "true")
        .property("ü", "é");
    within(client.send(message)).await.unwrap();
    let event = next(&mut events(&bench).await).await;
    assert_eq!(&event.body[..], br#"{"t":21.5}"#);
    assert_eq!(event.device_id.as_deref(), Some(DEVICE));
    assert_eq!(event.module_id.as_deref(), Some(MODULE));
    assert_eq!(event.message_id.as_deref(), Some("id-1"));
    assert_eq!(event.correlation_id.as_deref(), Some("id-0"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(event.properties.get("alert").map(String::as_str), Some("true"));
    assert_eq!(event.properties.get("ü").map(String::as_str), Some("é"));
}

#[tokio::test]
async fn many_in_flight_and_batches_keep_their_order() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut sends: FuturesOrdered<_> = (0..3_000u32).map(|n| client.send(n.to_string())).collect();
    while let Some(result) = within(sends.next()).await {
        result.unwrap();
    }
    drop(sends);
    // Three batches of up to 256 KiB.
    let batch: Vec<_> = (3_000..3_060u32).map(|n| Message::new(format!("{n:>10000}"))).collect();
    within(client.send_batch(&batch)).await.unwrap();
    let mut events = events(&bench).await;
    for n in 0..3_060u32 {
        let text = String::from_utf8(next(&mut events).await.body.to_vec()).unwrap();
        assert_eq!(text.trim().parse(), Ok(n));
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_here_with_its_size_and_the_link_stays() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    within(client.send("before")).await.unwrap();
    let error = within(client.send(vec![0; 262_145])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("262145"), "{error}");
    within(client.send(vec![0; 262_144])).await.unwrap();
    assert!(client.status().is_connected());
}

#[tokio::test]
async fn nothing_is_lost_over_many_cuts() {
    let bench = Bench::start().await;
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    let soon = std::time::Duration::from_millis(1);
    let retry = iothub::RetryPolicy { initial: soon, ceiling: soon, max_retries: None };
    let builder = DeviceClient::builder(&string).unwrap().options(options).retry(retry);
    let client = within(builder.connect()).await.unwrap();
    for round in 0..10u32 {
        let sends: FuturesOrdered<_> = (0..100).map(|n| client.send((round * 100 + n).to_string())).collect();
        let cut = async {
            tokio::task::yield_now().await;
            cable.cut();
            tokio::task::yield_now().await;
            cable.mend();
        };
        let (results, ()) = within(async { tokio::join!(sends.collect::<Vec<_>>(), cut) }).await;
        results.into_iter().for_each(|result| result.unwrap());
    }
    within(client.send("end")).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut events = events(&bench).await;
    loop {
        let text = String::from_utf8(next(&mut events).await.body.to_vec()).unwrap();
        if text == "end" {
            break;
        }
        seen.insert(text.parse::<u32>().unwrap());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn outputs_are_named_and_wrong_policies_read_nothing() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    within(client.send_to_output("alarms", "fire")).await.unwrap();
    let error = within(client.send_to_output("", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    let key = bench.hub.hub().policy("registryRead").unwrap().primary.to_base64();
    let string =
        format!("HostName=localhost;SharedAccessKeyName=registryRead;SharedAccessKey={}", key.reveal());
    let registry = Registry::from_connection_string_with(&string, bench.options()).unwrap();
    let error = within(registry.events().connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}
