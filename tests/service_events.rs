//! Reading what devices send, by the hub's own connection string: positions, partitions, groups, losses.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use iothub::{
    DeviceClient, ErrorKind, Message, NewDevice, Registry, SymmetricKey,
    service::{DeviceEvent, EventReader, EventSource, EventStream, Proxy, StartPosition},
};
use iothub_emulator::LocalHub;
use support::{Bench, DEVICE, ProxyServer, within};

/// A connected device of the bench.
async fn device(registry: &Registry, hub: &LocalHub, id: &str) -> DeviceClient {
    let device = registry.get_or_create_device(id).await.unwrap();
    let connection_string = device.connection_string(registry.host_name()).unwrap();
    within(DeviceClient::connect_with(&connection_string, hub.client_options())).await.unwrap()
}

async fn send(client: &DeviceClient, bodies: impl IntoIterator<Item = i64>) {
    for n in bodies {
        within(client.send(Message::new(n.to_string()))).await.unwrap();
    }
}

async fn next(events: &mut EventStream) -> DeviceEvent {
    within(events.next()).await.unwrap().unwrap()
}

fn number(event: &DeviceEvent) -> i64 {
    std::str::from_utf8(&event.body).unwrap().parse().unwrap()
}

async fn numbers(events: &mut EventStream, count: usize) -> Vec<i64> {
    let mut found = Vec::new();
    while found.len() < count {
        found.push(number(&next(events).await));
    }
    found
}

/// Where the events of the bench's device are.
async fn partition_of(reader: &EventReader) -> String {
    let mut events = within(reader.stream(StartPosition::Earliest)).await.unwrap();
    next(&mut events).await.partition_id.to_string()
}

#[tokio::test]
async fn an_event_has_what_the_device_and_the_hub_say() {
    let bench = Bench::start().await;
    let client = device(&bench.registry, &bench.hub, DEVICE).await;
    let mut events = within(bench.registry.events().stream()).await.unwrap();
    let before = SystemTime::now() - Duration::from_secs(1);
    let message = Message::new(r#"{"t":21.5}"#)
        .message_id("m-1")
        .correlation_id("c-1")
        .content_type("application/json")
        .content_encoding("utf-8")
        .property("level", "high");
    within(client.send(message)).await.unwrap();
    let event = next(&mut events).await;
    assert_eq!(event.body.as_ref(), br#"{"t":21.5}"#);
    assert_eq!(event.json::<serde_json::Value>().unwrap(), serde_json::json!({ "t": 21.5 }));
    assert_eq!((event.device_id.as_deref(), event.module_id.as_deref()), (Some(DEVICE), None));
    assert_eq!(event.source, Some(EventSource::Telemetry));
    assert_eq!(event.message_id.as_deref(), Some("m-1"));
    assert_eq!(event.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(event.properties["level"], "high");
    assert_eq!(event.properties.len(), 1);
    assert!(event.enqueued_time.unwrap() > before && event.hub_enqueued_time.unwrap() > before);
    let generation = bench.registry.get_device(DEVICE).await.unwrap().generation_id;
    assert_eq!(event.generation_id, generation);
    assert!(event.annotations["iothub-connection-auth-method"].contains("\"scope\":\"device\""));

    let module = bench.connect().await;
    within(module.send(Message::new("from the module"))).await.unwrap();
    let event = next(&mut events).await;
    assert_eq!(event.device_id.as_deref(), Some(DEVICE));
    assert_eq!(event.module_id.as_deref(), Some(support::MODULE));
}

#[tokio::test]
async fn each_start_position_begins_where_it_says() {
    let bench = Bench::start().await;
    let client = device(&bench.registry, &bench.hub, DEVICE).await;
    send(&client, 0..3).await;
    bench.hub.advance(Duration::from_secs(60));
    let reader = within(bench.registry.events().connect()).await.unwrap();
    let partition = partition_of(&reader).await;
    send(&client, 3..6).await;

    let mut all = within(reader.partition_stream(&partition, StartPosition::Earliest)).await.unwrap();
    let mut known = Vec::new();
    while known.len() < 6 {
        known.push(next(&mut all).await);
    }
    assert_eq!(known.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let time = |n: usize| known[n].enqueued_time.unwrap();
    for (start, expected) in [
        (StartPosition::Earliest, 0),
        (StartPosition::AtSequenceNumber(known[1].sequence_number), 1),
        (StartPosition::AfterSequenceNumber(known[1].sequence_number), 2),
        (StartPosition::AtOffset(known[3].offset.clone()), 3),
        (StartPosition::AfterOffset(known[3].offset.clone()), 4),
        (StartPosition::After(time(2) + Duration::from_secs(30)), 3),
    ] {
        let mut events = within(reader.partition_stream(&partition, start.clone())).await.unwrap();
        assert_eq!(number(&next(&mut events).await), expected, "{start:?}");
    }
    let mut latest = within(reader.partition_stream(&partition, StartPosition::Latest)).await.unwrap();
    send(&client, [6]).await;
    assert_eq!(number(&next(&mut latest).await), 6);

    let bad = StartPosition::AfterOffset("1' OR '1'='1".to_owned());
    let error = within(reader.partition_stream(&partition, bad)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    reader.close().await;
}

#[tokio::test]
async fn a_stream_over_all_partitions_has_every_event_once_and_each_device_in_order() {
    let bench = Bench::start().await;
    let ids: Vec<_> = (0..12).map(|n| format!("device-{n}")).collect();
    let mut clients = Vec::new();
    for id in &ids {
        clients.push(device(&bench.registry, &bench.hub, id).await);
    }
    let reader = within(bench.registry.events().prefetch(7).connect()).await.unwrap();
    let mut events = within(reader.stream(StartPosition::Latest)).await.unwrap();
    let sends = futures_util::future::join_all(clients.iter().map(|client| send(client, 0..50)));
    let reads = async {
        let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut partitions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for _ in 0..600 {
            let event = next(&mut events).await;
            let id = event.device_id.clone().unwrap();
            partitions.entry(id.clone()).or_default().insert(event.partition_id.to_string());
            seen.entry(id).or_default().push(number(&event));
        }
        (seen, partitions)
    };
    let (_, (seen, partitions)) = tokio::join!(sends, reads);
    assert_eq!(seen.len(), 12);
    assert!(seen.values().all(|numbers| numbers.iter().copied().eq(0..50)));
    assert!(partitions.values().all(|partitions| partitions.len() == 1), "{partitions:?}");

    // What lies in the partitions is what was read.
    let mut total = 0;
    for id in reader.partition_ids() {
        let info = within(reader.partition_info(id)).await.unwrap();
        assert_eq!(info.partition_id, id);
        assert_eq!(info.is_empty, info.last_sequence_number < info.first_sequence_number);
        total += info.last_sequence_number - info.first_sequence_number + 1;
    }
    assert_eq!(total, 600);
    let error = within(reader.partition_info("99")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_program_goes_on_where_it_stopped() {
    let bench = Bench::start().await;
    let client = device(&bench.registry, &bench.hub, DEVICE).await;
    send(&client, 0..10).await;
    let mut first = within(bench.registry.events().start(StartPosition::Earliest).stream()).await.unwrap();
    let mut kept: BTreeMap<String, i64> = BTreeMap::new();
    for expected in 0..4 {
        let event = next(&mut first).await;
        assert_eq!(number(&event), expected);
        kept.insert(event.partition_id.to_string(), event.sequence_number);
    }
    drop(first);
    let reader = within(bench.registry.events().connect()).await.unwrap();
    let start = |partition: &str| {
        kept.get(partition).map_or(StartPosition::Earliest, |last| StartPosition::AfterSequenceNumber(*last))
    };
    let mut second = within(reader.stream_from(start)).await.unwrap();
    assert_eq!(numbers(&mut second, 6).await, [4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_slow_reader_holds_the_hub_back_and_loses_nothing() {
    let bench = Bench::start().await;
    let client = device(&bench.registry, &bench.hub, DEVICE).await;
    let builder = bench.registry.events().start(StartPosition::Earliest).prefetch(5);
    let mut events = within(builder.stream()).await.unwrap();
    send(&client, 0..100).await;
    for expected in 0..100 {
        assert_eq!(number(&next(&mut events).await), expected);
    }
}

#[tokio::test]
async fn groups_do_not_disturb_each_other_and_an_owner_takes_over() {
    let bench = Bench::start().await;
    let client = device(&bench.registry, &bench.hub, DEVICE).await;
    send(&client, [0]).await;
    let group = |name: &str| bench.registry.events().consumer_group(name).start(StartPosition::Earliest);
    let mut plain = within(group("one").stream()).await.unwrap();
    let mut other = within(group("two").stream()).await.unwrap();
    assert_eq!(number(&next(&mut plain).await), 0);
    assert_eq!(number(&next(&mut other).await), 0);

    let mut owner = within(group("one").owner_level(1).stream()).await.unwrap();
    assert_eq!(number(&next(&mut owner).await), 0);
    let error = within(plain.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("group `one`"), "{error}");
    assert!(within(plain.next()).await.is_none());
    let error = within(group("one").stream()).await.unwrap_err();
    assert_eq!(error.hub_code(), Some("amqp:link:stolen"), "{error:?}");
    send(&client, [1]).await;
    assert_eq!(number(&next(&mut owner).await), 1);
    assert_eq!(number(&next(&mut other).await), 1);

    let error = within(group("no/group").stream()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn no_event_is_lost_or_seen_twice_over_many_losses() {
    let bench = Bench::start().await;
    let client = device(&bench.registry, &bench.hub, DEVICE).await;
    let proxy = ProxyServer::start().await;
    let mut options = bench.options();
    options.proxy = Some(Proxy::new(&format!("http://127.0.0.1:{}", proxy.port())).unwrap());
    let registry = Registry::from_connection_string_with(&bench.hub.connection_string(), options).unwrap();
    let mut events = within(registry.events().prefetch(20).stream()).await.unwrap();
    // Before the first event: "latest" is still the moment at which the stream was opened.
    proxy.cut();
    send(&client, [0]).await;
    proxy.mend();
    assert_eq!(number(&next(&mut events).await), 0);
    let sends = async {
        for n in 1..300 {
            send(&client, [n]).await;
            match n % 60 {
                20 => proxy.cut(),
                40 => proxy.mend(),
                _ => {}
            }
        }
        proxy.mend();
    };
    let reads = async {
        for expected in 1..300 {
            assert_eq!(number(&next(&mut events).await), expected);
        }
    };
    tokio::join!(sends, reads);
}

#[tokio::test]
async fn a_hub_that_comes_back_with_a_new_log_is_read_from_its_beginning() {
    let state = tempfile::tempdir().unwrap();
    let first = LocalHub::builder().state_dir(state.path()).start().await.unwrap();
    let (https, amqps) = (first.https_port(), first.amqps_port());
    let (string, options) = (first.connection_string(), first.client_options());
    let registry = Registry::from_connection_string_with(&string, options).unwrap();
    let key = || SymmetricKey::generate().unwrap().to_base64();
    let new = NewDevice::new(DEVICE).keys(key(), key());
    registry.create_device(new.clone()).await.unwrap();
    let client = device(&registry, &first, DEVICE).await;
    let mut events = within(registry.events().stream()).await.unwrap();
    send(&client, 0..20).await;
    assert_eq!(numbers(&mut events, 20).await, (0..20).collect::<Vec<_>>());
    client.close().await;
    within(first.shutdown()).await;

    let builder = LocalHub::builder().state_dir(state.path()).https_port(https).amqps_port(amqps);
    let second = builder.start().await.unwrap();
    registry.create_device(new).await.unwrap();
    let client = device(&registry, &second, DEVICE).await;
    send(&client, 100..103).await;
    assert_eq!(numbers(&mut events, 3).await, [100, 101, 102]);
}

#[tokio::test]
async fn credentials_that_do_not_suffice_say_so() {
    let bench = Bench::start().await;
    let string = bench.hub.connection_string();
    let (start, _) = string.split_once(";SharedAccessKey=").unwrap();
    let wrong = format!("{start};SharedAccessKey=bm90IHRoZSByaWdodCBrZXk=");
    let registry = Registry::from_connection_string_with(&wrong, bench.options()).unwrap();
    let error = within(registry.events().stream()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);

    let key = bench.hub.hub().policy("registryRead").unwrap().primary.to_base64();
    let host = bench.registry.host_name();
    let string = format!("HostName={host};SharedAccessKeyName=registryRead;SharedAccessKey={}", key.reveal());
    let registry = Registry::from_connection_string_with(&string, bench.options()).unwrap();
    let error = within(registry.events().stream()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn close_ends_the_streams_of_a_reader() {
    let bench = Bench::start().await;
    let reader = within(bench.registry.events().connect()).await.unwrap();
    let events = within(reader.stream(StartPosition::Earliest)).await.unwrap();
    within(reader.close()).await;
    assert!(within(events.try_collect::<Vec<_>>()).await.unwrap().is_empty());
    let error = within(reader.stream(StartPosition::Earliest)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
