//! Connections and what is pushed to them.

use super::*;

fn desired(value: Value) -> Value {
    json!({ "properties": { "desired": value } })
}

fn write(hub: &Hub, identity: &Identity, value: Value) {
    hub.patch_twin(identity, &desired(value), Precondition::None).unwrap();
}

fn state_of(hub: &Hub, identity: &Identity) -> String {
    hub.get_twin(identity).unwrap()["connectionState"].as_str().unwrap().to_owned()
}

fn pushed(connected: &Connected) -> Vec<String> {
    std::iter::from_fn(|| connected.try_recv())
        .map(|push| match push {
            Push::Desired { body, .. } => String::from_utf8(body.to_vec()).unwrap(),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn connected_while_at_least_one_connection_lives() {
    let (hub, device, module) = hub_with_module();
    assert_eq!(state_of(&hub, &module), "Disconnected");
    let first = hub.connect(&module).unwrap();
    assert_eq!(state_of(&hub, &module), "Connected");
    assert_eq!(state_of(&hub, &device), "Disconnected", "a module is not its device");
    let since = hub.get_module("d", "m").unwrap()["connectionStateUpdatedTime"].clone();
    assert_ne!(since, "0001-01-01T00:00:00");
    hub.advance(Duration::from_secs(60));
    let second = hub.connect(&module).unwrap();
    hub.advance(Duration::from_secs(60));
    drop(first);
    assert_eq!(state_of(&hub, &module), "Connected");
    assert_eq!(hub.get_module("d", "m").unwrap()["connectionStateUpdatedTime"], since);
    drop(second);
    let after = hub.get_module("d", "m").unwrap();
    assert_eq!(after["connectionState"], "Disconnected");
    assert_ne!(after["connectionStateUpdatedTime"], since);

    let etag = hub.get_twin(&module).unwrap()["etag"].clone();
    assert_eq!(etag, "AAAAAAAAAAE=", "connecting is no write");
    assert_eq!(hub.statistics(), Statistics { devices: 1, enabled: 1, connected: 0 });
    let _device = hub.connect(&device).unwrap();
    assert_eq!(hub.statistics(), Statistics { devices: 1, enabled: 1, connected: 1 });
}

/// Rows 44 and 45 of the reference's vectors.
#[test]
fn only_who_subscribed_is_told_and_only_from_then_on() {
    let (hub, _, module) = hub_with_module();
    let connected = hub.connect(&module).unwrap();
    write(&hub, &module, json!({ "a": 1 }));
    assert_eq!(pushed(&connected), [""; 0]);
    connected.subscribe_desired();
    assert_eq!(pushed(&connected), [""; 0], "subscribing itself tells nothing");
    write(&hub, &module, json!({ "a": null, "zz": null, "$version": 7 }));
    connected.subscribe_desired();
    write(&hub, &module, json!({ "zz": null }));
    hub.patch_twin(&module, &json!({ "tags": { "g": 1 } }), Precondition::None).unwrap();
    hub.replace_twin(&module, &desired(json!({ "c": 3 })), Precondition::None).unwrap();
    assert_eq!(pushed(&connected), [r#"{"a":null,"zz":null,"$version":3}"#, r#"{"c":3,"$version":4}"#]);

    write(&hub, &module, json!({ "d": 4 }));
    connected.unsubscribe_desired();
    write(&hub, &module, json!({ "d": 5 }));
    assert_eq!(pushed(&connected), [""; 0], "after unsubscribing nothing comes, not what waited either");

    drop(connected);
    for value in 0..3 {
        write(&hub, &module, json!({ "d": value }));
    }
    let connected = hub.connect(&module).unwrap();
    connected.subscribe_desired();
    assert_eq!(pushed(&connected), [""; 0]);
    let twin: Value = serde_json::from_slice(&hub.device_twin(&module).unwrap()).unwrap();
    assert_eq!(twin["desired"]["$version"], 9);
}

#[test]
fn every_connection_of_an_identity_is_told_others_are_not() {
    let (hub, device, module) = hub_with_module();
    let connections = [hub.connect(&module).unwrap(), hub.connect(&module).unwrap()];
    let other = hub.connect(&device).unwrap();
    connections.iter().chain([&other]).for_each(Connected::subscribe_desired);
    write(&hub, &module, json!({ "a": 1 }));
    for connected in &connections {
        assert_eq!(pushed(connected), [r#"{"a":1,"$version":2}"#]);
    }
    assert_eq!(pushed(&other), [""; 0]);
}

#[test]
fn writers_at_once_leave_no_gap() {
    let (hub, _, module) = hub_with_module();
    let connected = hub.connect(&module).unwrap();
    connected.subscribe_desired();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (hub, module) = (&hub, &module);
            scope.spawn(move || {
                (0..100).for_each(|value| write(hub, module, json!({ "w": [writer, value] })))
            });
        }
    });
    let versions: Vec<_> = std::iter::from_fn(|| connected.try_recv())
        .map(|push| if let Push::Desired { version, .. } = push { version } else { 0 })
        .collect();
    assert_eq!(versions, (2..=401).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_is_told_that_it_missed_something() {
    let (hub, _, module) = hub_with_module();
    let connected = hub.connect(&module).unwrap();
    connected.subscribe_desired();
    for value in 0..1000 {
        write(&hub, &module, json!({ "a": value }));
    }
    assert!(matches!(connected.try_recv(), Some(Push::Desired { version: 2, .. })));
    write(&hub, &module, json!({ "a": "fits" }));
    write(&hub, &module, json!({ "a": "one too many" }));
    write(&hub, &module, json!({ "a": "not subscribed any more" }));
    assert_eq!(connected.try_recv(), Some(Push::Overflow));
    assert_eq!(connected.try_recv(), None);

    connected.subscribe_desired();
    write(&hub, &module, json!({ "a": 1 }));
    assert_eq!(pushed(&connected), [r#"{"a":1,"$version":1005}"#]);
}

#[test]
fn a_slow_reader_of_large_notifications_too() {
    let (hub, _, module) = hub_with_module();
    let connected = hub.connect(&module).unwrap();
    connected.subscribe_desired();
    let large = large_patch(2);
    for _ in 0..3 {
        write(&hub, &module, large.clone());
    }
    assert_eq!(connected.try_recv(), Some(Push::Overflow));
    assert_eq!(connected.try_recv(), None);

    // A reader that is one behind gets any number of them.
    connected.subscribe_desired();
    write(&hub, &module, json!({ "a": 1 }));
    for _ in 0..5 {
        write(&hub, &module, large.clone());
        assert!(matches!(connected.try_recv(), Some(Push::Desired { .. })));
    }
    assert!(matches!(connected.try_recv(), Some(Push::Desired { .. })));

    // One that is larger than all may be goes alone.
    write(&hub, &module, large_patch(5));
    assert!(matches!(connected.try_recv(), Some(Push::Desired { .. })));
    assert_eq!(connected.try_recv(), None);
}

/// Nulls for what is not there are passed on but do not count in the section.
fn large_patch(megabytes: usize) -> Value {
    let nulls = (0..megabytes * 1000).map(|number| (format!("{number:01000}"), Value::Null));
    std::iter::once(("a".to_owned(), json!(1))).chain(nulls).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn who_is_deleted_or_disabled_is_sent_away() {
    let (hub, device, module) = hub_with_module();
    let code_of = |push: Option<Push>| if let Some(Push::Gone(error)) = push { error.code } else { 0 };

    let connected = hub.connect(&module).unwrap();
    connected.subscribe_desired();
    write(&hub, &module, json!({ "a": 1 }));
    hub.delete_module("d", "m", Precondition::None).unwrap();
    assert_eq!(code_of(connected.try_recv()), 404_010);
    assert_eq!(code_of(connected.try_recv()), 404_010, "it stays gone");
    assert_eq!(hub.connect(&module).unwrap_err().code, 404_010);
    assert_eq!(hub.device_twin(&module).unwrap_err().code, 404_010);
    assert_eq!(hub.report(&module, &json!({ "a": 1 })).unwrap_err().code, 404_010);

    // Made again under the same id: the old guard has nothing to do with it.
    hub.put_module("d", "m", &json!({}), Precondition::None).unwrap();
    let again = hub.connect(&module).unwrap();
    drop(connected);
    assert_eq!(state_of(&hub, &module), "Connected");

    let on_device = hub.connect(&device).unwrap();
    let mut body = hub.get_device("d").unwrap();
    body["status"] = "disabled".into();
    let disabled = hub.put_device("d", &body, Precondition::IfMatch(None)).unwrap();
    assert_eq!(disabled["connectionState"], "Disconnected");
    assert_eq!(state_of(&hub, &module), "Disconnected");
    for connected in [&again, &on_device] {
        assert_eq!(code_of(connected.try_recv()), 404_001);
    }
    assert_eq!(hub.connect(&module).unwrap_err().text, "Device d at IotHub myhub is disabled.");
    assert_eq!(hub.report(&module, &json!({})).unwrap_err().code, 404_001);

    body["status"] = "enabled".into();
    hub.put_device("d", &body, Precondition::IfMatch(None)).unwrap();
    let connected = hub.connect(&module).unwrap();
    hub.delete_device("d", Precondition::None).unwrap();
    assert_eq!(code_of(connected.try_recv()), 404_001);
}

#[test]
fn other_updates_leave_connections_alone() {
    let (hub, device, module) = hub_with_module();
    hub.put_device("d2", &json!({}), Precondition::None).unwrap();
    let connections = [hub.connect(&device).unwrap(), hub.connect(&module).unwrap()];
    // New keys count when the token is renewed (reference, section 4).
    hub.put_device("d", &json!({}), Precondition::IfMatch(None)).unwrap();
    hub.put_module("d", "m", &json!({}), Precondition::IfMatch(None)).unwrap();
    hub.put_module("d", "n", &json!({}), Precondition::None).unwrap();
    hub.delete_module("d", "n", Precondition::None).unwrap();
    hub.delete_device("d2", Precondition::None).unwrap();
    for connected in &connections {
        assert_eq!(connected.try_recv(), None);
    }
    assert_eq!(state_of(&hub, &device), "Connected");
    assert_eq!(state_of(&hub, &module), "Connected");
}

#[test]
fn losing_the_edge_capability_sends_its_modules_away() {
    let hub = hub();
    let edge = |iot_edge: bool| json!({ "capabilities": { "iotEdge": iot_edge } });
    hub.put_device("e", &edge(true), Precondition::None).unwrap();
    let connected = hub.connect(&Identity::module("e", "$edgeHub").unwrap()).unwrap();
    hub.put_device("e", &edge(false), Precondition::IfMatch(None)).unwrap();
    assert!(matches!(connected.try_recv(), Some(Push::Gone(_))));
}

#[tokio::test]
async fn a_waiting_reader_wakes_up() {
    let (hub, _, module) = hub_with_module();
    let connected = Arc::new(hub.connect(&module).unwrap());
    connected.subscribe_desired();
    let reader = tokio::spawn({
        let connected = Arc::clone(&connected);
        async move { [connected.recv().await, connected.recv().await, connected.recv().await] }
    });
    tokio::task::yield_now().await;
    write(&hub, &module, json!({ "a": 1 }));
    write(&hub, &module, json!({ "a": 2 }));
    tokio::task::yield_now().await;
    hub.delete_device("d", Precondition::None).unwrap();
    let [first, second, third] =
        tokio::time::timeout(Duration::from_secs(30), reader).await.unwrap().unwrap();
    assert!(matches!(first, Push::Desired { version: 2, .. }));
    assert!(matches!(second, Push::Desired { version: 3, .. }));
    assert!(matches!(third, Push::Gone(_)));
}

#[test]
fn a_twin_write_needs_the_current_etag() {
    let (hub, _, module) = hub_with_module();
    let etag = |text: &str| Precondition::IfMatch(Some(text.to_owned()));
    let connected = hub.connect(&module).unwrap();
    connected.subscribe_desired();
    assert_eq!(hub.patch_twin(&module, &desired(json!({ "a": 1 })), etag("abc")).unwrap_err().code, 412_001);
    assert_eq!(
        hub.replace_twin(&module, &desired(json!({ "a": 1 })), etag("abc")).unwrap_err().code,
        412_001
    );
    assert_eq!(pushed(&connected), [""; 0]);
    hub.report(&module, &json!({ "r": 1 })).unwrap();
    let twin = hub.patch_twin(&module, &desired(json!({ "a": 1 })), etag("AAAAAAAAAAE=")).unwrap();
    assert_eq!((&twin["etag"], &twin["version"]), (&json!("AAAAAAAAAAI="), &json!(4)));
    assert_eq!(twin["properties"]["reported"]["r"], 1);
    let missing = Identity::module("d", "x").unwrap();
    assert_eq!(hub.patch_twin(&missing, &desired(json!({})), Precondition::None).unwrap_err().code, 404_010);
    assert_eq!(hub.get_twin(&Identity::device("x").unwrap()).unwrap_err().text, "x");
}
