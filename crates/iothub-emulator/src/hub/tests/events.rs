//! What devices send: the built-in endpoint, and routes between modules.

use bytes::Bytes;

use super::*;

fn message(body: &str) -> Message {
    Message { body: Bytes::copy_from_slice(body.as_bytes()), ..Message::default() }
}

fn from_output(body: &str, output: &str) -> Message {
    Message { properties: vec![("iothub-outputname".to_owned(), output.to_owned())], ..message(body) }
}

fn publish(hub: &Hub, identity: &Identity, bodies: &[&str]) {
    let messages = bodies.iter().map(|body| message(body)).collect();
    hub.publish(identity, ConnectionAuth::DEVICE_SAS, messages).unwrap();
}

fn bodies(events: &[Arc<Event>]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.message.body.to_vec()).unwrap()).collect()
}

/// The partition a device's events are in.
fn partition_of(hub: &Hub) -> u32 {
    (0..hub.partitions()).find(|n| !hub.partition(*n).unwrap().is_empty).unwrap()
}

#[test]
fn a_device_has_its_events_in_one_partition_in_order() {
    let (hub, device, module) = hub_with_module();
    for n in 0..20 {
        publish(&hub, &device, &[&format!("{n}a"), &format!("{n}b")]);
        publish(&hub, &module, &[&format!("{n}m")]);
    }
    let partition = partition_of(&hub);
    let info = hub.partition(partition).unwrap();
    assert_eq!((info.first_sequence, info.last_sequence), (0, 59));
    let mut reader = hub.read_events("$Default", partition, Start::Earliest, None).unwrap();
    let first = reader.read(50).unwrap();
    let rest = reader.read(50).unwrap();
    assert_eq!((first.len(), rest.len()), (50, 10));
    let all: Vec<_> = first.into_iter().chain(rest).collect();
    let expected: Vec<_> = (0..20).flat_map(|n| ["a", "b", "m"].map(|x| format!("{n}{x}"))).collect();
    assert_eq!(bodies(&all), expected);
    assert!(all.iter().enumerate().all(|(n, event)| event.sequence == n as i64));
    assert_eq!((&all[0].identity, &all[2].identity), (&device, &module));
    let generation = all[2].generation.to_string();
    assert_eq!(generation, hub.get_module("d", "m").unwrap()["generationId"].as_str().unwrap());
    assert_eq!(reader.read(1).unwrap(), []);
    publish(&hub, &device, &["more"]);
    assert_eq!(bodies(&reader.read(1).unwrap()), ["more"]);
    assert_eq!(hub.partition(hub.partitions()), Err(NoSuchPartition));
    assert_eq!(hub.events().len(), 61);
}

#[test]
fn devices_are_spread_over_the_partitions() {
    let hub = hub();
    for n in 0..100 {
        let id = format!("device-{n}");
        hub.put_device(&id, &json!({}), Precondition::None).unwrap();
        publish(&hub, &Identity::device(&id).unwrap(), &["x"]);
    }
    assert_eq!(hub.partitions(), 4);
    let counts: Vec<_> = (0..4).map(|n| hub.partition(n).unwrap().last_sequence + 1).collect();
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    assert_eq!(counts.iter().sum::<i64>(), 100);
}

#[test]
fn events_are_kept_for_so_long() {
    let (hub, device, _) = hub_with_module();
    publish(&hub, &device, &["old"]);
    hub.advance(Duration::from_secs(6 * 24 * 3600));
    publish(&hub, &device, &["new"]);
    let partition = partition_of(&hub);
    let mut reader = hub.read_events("g", partition, Start::Earliest, None).unwrap();
    hub.advance(Duration::from_secs(24 * 3600));
    assert_eq!(bodies(&reader.read(9).unwrap()), ["new"]);
    assert_eq!(hub.partition(partition).unwrap().first_sequence, 1);
}

#[test]
fn a_reader_with_an_epoch_takes_the_place_and_the_others_hear_of_it() {
    let (hub, device, _) = hub_with_module();
    publish(&hub, &device, &["1"]);
    let partition = partition_of(&hub);
    let mut news = hub.news();
    let mut plain = hub.read_events("g", partition, Start::Earliest, None).unwrap();
    news.mark_unchanged();
    let mut owner = hub.read_events("G", partition, Start::Earliest, Some(3)).unwrap();
    assert!(news.has_changed().unwrap());
    assert_eq!(plain.read(1), Err(Stolen));
    assert_eq!(owner.read(1).unwrap().len(), 1);
    let refused = hub.read_events("g", partition, Start::Earliest, Some(2)).unwrap_err();
    assert_eq!(refused, ReaderRefused::Epoch { current: 3 });
    drop(plain);
    drop(owner);
    hub.read_events("g", partition, Start::Earliest, None).unwrap();
}

#[test]
fn only_who_may_connect_may_send() {
    let (hub, device, module) = hub_with_module();
    let send = |identity: &Identity| {
        hub.publish(identity, ConnectionAuth::DEVICE_SAS, vec![message("x")]).map_err(|error| error.code)
    };
    assert_eq!(send(&Identity::device("nobody").unwrap()), Err(404_001));
    assert_eq!(send(&Identity::module("d", "nobody").unwrap()), Err(404_010));
    hub.put_device("d", &json!({ "status": "disabled" }), Precondition::IfMatch(None)).unwrap();
    assert_eq!(send(&device), Err(404_001));
    assert_eq!(send(&module), Err(404_001));
    assert_eq!(hub.events().len(), 0);
}

#[test]
fn sending_is_an_activity() {
    let (hub, device, _) = hub_with_module();
    assert_eq!(hub.get_device("d").unwrap()["lastActivityTime"], "0001-01-01T00:00:00");
    publish(&hub, &device, &["x"]);
    assert_ne!(hub.get_device("d").unwrap()["lastActivityTime"], "0001-01-01T00:00:00");
}

/// An edge device with modules `a` and `b` and these routes.
fn edge(routes: Value) -> (Hub, Identity, Identity) {
    let hub = hub();
    hub.put_device("e", &json!({ "capabilities": { "iotEdge": true } }), Precondition::None).unwrap();
    for module in ["a", "b"] {
        hub.put_module("e", module, &json!({}), Precondition::None).unwrap();
    }
    let edge_hub = Identity::module("e", "$edgeHub").unwrap();
    let twin = json!({ "properties": { "desired": { "routes": routes } } });
    hub.patch_twin(&edge_hub, &twin, Precondition::None).unwrap();
    (hub, Identity::module("e", "a").unwrap(), Identity::module("e", "b").unwrap())
}

#[test]
fn outputs_go_to_inputs_by_the_routes_of_the_edge_hub() {
    let (hub, a, b) = edge(json!({
        "one": r#"FROM /messages/modules/a/outputs/x INTO BrokeredEndpoint("/modules/b/inputs/y")"#,
        "two": { "route": "FROM /messages/modules/a/outputs/both INTO BrokeredEndpoint('/modules/b/inputs/z')" },
        "three": "FROM /messages/modules/a/outputs/both INTO $upstream",
        "nowhere": r#"FROM /messages/modules/a/outputs/gone INTO BrokeredEndpoint("/modules/gone/inputs/y")"#,
    }));
    let receiver = hub.connect(&b).unwrap();
    receiver.claim(Claim::Inputs);
    for output in ["x", "both", "other", "gone"] {
        hub.publish(&a, ConnectionAuth::MODULE_SAS, vec![from_output(output, output)]).unwrap();
    }
    hub.publish(&b, ConnectionAuth::MODULE_SAS, vec![from_output("from b", "x")]).unwrap();
    assert_eq!(bodies(&hub.events()), ["both", "other", "gone", "from b"]);
    assert_eq!(hub.events()[0].message.property("iothub-outputname"), Some("both"));

    assert_eq!(receiver.try_recv(), Some(Push::Waiting(Lane::Inputs)));
    for (body, input) in [("x", "y"), ("both", "z")] {
        let locked = hub.receive(&b, Lane::Inputs).unwrap().unwrap();
        assert_eq!(locked.item.body, body);
        let system: Vec<_> =
            locked.item.system.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
        let expected = [
            ("x-opt-input-name", input),
            ("iothub-connection-device-id", "e"),
            ("iothub-connection-module-id", "a"),
        ];
        assert_eq!(system, expected);
        assert_eq!(locked.item.property("iothub-outputname"), None);
        hub.settle(&b, Lane::Inputs, locked.lock, Verdict::Complete).unwrap();
    }
    assert!(hub.receive(&b, Lane::Inputs).unwrap().is_none());
    assert!(hub.receive(&b, Lane::Messages).unwrap().is_none());
}

#[test]
fn a_module_with_a_full_input_refuses_more() {
    let (hub, a, b) =
        edge(json!({ "r": r#"FROM /messages/* INTO BrokeredEndpoint("/modules/b/inputs/y")"# }));
    let many = |count| (0..count).map(|_| from_output("x", "x")).collect();
    hub.publish(&a, ConnectionAuth::MODULE_SAS, many(1000)).unwrap();
    let full = hub.publish(&a, ConnectionAuth::MODULE_SAS, many(1)).unwrap_err();
    assert_eq!(full.code, 403_004);
    let locked = hub.receive(&b, Lane::Inputs).unwrap().unwrap();
    hub.settle(&b, Lane::Inputs, locked.lock, Verdict::Complete).unwrap();
    hub.publish(&a, ConnectionAuth::MODULE_SAS, many(1)).unwrap();
}
