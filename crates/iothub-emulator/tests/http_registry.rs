//! Identities and twins over HTTPS, byte for byte as clients get them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use iothub_emulator::LocalHub;
use serde_json::{Value, json};
use support::{VERSION, call, connect, owner_token, read_reply, request};
use tokio::io::AsyncWriteExt;

/// 0, 1, ... 31 and 32, 33, ... 63 in base64.
const KEY_1: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const KEY_2: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn device_comes_back_in_the_hubs_shape() {
    let hub = LocalHub::start().await.unwrap();
    let body = json!({
        "deviceId": "d1",
        "status": "enabled",
        "authentication": { "symmetricKey": { "primaryKey": KEY_1, "secondaryKey": KEY_2 }, "type": "sas" },
    });
    let created = call(&hub, "PUT", "/devices/d1", &[], &body.to_string()).await;
    assert_eq!(created.status, 200, "also on creation (rest.md 1.7)");

    let device = created.json();
    // Order and members of rest.md 3.2; absent ones are scopes.
    assert_eq!(
        members(&device),
        [
            "deviceId",
            "generationId",
            "etag",
            "connectionState",
            "status",
            "statusReason",
            "connectionStateUpdatedTime",
            "statusUpdatedTime",
            "lastActivityTime",
            "cloudToDeviceMessageCount",
            "authentication",
            "capabilities",
        ]
    );
    assert_eq!(device["deviceId"], "d1");
    assert_eq!(device["connectionState"], "Disconnected");
    assert_eq!(device["status"], "enabled");
    assert_eq!(device["statusReason"], Value::Null);
    assert_eq!(device["lastActivityTime"], "0001-01-01T00:00:00");
    assert_eq!(device["cloudToDeviceMessageCount"], 0);
    assert_eq!(device["capabilities"], json!({ "iotEdge": false }));
    assert_eq!(
        device["authentication"].to_string(),
        format!(
            r#"{{"symmetricKey":{{"primaryKey":"{KEY_1}","secondaryKey":"{KEY_2}"}},"x509Thumbprint":{{"primaryThumbprint":null,"secondaryThumbprint":null}},"type":"sas"}}"#
        )
    );
    let etag = format!("\"{}\"", device["etag"].as_str().unwrap());
    assert_eq!(created.header("etag"), Some(etag.as_str()));

    let read = call(&hub, "GET", "/devices/d1", &[], "").await;
    assert_eq!((read.status, &read.body), (200, &created.body));
    assert_eq!(read.header("etag"), Some(etag.as_str()));

    call(&hub, "PUT", "/devices/d1", &[], &body.to_string()).await.refusal(409, "DeviceAlreadyExists");
    let text = call(&hub, "GET", "/devices/d2", &[], "").await.refusal(404, "DeviceNotFound");
    assert_eq!(text, "d2");
}

#[tokio::test]
async fn module_of_the_tutorial_gets_keys_that_stay() {
    let hub = LocalHub::start().await.unwrap();
    call(&hub, "PUT", "/devices/d1", &[], r#"{"deviceId":"d1"}"#).await;

    // What Node's addModule sends (rest.md 3.6).
    let body = r#"{"deviceId":"d1","moduleId":"m1","authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}}"#;
    let added = call(&hub, "PUT", "/devices/d1/modules/m1", &[], body).await;
    assert_eq!(added.status, 200);
    let module = added.json();
    let key = module["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    assert_eq!(key.len(), 44, "32 bytes in base64");

    let read = call(&hub, "GET", "/devices/d1/modules/m1", &[], "").await;
    assert_eq!(read.body, added.body);
    let list = call(&hub, "GET", "/devices/d1/modules", &[], "").await.json();
    assert_eq!(list, json!([module]));

    call(&hub, "PUT", "/devices/d1/modules/m1", &[], body).await.refusal(409, "ModuleAlreadyExistsOnDevice");
    call(&hub, "GET", "/devices/d1/modules/m2", &[], "").await.refusal(404, "ModuleNotFound");
    call(&hub, "GET", "/devices/d2/modules", &[], "").await.refusal(404, "DeviceNotFound");

    let deleted = call(&hub, "DELETE", "/devices/d1/modules/m1", &["If-Match: \"*\""], "").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(deleted.header("content-type"), None);
}

#[tokio::test]
async fn updates_and_deletions_heed_the_etag() {
    let hub = LocalHub::start().await.unwrap();
    let created = call(&hub, "PUT", "/devices/d", &[], r#"{"deviceId":"d"}"#).await;
    let old = format!("If-Match: {}", created.header("etag").unwrap());
    let body = r#"{"deviceId":"d","status":"disabled","statusReason":"broken"}"#;

    let updated = call(&hub, "PUT", "/devices/d", &[&old], body).await;
    assert_eq!(updated.status, 200);
    assert_eq!(updated.json()["status"], "disabled");
    assert_eq!(updated.json()["statusReason"], "broken");
    assert_ne!(updated.header("etag"), created.header("etag"));

    call(&hub, "PUT", "/devices/d", &[&old], body).await.refusal(412, "PreconditionFailed");
    call(&hub, "DELETE", "/devices/d", &[&old], "").await.refusal(412, "PreconditionFailed");
    call(&hub, "PUT", "/devices/x", &["If-Match: *"], r#"{"deviceId":"x"}"#)
        .await
        .refusal(404, "DeviceNotFound");
    let bare = format!("If-Match: {}", updated.header("etag").unwrap().trim_matches('"'));
    assert_eq!(call(&hub, "DELETE", "/devices/d", &[&bare], "").await.status, 204);
    call(&hub, "GET", "/devices/d", &[], "").await.refusal(404, "DeviceNotFound");
}

#[tokio::test]
async fn every_allowed_id_survives_the_path() {
    let hub = LocalHub::start().await.unwrap();
    for (id, path) in [
        ("dev+1", "/devices/dev%2B1"),
        ("dev+1", "/devices/dev+1"),
        ("dev%2b", "/devices/dev%252b"),
        ("-:.+%_#*?!(),=@;$'", "/devices/-%3A.%2B%25_%23*%3F!()%2C%3D%40%3B%24'"),
        ("CaseMatters", "/DEVICES/CaseMatters/"),
    ] {
        let body = json!({ "deviceId": id }).to_string();
        let created = call(&hub, "PUT", path, &[], &body).await;
        assert_eq!(created.status, 200, "{}", String::from_utf8_lossy(&created.body));
        assert_eq!(created.json()["deviceId"], id);
        assert_eq!(call(&hub, "GET", path, &[], "").await.json()["deviceId"], id);
        assert_eq!(call(&hub, "DELETE", path, &["If-Match: *"], "").await.status, 204);
    }
    for path in ["/devices/a%20b", "/devices/a%2Fb", "/devices/%C3%A9"] {
        call(&hub, "PUT", path, &[], "{}").await.refusal(400, "ArgumentInvalid");
    }
    call(&hub, "GET", "/devices/%FF", &[], "").await.refusal(400, "ArgumentInvalid");
}

#[tokio::test]
async fn list_heeds_top_and_a_trailing_slash() {
    let hub = LocalHub::start().await.unwrap();
    for id in ["a", "b", "c"] {
        call(&hub, "PUT", &format!("/devices/{id}"), &[], &json!({ "deviceId": id }).to_string()).await;
    }
    let authorization = format!("Authorization: {}", owner_token(&hub));
    for (query, count) in [("", 3), ("top=2&", 2), ("top=0&", 3), ("top=1001&", 3), ("top=x&", 3)] {
        let mut stream = connect(&hub).await;
        let text =
            format!("GET /devices/?{query}{VERSION} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let list = read_reply(&mut stream).await.json();
        assert_eq!(list.as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn twin_is_patched_and_replaced() {
    let hub = LocalHub::start().await.unwrap();
    call(&hub, "PUT", "/devices/d", &[], r#"{"deviceId":"d"}"#).await;
    call(&hub, "PUT", "/devices/d/modules/m", &[], r#"{"deviceId":"d","moduleId":"m"}"#).await;

    for path in ["/twins/d", "/twins/d/modules/m"] {
        let fresh = call(&hub, "GET", path, &[], "").await;
        assert_eq!(fresh.status, 200);
        // The counter of a fresh twin (twins.md 2.2).
        assert_eq!(fresh.header("etag"), Some("\"AAAAAAAAAAE=\""));
        assert_eq!(fresh.json()["version"], 2);

        let patch = r#"{"tags":{"room":"kitchen"},"properties":{"desired":{"level":3}}}"#;
        let patched = call(&hub, "PATCH", path, &["If-Match: \"AAAAAAAAAAE=\""], patch).await;
        assert_eq!(patched.status, 200);
        assert_eq!(patched.header("etag"), Some("\"AAAAAAAAAAI=\""));
        let twin = patched.json();
        assert_eq!(twin["tags"], json!({ "room": "kitchen" }));
        assert_eq!(twin["properties"]["desired"]["level"], 3);
        assert_eq!(twin["properties"]["desired"]["$version"], 2);

        call(&hub, "PATCH", path, &["If-Match: abc"], patch).await.refusal(412, "PreconditionFailed");

        // Java sends this instead of PATCH (rest.md 1.1).
        let overridden = ["X-HTTP-Method-Override: PATCH", "Content-Type: application/json; charset=utf-8"];
        let patched = call(&hub, "POST", path, &overridden, r#"{"tags":{"room":null}}"#).await;
        assert_eq!(patched.status, 200);
        assert!(patched.json().get("tags").is_none_or(|tags| tags == &json!({})));

        let replaced = call(&hub, "PUT", path, &[], r#"{"properties":{"desired":{"other":1}}}"#).await;
        let desired = &replaced.json()["properties"]["desired"];
        assert_eq!((&desired["other"], desired.get("level")), (&json!(1), None));

        let bad = call(&hub, "PATCH", path, &[], r#"{"properties":{"desired":{"a.b":1}}}"#).await;
        let text = bad.refusal(400, "ArgumentInvalid");
        assert!(text.contains("a.b"), "{text}");
    }
    call(&hub, "GET", "/twins/x", &[], "").await.refusal(404, "DeviceNotFound");
    call(&hub, "GET", "/twins/d/modules/x", &[], "").await.refusal(404, "ModuleNotFound");
}

#[tokio::test]
async fn bodies_come_chunked_and_after_a_question() {
    let hub = LocalHub::start().await.unwrap();
    let authorization = format!("Authorization: {}", owner_token(&hub));
    let head =
        |id: &str| format!("PUT /devices/{id}?{VERSION} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
    let mut stream = connect(&hub).await;

    let chunked = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"dev\r\na\r\niceId\":\"a\"\r\n1\r\n}}\r\n0\r\n\r\n",
        head("a")
    );
    stream.write_all(chunked.as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.json()["deviceId"], "a");

    let asking = format!("{}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", head("b"));
    stream.write_all(asking.as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.status, 100);
    stream.write_all(b"{}").await.unwrap();
    assert_eq!(read_reply(&mut stream).await.json()["deviceId"], "b");

    // The same connection serves on.
    stream.write_all(request("GET", "/devices", &[&authorization], "").as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.json().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn statistics_count_devices() {
    let hub = LocalHub::start().await.unwrap();
    call(&hub, "PUT", "/devices/a", &[], "{}").await;
    call(&hub, "PUT", "/devices/b", &[], r#"{"status":"disabled"}"#).await;
    assert_eq!(
        call(&hub, "GET", "/statistics/devices", &[], "").await.json(),
        json!({ "totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1 })
    );
    assert_eq!(
        call(&hub, "GET", "/statistics/service", &[], "").await.json(),
        json!({ "connectedDeviceCount": 0 })
    );
}

/// Bulk: the result of a partial failure comes with 400 and two headers (rest.md 3.5).
#[tokio::test]
async fn bulk_names_what_failed() {
    let hub = LocalHub::start().await.unwrap();
    let good = json!([{ "id": "a", "importMode": "create" }, { "id": "b", "importMode": "Create" }]);
    // Node and C# send a trailing slash.
    let reply = call(&hub, "POST", "/devices/", &[], &good.to_string()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json(), json!({ "isSuccessful": true, "errors": [], "warnings": [] }));
    assert_eq!(reply.header("iothuberrorcode"), None);

    let mixed = json!([{ "id": "a", "importMode": "create" }, { "id": "c", "importMode": "create" }]);
    let reply = call(&hub, "POST", "/devices", &[], &mixed.to_string()).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.header("iothub-errorcode"), Some("BulkRegistryOperationFailure"));
    assert_eq!(reply.header("iothuberrorcode"), Some("BulkRegistryOperationFailure"));
    let result = reply.json();
    assert_eq!(result["isSuccessful"], false);
    let errors = result["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1);
    assert_eq!((&errors[0]["deviceId"], &errors[0]["errorCode"]), (&json!("a"), &json!(409_001)));
    assert_eq!(call(&hub, "GET", "/devices/c", &[], "").await.status, 200);

    let twice = json!([{ "id": "x" }, { "id": "x" }]).to_string();
    let text = call(&hub, "POST", "/devices", &[], &twice).await.refusal(400, "DeviceDefinedMultipleTimes");
    assert_eq!(text, "DeviceDefinedMultipleTimes, device ID x");
    call(&hub, "POST", "/devices", &[], "").await.refusal(400, "ArgumentNull");
    hub.shutdown().await;
}
