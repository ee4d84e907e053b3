//! Reset, snapshots and going back to them.

use bytes::Bytes;

use super::*;

fn write(hub: &Hub, identity: &Identity, n: u64) {
    let body = json!({ "properties": { "desired": { "n": n } } });
    hub.patch_twin(identity, &body, Precondition::None).unwrap();
}

fn desired(hub: &Hub, identity: &Identity) -> Value {
    hub.get_twin(identity).unwrap()["properties"]["desired"]["n"].clone()
}

fn code(push: Option<Push>) -> u32 {
    match push {
        Some(Push::Gone(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reset_hub_has_nothing_and_sends_everybody_away() {
    let (hub, device, module) = hub_with_module();
    let message = Message { body: Bytes::from_static(b"x"), ..Message::default() };
    hub.publish(&device, ConnectionAuth::DEVICE_SAS, vec![message.clone()]).unwrap();
    hub.send_to_device(&device, message.clone()).unwrap();
    let partition = (0..hub.partitions()).find(|n| !hub.partition(*n).unwrap().is_empty).unwrap();
    let mut reader = hub.read_events("$Default", partition, Start::Earliest, None).unwrap();
    let connected = [hub.connect(&device).unwrap(), hub.connect(&module).unwrap()];
    let generation = hub.get_device("d").unwrap()["generationId"].clone();

    hub.reset();
    assert!(hub.list_devices(10).is_empty());
    assert_eq!(hub.statistics(), Statistics { devices: 0, enabled: 0, connected: 0 });
    assert_eq!(connected.map(|connected| code(connected.try_recv())), [404_001, 404_001]);
    assert!(hub.events().is_empty());
    assert!(reader.read(10).unwrap().is_empty());

    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    let again = hub.get_device("d").unwrap();
    assert_ne!(again["generationId"], generation);
    assert_eq!(again["cloudToDeviceMessageCount"], 0);
    hub.publish(&device, ConnectionAuth::DEVICE_SAS, vec![message]).unwrap();
    assert_eq!(reader.read(10).unwrap().len(), 1, "readers go on");
}

#[test]
fn a_hub_goes_back_to_a_snapshot_that_was_kept_as_bytes() {
    let (hub, device, module) = hub_with_module();
    write(&hub, &module, 1);
    let snapshot = hub.snapshot();
    let shown = format!("{snapshot:?}");
    assert!(!shown.contains("rimaryKey"), "{shown}");
    let bytes = snapshot.to_bytes().unwrap();
    let module_before = hub.get_module("d", "m").unwrap();

    let stays = hub.connect(&module).unwrap();
    stays.subscribe_desired();
    write(&hub, &module, 2);
    hub.put_device("new", &json!({}), Precondition::None).unwrap();
    let new = Identity::device("new").unwrap();
    let vanishes = hub.connect(&new).unwrap();
    hub.delete_device("d", Precondition::None).ok();
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    let other = hub.connect(&device).unwrap();
    let etag = hub.get_device("d").unwrap()["etag"].clone();

    hub.restore(Snapshot::from_bytes(&bytes).unwrap());
    assert_eq!(desired(&hub, &module), 1);
    assert_eq!(hub.get_module("d", "m").unwrap()["generationId"], module_before["generationId"]);
    assert_eq!(hub.get_module("d", "m").unwrap()["authentication"], module_before["authentication"]);
    assert_eq!(code(vanishes.try_recv()), 404_001);
    assert_eq!(code(other.try_recv()), 404_001, "the same id, but another one");
    assert_eq!(code(stays.try_recv()), 404_001, "it was deleted meanwhile");
    hub.put_device("d", &json!({}), Precondition::IfMatch(None)).unwrap();
    assert_ne!(hub.get_device("d").unwrap()["etag"], etag, "etags are never given twice");
}

#[test]
fn who_was_there_before_stays_and_reads_its_twin_again() {
    let (hub, device, module) = hub_with_module();
    write(&hub, &module, 1);
    let snapshot = hub.snapshot();
    let (follows, silent) = (hub.connect(&module).unwrap(), hub.connect(&device).unwrap());
    follows.subscribe_desired();
    write(&hub, &module, 2);
    hub.restore(snapshot);
    assert_eq!(follows.try_recv(), Some(Push::Overflow), "in place of what waited");
    assert_eq!((follows.try_recv(), silent.try_recv()), (None, None));
    assert_eq!(hub.statistics().connected, 1);
    drop(silent);
    assert_eq!(hub.statistics().connected, 0);
}

#[test]
fn other_bytes_are_no_snapshot() {
    let error = Snapshot::from_bytes(b"{}").unwrap_err();
    assert_eq!(error.kind(), iothub_common::ErrorKind::InvalidInput);
}
