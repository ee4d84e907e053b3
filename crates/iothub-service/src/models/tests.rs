//! Answers in the hub's own shape (rest.md 3.2, 3.3, 4, 5.1), with invented ids and keys.
#![allow(clippy::unwrap_used)]

use iothub_common::{ErrorKind, Secret};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

const KEY1: &str = "cHJpbWFyeS1rZXktb2YtMzItYnl0ZXMtbG9uZy0wMDA=";
const KEY2: &str = "c2Vjb25kYXJ5LWtleS1vZi0zMi1ieXRlcy1sb25nLTA=";

const DEVICE: &str = r#"{"deviceId":"pump-7","generationId":"637000000000000000","etag":"NzM0NTkyNTc=",
    "connectionState":"Disconnected","status":"enabled","statusReason":null,
    "connectionStateUpdatedTime":"0001-01-01T00:00:00","statusUpdatedTime":"0001-01-01T00:00:00",
    "lastActivityTime":"0001-01-01T00:00:00","cloudToDeviceMessageCount":0,
    "authentication":{"symmetricKey":{"primaryKey":"cHJpbWFyeS1rZXktb2YtMzItYnl0ZXMtbG9uZy0wMDA=",
      "secondaryKey":"c2Vjb25kYXJ5LWtleS1vZi0zMi1ieXRlcy1sb25nLTA="},
      "x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas","futureAuth":"kept"},
    "capabilities":{"iotEdge":true,"futureCapability":1},"deviceScope":"ms-azure-iot-edge://pump-7-637000000000000000",
    "parentScopes":["ms-azure-iot-edge://top-1"],"futureField":{"a":[1,null]}}"#;

const MODULE: &str = r#"{"deviceId":"pump-7","moduleId":"valve","managedBy":"iotEdge",
    "generationId":"637000000000000001","etag":"MQ==","connectionState":"Connected",
    "connectionStateUpdatedTime":"2024-02-29T12:00:00.1234567Z","lastActivityTime":"0001-01-01T00:00:00",
    "cloudToDeviceMessageCount":0,
    "authentication":{"symmetricKey":{"primaryKey":"cHJpbWFyeS1rZXktb2YtMzItYnl0ZXMtbG9uZy0wMDA=",
      "secondaryKey":"c2Vjb25kYXJ5LWtleS1vZi0zMi1ieXRlcy1sb25nLTA="},
      "x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas"}}"#;

const TWIN: &str = r#"{"deviceId":"pump-7","moduleId":"valve","etag":"AAAAAAAAAAU=","deviceEtag":"NTk0ODUyODgx",
    "status":"enabled","statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Disconnected",
    "lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas",
    "x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"modelId":"","version":6,
    "tags":{"z":1,"a":{"date":"2023-01-31T10:37:08.4599400"}},
    "properties":{"desired":{"b":123456789012345678901234567890,"a":66,"f":28.50,
      "$metadata":{"$lastUpdated":"2019-01-14T08:54:15.599Z","$lastUpdatedVersion":4},"$version":4},
      "reported":{"$metadata":{"$lastUpdated":"2019-01-14T08:54:15.599Z"},"$version":1}},
    "futureField":true}"#;

fn device() -> Device {
    serde_json::from_str(DEVICE).unwrap()
}

#[test]
fn a_device_has_all_its_fields() {
    let device = device();
    assert_eq!(device.device_id, "pump-7");
    assert_eq!(device.etag.as_str(), "NzM0NTkyNTc=");
    assert_eq!(device.connection_state, Some(ConnectionState::Disconnected));
    assert_eq!(device.status, DeviceStatus::Enabled);
    assert_eq!(device.last_activity_time.and_then(|date| date.time()), None);
    assert_eq!(device.authentication.kind, AuthenticationType::Sas);
    assert_eq!(device.authentication.symmetric_key.primary_key, Some(Secret::from(KEY1)));
    assert_eq!(device.authentication.symmetric_key.secondary_key, Some(Secret::from(KEY2)));
    assert_eq!(device.authentication.x509_thumbprint, Thumbprints::default());
    assert!(device.capabilities.iot_edge);
    assert_eq!(device.parent_scopes, Some(vec!["ms-azure-iot-edge://top-1".to_owned()]));
    assert_eq!(device.unknown.get("futureField"), Some(&json!({ "a": [1, null] })));
}

#[test]
fn what_was_read_is_sent_back_whole() {
    let read: Value = serde_json::from_str(DEVICE).unwrap();
    assert_eq!(serde_json::to_value(device()).unwrap(), read);

    let read: Value = serde_json::from_str(MODULE).unwrap();
    let module: Module = serde_json::from_str(MODULE).unwrap();
    assert_eq!(serde_json::to_value(module).unwrap(), read);
}

#[test]
fn texts_of_a_newer_hub_are_kept() {
    let text = DEVICE.replace(r#""status":"enabled""#, r#""status":"quarantined""#);
    let device: Device = serde_json::from_str(&text).unwrap();
    assert_eq!(device.status, DeviceStatus::Unknown("quarantined".to_owned()));
    assert_eq!(serde_json::to_value(&device).unwrap()["status"], "quarantined");
}

#[test]
fn texts_in_another_case_are_known() {
    assert_eq!(ConnectionState::from("connected"), ConnectionState::Connected);
    assert_eq!(AuthenticationType::from("SelfSigned"), AuthenticationType::SelfSigned);
    assert_eq!(AuthenticationType::SelfSigned.to_string(), "selfSigned");
}

#[test]
fn a_device_of_another_age_is_read() {
    // Only what an identity cannot be without; a key that is no base64 and one that is empty.
    let device: Device = serde_json::from_str(
        r#"{"deviceId":"d","etag":"MA==","status":"disabled",
            "authentication":{"type":"sas","symmetricKey":{"primaryKey":"?","secondaryKey":""}}}"#,
    )
    .unwrap();
    assert_eq!(device.status, DeviceStatus::Disabled);
    assert_eq!(device.authentication.symmetric_key.primary_key, Some(Secret::from("?")));
    assert_eq!(device.authentication.symmetric_key.secondary_key, None);
    assert!(!device.capabilities.iot_edge);
    assert_eq!(device.connection_string("hub.example"), None);
}

#[test]
fn connection_strings_have_the_primary_key() {
    let module: Module = serde_json::from_str(MODULE).unwrap();
    assert_eq!(
        device().connection_string("hub.example"),
        Some(format!("HostName=hub.example;DeviceId=pump-7;SharedAccessKey={KEY1}"))
    );
    assert_eq!(
        module.connection_string("hub.example"),
        Some(format!("HostName=hub.example;DeviceId=pump-7;ModuleId=valve;SharedAccessKey={KEY1}"))
    );
}

#[test]
fn without_a_key_there_is_no_connection_string() {
    let mut device = device();
    device.authentication.symmetric_key = SymmetricKeys::default();
    assert_eq!(device.connection_string("hub.example"), None);
}

#[test]
fn debug_shows_no_key() {
    let mut device = device();
    // A key in a place that this version does not know either.
    device.unknown = serde_json::from_value(json!({ "thirdKey": "dGhpcmQta2V5" })).unwrap();
    let module: Module = serde_json::from_str(MODULE).unwrap();
    let new_device = NewDevice::new("d").keys(KEY1, KEY2);
    let new_module = NewModule::new("m").keys(KEY1, KEY2);
    for text in [
        format!("{device:?} {device:#?}"),
        format!("{module:?}"),
        format!("{new_device:?}"),
        format!("{new_module:?}"),
    ] {
        for key in [KEY1, KEY2, "dGhpcmQta2V5"] {
            assert!(!text.contains(key), "{text}");
        }
    }
    assert!(format!("{device:?}").contains("thirdKey"));
}

#[test]
fn a_new_device_asks_for_generated_keys() {
    assert_eq!(
        NewDevice::from("d").to_json(),
        json!({
            "deviceId": "d",
            "status": "enabled",
            "authentication": { "symmetricKey": { "primaryKey": "", "secondaryKey": "" }, "type": "sas" },
            "capabilities": { "iotEdge": false },
        })
    );
}

#[test]
fn a_new_device_has_what_was_set() {
    let device = NewDevice::new("d")
        .status(DeviceStatus::Disabled)
        .status_reason("not yet mounted")
        .authentication(NewAuthentication::Thumbprints { primary: "A1".repeat(20), secondary: None })
        .iot_edge(true)
        .device_scope("ms-azure-iot-edge://d-1")
        .parent_scope("ms-azure-iot-edge://top-1");
    assert_eq!(
        device.to_json(),
        json!({
            "deviceId": "d",
            "status": "disabled",
            "statusReason": "not yet mounted",
            "authentication": {
                "x509Thumbprint": {
                    "primaryThumbprint": "A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1",
                    "secondaryThumbprint": null,
                },
                "type": "selfSigned",
            },
            "capabilities": { "iotEdge": true },
            "deviceScope": "ms-azure-iot-edge://d-1",
            "parentScopes": ["ms-azure-iot-edge://top-1"],
        })
    );
}

#[test]
fn a_new_module_has_what_was_set() {
    let module = NewModule::new("m").keys(KEY1, KEY2).managed_by("me");
    assert_eq!(
        module.to_json("d"),
        json!({
            "deviceId": "d",
            "moduleId": "m",
            "managedBy": "me",
            "authentication": { "symmetricKey": { "primaryKey": KEY1, "secondaryKey": KEY2 }, "type": "sas" },
        })
    );
    for (authentication, kind) in
        [(NewAuthentication::CertificateAuthority, "certificateAuthority"), (NewAuthentication::None, "none")]
    {
        let body = NewModule::new("m").authentication(authentication).to_json("d");
        assert_eq!(body["authentication"], json!({ "type": kind }));
    }
}

#[test]
fn a_twin_keeps_its_json_untouched() {
    let twin: Twin = serde_json::from_str(TWIN).unwrap();
    assert_eq!(twin.etag.as_str(), "AAAAAAAAAAU=");
    assert_eq!(
        (twin.version, twin.properties.desired.version(), twin.properties.reported.version()),
        (6, 4, 1)
    );
    assert_eq!(twin.module_id.as_deref(), Some("valve"));
    assert_eq!(twin.tags.as_str(), r#"{"z":1,"a":{"date":"2023-01-31T10:37:08.4599400"}}"#);
    let desired = twin.properties.desired.as_str();
    assert!(desired.starts_with(r#"{"b":123456789012345678901234567890,"a":66,"f":28.50,"#), "{desired}");
    assert_eq!(twin.unknown.get("futureField"), Some(&json!(true)));
}

#[test]
fn a_twin_is_read_into_types() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Wanted {
        a: i32,
        f: f64,
    }
    #[derive(Debug, Deserialize)]
    struct Reported {}

    let twin: Twin = serde_json::from_str(TWIN).unwrap();
    assert_eq!(twin.desired::<Wanted>().unwrap(), Wanted { a: 66, f: 28.5 });
    twin.reported::<Reported>().unwrap();
    assert_eq!(twin.tags::<Value>().unwrap()["z"], 1);
    let metadata = twin.properties.desired.get::<Value>("$metadata").unwrap().unwrap();
    assert_eq!(metadata["$lastUpdatedVersion"], 4);

    for (error, why) in [
        (twin.reported::<Wanted>().unwrap_err(), "missing field `a`"),
        (twin.tags::<Wanted>().unwrap_err(), "invalid type: map, expected i32"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(why), "{source}");
    }
}

#[test]
fn a_twin_without_tags_has_none() {
    for tags in ["", r#""tags":null,"#, r#""tags":{},"#] {
        let text = format!(
            r#"{{"deviceId":"d","etag":"AAAAAAAAAAE=","version":2,{tags}"properties":{{"desired":{{"$version":1}},"reported":{{"$version":1}}}}}}"#
        );
        let twin: Twin = serde_json::from_str(&text).unwrap();
        assert_eq!(twin.tags.to_string(), "{}");
        assert_eq!(serde_json::to_string(&twin.tags).unwrap(), "{}");
    }
}
