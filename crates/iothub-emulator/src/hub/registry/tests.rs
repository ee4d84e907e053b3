//! The registry's rules, without lock and clock.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::*;

/// 16 bytes and 64 bytes.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";
const LONG_KEY: &str =
    "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ==";
const SHA1: &str = "0123456789abcdef0123456789ABCDEF01234567";
const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const CREATE: Precondition = Precondition::None;
const UPDATE: Precondition = Precondition::IfMatch(None);

fn at(second: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)).into()
}

fn put(state: &mut State, id: &str, body: Value, pre: &Precondition) -> Result<Value, HubError> {
    state.put_device(id, &body, pre, at(0))?;
    state.get_device(id)
}

fn create(state: &mut State, id: &str) -> Value {
    put(state, id, json!({ "deviceId": id }), &CREATE).unwrap()
}

fn put_module(state: &mut State, id: &str, body: Value, pre: &Precondition) -> Result<Value, HubError> {
    state.put_module("d", id, &body, pre, at(0))
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> u32 {
    result.unwrap_err().code
}

fn if_match(etag: &Value) -> Precondition {
    Precondition::IfMatch(Some(etag.as_str().unwrap().to_owned()))
}

#[test]
fn a_new_device_has_every_member_in_order() {
    let mut state = State::default();
    let body = json!({ "deviceId": "d", "authentication": { "symmetricKey": { "primaryKey": KEY, "secondaryKey": LONG_KEY } } });
    let device = put(&mut state, "d", body, &CREATE).unwrap();
    let generation = device["generationId"].as_str().unwrap().to_owned();
    assert_eq!(generation.len(), 18);
    let expected = format!(
        concat!(
            r#"{{"deviceId":"d","generationId":"{}","etag":"MQ==","connectionState":"Disconnected","#,
            r#""status":"enabled","statusReason":null,"connectionStateUpdatedTime":"0001-01-01T00:00:00","#,
            r#""statusUpdatedTime":"0001-01-01T00:00:00","lastActivityTime":"0001-01-01T00:00:00","#,
            r#""cloudToDeviceMessageCount":0,"authentication":{{"symmetricKey":{{"primaryKey":"{}","#,
            r#""secondaryKey":"{}"}},"x509Thumbprint":{{"primaryThumbprint":null,"secondaryThumbprint":null}},"#,
            r#""type":"sas"}},"capabilities":{{"iotEdge":false}}}}"#
        ),
        generation, KEY, LONG_KEY
    );
    assert_eq!(device.to_string(), expected);
}

#[test]
fn a_new_module_has_every_member_in_order() {
    let mut state = State::default();
    create(&mut state, "d");
    // As Node's addModule sends it.
    let body = json!({ "deviceId": "d", "moduleId": "m",
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": "", "secondaryKey": "" } } });
    let module = put_module(&mut state, "m", body, &CREATE).unwrap();
    let names: Vec<_> = module.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "deviceId moduleId managedBy generationId etag connectionState connectionStateUpdatedTime \
                    lastActivityTime cloudToDeviceMessageCount authentication";
    assert_eq!(names.join(" "), expected);
    let keys = &module["authentication"]["symmetricKey"];
    assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44, "base64 of 32 bytes");
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    assert_eq!(state.get_module("d", "m").unwrap(), module, "stable between calls");
}

#[test]
fn authentication_rules() {
    let sas = |primary: &str, secondary: &str| json!({ "type": "sas", "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary } });
    let x509 = |primary: Value, secondary: Value| json!({ "x509Thumbprint": { "primaryThumbprint": primary, "secondaryThumbprint": secondary } });
    let accepted = [
        (json!(null), "sas"),
        (json!({}), "sas"),
        (json!({ "SymmetricKey": 5 }), "sas"),
        (sas(KEY, LONG_KEY), "sas"),
        (sas("", ""), "sas"),
        (x509(json!(SHA1), json!(null)), "selfSigned"),
        (x509(json!(SHA256), json!(SHA256)), "selfSigned"),
        (json!({ "type": "certificateAuthority" }), "certificateAuthority"),
        (json!({ "type": "none", "symmetricKey": { "primaryKey": null, "secondaryKey": "" } }), "none"),
    ];
    for (authentication, kind) in accepted {
        let mut state = State::default();
        let device = put(&mut state, "d", json!({ "authentication": authentication }), &CREATE).unwrap();
        let shown = &device["authentication"];
        assert_eq!(shown["type"], kind);
        let is_sas = kind == "sas";
        assert_eq!(shown["symmetricKey"]["primaryKey"].is_string(), is_sas, "{shown}");
        assert_eq!(shown["symmetricKey"]["secondaryKey"].is_string(), is_sas, "{shown}");
        assert_eq!(shown["x509Thumbprint"]["primaryThumbprint"].is_string(), kind == "selfSigned");
        let again = put(&mut state, "d", device.clone(), &UPDATE).unwrap();
        assert_eq!(again["authentication"], *shown, "what was read can be sent back");
    }

    let fifteen = "MDEyMzQ1Njc4OWFiY2Rl";
    let sixty_five =
        "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    let refused = [
        (sas(KEY, ""), "both"),
        (sas("", KEY), "both"),
        (sas(fifteen, KEY), "primaryKey must be base64 of 16 to 64 bytes"),
        (sas(KEY, sixty_five), "secondaryKey must be base64 of 16 to 64 bytes"),
        (sas("not base64!", KEY), "primaryKey"),
        (json!({ "type": "selfSigned" }), "40 (SHA-1)"),
        (x509(json!(SHA1), json!(SHA256)), "same length"),
        (x509(json!("abc"), json!(null)), "40 (SHA-1)"),
        (x509(json!(SHA1.replace('0', "g")), json!(null)), "hex"),
        (x509(json!(5), json!(null)), "string"),
        (
            json!({ "type": "selfSigned", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } }),
            "symmetricKey",
        ),
        (json!({ "type": "none", "x509Thumbprint": { "primaryThumbprint": SHA1 } }), "x509Thumbprint"),
        (json!({ "type": "password" }), "one of"),
        (json!({ "type": 7 }), "string"),
        (json!({ "symmetricKey": [] }), "symmetricKey must be an object"),
        (json!("sas"), "authentication must be an object"),
    ];
    for (authentication, says) in refused {
        let body = json!({ "authentication": authentication });
        let error = put(&mut State::default(), "d", body, &CREATE).unwrap_err();
        assert_eq!(error.code, 400_004, "{authentication}");
        assert!(error.text.contains(says), "{authentication}: {error}");
        assert!(!error.text.contains(KEY), "an error showed a key");
    }
}

#[test]
fn bodies_and_ids_are_checked() {
    let long = "i".repeat(129);
    for (id, body, expected) in [
        ("d", json!(null), 400_005),
        ("d", json!([]), 400_004),
        ("d", json!({ "deviceId": "D" }), 400_004),
        ("d", json!({ "deviceId": 1 }), 400_004),
        ("d", json!({ "status": "broken" }), 400_004),
        ("d", json!({ "statusReason": "r".repeat(129) }), 400_004),
        ("d", json!({ "capabilities": { "iotEdge": "yes" } }), 400_004),
        ("d", json!({ "parentScopes": ["a", "b"] }), 400_004),
        ("d", json!({ "deviceScope": "ms-azure-iot-edge://nobody-1" }), 400_028),
        ("a b", json!({}), 400_004),
        ("a/b", json!({}), 400_004),
        ("", json!({}), 400_004),
        (long.as_str(), json!({}), 400_004),
    ] {
        let mut state = State::default();
        let error = put(&mut state, id, body.clone(), &CREATE).unwrap_err();
        assert_eq!(error.code, expected, "{id} {body}");
        assert!(!error.text.is_empty());
        assert_eq!(state.list_devices(1000).len(), 0);
    }
    // Ids with every character that is allowed, and a body with members nobody knows.
    let mut state = State::default();
    let odd = "aZ09-:.+%_#*?!(),=@;$'";
    let device = put(&mut state, odd, json!({ "deviceId": odd, "unknown": {}, "etag": 5 }), &CREATE).unwrap();
    assert_eq!(device["deviceId"], odd);
}

#[test]
fn create_update_and_delete_follow_the_headers() {
    let mut state = State::default();
    assert_eq!(code(put(&mut state, "d", json!({}), &UPDATE)), 404_001);
    let first = create(&mut state, "d");
    assert_eq!(code(put(&mut state, "d", json!({}), &CREATE)), 409_001);
    assert_eq!(code(put(&mut state, "d", json!({}), &Precondition::IfNoneMatchAny)), 409_001);
    assert_eq!(code(put(&mut state, "d", json!({}), &if_match(&json!("abc")))), 412_001);

    let second = put(&mut state, "d", json!({ "status": "disabled" }), &if_match(&first["etag"])).unwrap();
    assert_ne!(second["etag"], first["etag"]);
    assert_eq!(second["generationId"], first["generationId"]);
    assert_ne!(second["authentication"], first["authentication"], "an update without keys makes new ones");
    assert_eq!(code(put(&mut state, "d", json!({}), &if_match(&first["etag"]))), 412_001);

    assert_eq!(code(state.delete_device("d", &if_match(&first["etag"]))), 412_001);
    assert!(state.delete_device("d", &if_match(&second["etag"])).is_ok());
    assert_eq!(code(state.delete_device("d", &UPDATE)), 404_001);
    assert_eq!(state.get_device("d").unwrap_err().text, "d");
    assert!(put(&mut state, "d", json!({}), &Precondition::IfNoneMatchAny).is_ok());
}

#[test]
fn modules_too() {
    let mut state = State::default();
    assert_eq!(code(put_module(&mut state, "m", json!({}), &CREATE)), 404_001);
    create(&mut state, "d");
    assert_eq!(code(put_module(&mut state, "m", json!({}), &UPDATE)), 404_010);
    assert_eq!(state.get_module("d", "m").unwrap_err().text, "d/m");
    let first = put_module(&mut state, "m", json!({ "managedBy": "me" }), &CREATE).unwrap();
    assert_eq!(first["managedBy"], "me");
    assert_eq!(code(put_module(&mut state, "m", json!({}), &CREATE)), 409_301);
    assert_eq!(code(put_module(&mut state, "m", json!({ "moduleId": "n" }), &UPDATE)), 400_004);
    assert_eq!(code(put_module(&mut state, "m", json!({ "deviceId": "e" }), &UPDATE)), 400_004);
    assert_eq!(code(put_module(&mut state, "m", json!({}), &if_match(&json!("abc")))), 412_001);
    let second =
        put_module(&mut state, "m", json!({ "managedBy": null }), &if_match(&first["etag"])).unwrap();
    assert_ne!(second["etag"], first["etag"]);
    assert_eq!(second["managedBy"], json!(null));
    assert_eq!(second["generationId"], first["generationId"]);

    assert_eq!(state.list_modules("d").unwrap(), [second]);
    assert_eq!(code(state.delete_module("d", "m", &if_match(&first["etag"]))), 412_001);
    assert!(state.delete_module("d", "m", &UPDATE).is_ok());
    assert_eq!(code(state.delete_module("d", "m", &UPDATE)), 404_010);
    assert_eq!(code(state.list_modules("x")), 404_001);
    assert_eq!(code(state.get_module("x", "m")), 404_001);
}

/// Row 43 of the twin vectors, and what goes with a device.
#[test]
fn made_again_it_is_another_device() {
    let mut state = State::default();
    let first = create(&mut state, "d");
    put_module(&mut state, "m", json!({}), &CREATE).unwrap();
    let identity = Identity::device("d").unwrap();
    let patch = json!({ "tags": { "g": 1 } });
    state.twin_mut(&identity).unwrap().patch(&patch, at(1)).unwrap();
    state.delete_device("d", &UPDATE).unwrap();
    assert_eq!(state.count, 0);

    let second = create(&mut state, "d");
    assert_ne!(second["generationId"], first["generationId"], "though the clock stood still");
    assert_ne!(second["etag"], first["etag"]);
    assert_eq!(state.list_modules("d").unwrap(), Vec::<Value>::new());
    let twin = state.twin_document(&identity).unwrap();
    assert_eq!((&twin["etag"], &twin["version"]), (&json!("AAAAAAAAAAE="), &json!(2)));
}

#[test]
fn a_device_has_fifty_modules_at_most() {
    let mut state = State::default();
    put(&mut state, "d", json!({ "capabilities": { "iotEdge": true } }), &CREATE).unwrap();
    for number in 0..50 {
        put_module(&mut state, &format!("m{number}"), json!({}), &CREATE).unwrap();
    }
    assert_eq!(code(put_module(&mut state, "m50", json!({}), &CREATE)), 413_003);
    assert!(put_module(&mut state, "m7", json!({}), &UPDATE).is_ok());
    assert_eq!(state.list_modules("d").unwrap().len(), 52, "system modules are not counted");
    assert_eq!(state.count, 53);
}

#[test]
fn a_hub_has_a_million_identities_at_most() {
    let mut state = State::default();
    state.count = state::MAX_IDENTITIES - 1;
    create(&mut state, "d");
    assert_eq!(code(put(&mut state, "e", json!({}), &CREATE)), 413_002);
    assert_eq!(code(put_module(&mut state, "m", json!({}), &CREATE)), 413_002);
    state.delete_device("d", &UPDATE).unwrap();
    create(&mut state, "e");
}

#[test]
fn edge_devices_have_system_modules_and_a_scope() {
    let mut state = State::default();
    let edge = json!({ "capabilities": { "iotEdge": true } });
    let device = put(&mut state, "d", edge.clone(), &CREATE).unwrap();
    let scope = format!("ms-azure-iot-edge://d-{}", device["generationId"].as_str().unwrap());
    assert_eq!(device["deviceScope"], json!(scope));
    let modules = state.list_modules("d").unwrap();
    let ids: Vec<_> = modules.iter().map(|module| &module["moduleId"]).collect();
    assert_eq!(ids, ["$edgeAgent", "$edgeHub"]);
    assert_eq!(modules[0]["authentication"]["type"], "none");
    assert_eq!(code(put_module(&mut state, "$edgeHub", json!({}), &UPDATE)), 401_100);
    assert_eq!(code(state.delete_module("d", "$edgeAgent", &UPDATE)), 401_100);

    // A leaf below it has its scope in both members, however it is said.
    for (leaf, body) in [
        ("l1", json!({ "deviceScope": scope })),
        ("l2", json!({ "parentScopes": [scope] })),
        ("l3", json!({ "deviceScope": scope, "parentScopes": [scope] })),
    ] {
        let leaf = put(&mut state, leaf, body, &CREATE).unwrap();
        assert_eq!((&leaf["deviceScope"], &leaf["parentScopes"]), (&json!(scope), &json!([scope])));
    }
    // An edge device below it has its own scope and that parent.
    let lower = json!({ "capabilities": { "iotEdge": true }, "parentScopes": [scope] });
    let lower = put(&mut state, "e", lower, &CREATE).unwrap();
    assert_ne!(lower["deviceScope"], json!(scope));
    assert_eq!(lower["parentScopes"], json!([scope]));
    let again = put(&mut state, "e", lower.clone(), &UPDATE).unwrap();
    assert_eq!(
        (&again["deviceScope"], &again["parentScopes"]),
        (&lower["deviceScope"], &lower["parentScopes"])
    );
    let stolen = json!({ "capabilities": { "iotEdge": true }, "deviceScope": scope });
    assert_eq!(code(put(&mut state, "e", stolen, &UPDATE)), 400_028);
    let other = json!({ "deviceScope": scope, "parentScopes": [lower["deviceScope"]] });
    assert_eq!(code(put(&mut state, "l1", other, &UPDATE)), 400_028);

    // A leaf whose parent was made again can be updated until it is given to another.
    let leaf = state.get_device("l1").unwrap();
    state.delete_device("d", &UPDATE).unwrap();
    assert_eq!(put(&mut state, "l1", leaf.clone(), &UPDATE).unwrap()["deviceScope"], json!(scope));
    assert_eq!(code(put(&mut state, "l4", json!({ "deviceScope": scope }), &CREATE)), 400_028);
    let device = put(&mut state, "d", edge.clone(), &CREATE).unwrap();
    let scope = device["deviceScope"].clone();

    // An update that does not speak of capabilities keeps them; false takes them away.
    assert_eq!(put(&mut state, "d", json!({}), &UPDATE).unwrap()["capabilities"]["iotEdge"], true);
    let plain = put(&mut state, "d", json!({ "capabilities": { "iotEdge": false } }), &UPDATE).unwrap();
    assert_eq!(plain.get("deviceScope"), None);
    assert_eq!(state.list_modules("d").unwrap().len(), 0);
    assert_eq!(put(&mut state, "d", edge, &UPDATE).unwrap()["deviceScope"], scope);
    // On a device that is no edge device the names are free.
    create(&mut state, "p");
    assert!(state.put_module("p", "$edgeHub", &json!({}), &CREATE, at(0)).is_ok());
}

#[test]
fn the_time_of_a_status_change_is_kept() {
    let mut state = State::default();
    create(&mut state, "d");
    let disabled = json!({ "status": "disabled", "statusReason": "broken" });
    state.put_device("d", &disabled, &UPDATE, at(5)).unwrap();
    state.put_device("d", &disabled, &UPDATE, at(9)).unwrap();
    let device = state.get_device("d").unwrap();
    assert_eq!(device["statusUpdatedTime"], "2023-11-14T22:13:25Z");
    assert_eq!(device["statusReason"], "broken");
    let twin = state.twin_document(&Identity::device("d").unwrap()).unwrap();
    assert_eq!(twin["status"], "disabled");
    assert_eq!(twin["statusUpdateTime"], "2023-11-14T22:13:25Z");
    assert_eq!(twin["statusReason"], "broken");
}

#[test]
fn lists_are_in_order_and_have_an_end() {
    let mut state = State::default();
    for number in (0..1001).rev() {
        create(&mut state, &format!("d{number:04}"));
    }
    assert_eq!(state.list_devices(3)[2]["deviceId"], "d0002");
    for odd in [0, 1001, usize::MAX] {
        assert_eq!(state.list_devices(odd).len(), 1000);
    }
}

#[test]
fn twin_documents_have_every_member_in_order() {
    let mut state = State::default();
    create(&mut state, "d");
    put_module(&mut state, "m", json!({}), &CREATE).unwrap();
    let document = |state: &State, identity: Identity| state.twin_document(&identity).unwrap();
    let names = |twin: &Value| twin.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");

    let device = document(&state, Identity::device("d").unwrap());
    assert_eq!(
        names(&device),
        "deviceId etag deviceEtag status statusUpdateTime connectionState lastActivityTime \
         cloudToDeviceMessageCount authenticationType x509Thumbprint modelId version properties capabilities"
    );
    assert_eq!(device["lastActivityTime"], "0001-01-01T00:00:00Z");
    assert_eq!(device["deviceEtag"], state.get_device("d").unwrap()["etag"]);
    assert_eq!(
        device["properties"].to_string(),
        concat!(
            r#"{"desired":{"$metadata":{"$lastUpdated":"2023-11-14T22:13:20Z"},"$version":1},"#,
            r#""reported":{"$metadata":{"$lastUpdated":"2023-11-14T22:13:20Z"},"$version":1}}"#
        )
    );

    let module = document(&state, Identity::module("d", "m").unwrap());
    assert_eq!(
        names(&module),
        "deviceId moduleId etag deviceEtag status statusUpdateTime connectionState lastActivityTime \
         cloudToDeviceMessageCount authenticationType x509Thumbprint version properties"
    );
    assert_eq!(module["status"], "enabled");
    assert_eq!(module["properties"]["desired"]["$metadata"]["$lastUpdated"], "0001-01-01T00:00:00Z");
}

#[test]
fn state_survives_being_stored() {
    let mut state = State::default();
    put(&mut state, "e", json!({ "capabilities": { "iotEdge": true } }), &CREATE).unwrap();
    put(
        &mut state,
        "x",
        json!({ "authentication": { "x509Thumbprint": { "primaryThumbprint": SHA1 } } }),
        &CREATE,
    )
    .unwrap();
    let stored = serde_json::to_string(&state).unwrap();
    let mut loaded: State = serde_json::from_str(&stored).unwrap();
    assert_eq!(loaded.list_devices(1000), state.list_devices(1000));
    assert_eq!(loaded.list_modules("e").unwrap(), state.list_modules("e").unwrap());
    assert_eq!(create(&mut loaded, "n")["etag"], create(&mut state, "n")["etag"], "counters go on");
}
