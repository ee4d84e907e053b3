//! File uploads over HTTPS as Microsoft's clients make them: paths, spellings, the blob endpoint.
#![allow(clippy::unwrap_used)]

mod support;

use iothub_common::SymmetricKey;
use iothub_common::identity::escape_id;
use iothub_emulator::LocalHub;
use serde_json::{Value, json};
use support::{Reply, call, raw, request, token};

/// A hub with the device `d`, and its token.
async fn hub_with_device() -> (LocalHub, String) {
    let hub = LocalHub::start().await.unwrap();
    let device = call(&hub, "PUT", "/devices/d", &[], r#"{"deviceId":"d"}"#).await.json();
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let key = SymmetricKey::from_base64(key).unwrap();
    let token = token(&key, &format!("{}/devices/d", hub.host_name()), None, 3600);
    (hub, token)
}

async fn as_device(hub: &LocalHub, token: &str, path: &str, body: &str) -> Reply {
    let token = format!("Authorization: {token}");
    raw(hub, request("POST", path, &[&token], body).as_bytes()).await
}

async fn start(hub: &LocalHub, token: &str, name: &str) -> Value {
    let body = json!({ "blobName": name }).to_string();
    // The C SDK has the trailing slash.
    let reply = as_device(hub, token, "/devices/d/files/", &body).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

/// A request to the blob endpoint; `query` follows the token.
async fn blob(
    hub: &LocalHub,
    method: &str,
    started: &Value,
    query: &str,
    headers: &[&str],
    body: &str,
) -> Reply {
    let text = |name: &str| started[name].as_str().unwrap();
    let name: Vec<String> = text("blobName").split('/').map(escape_id).collect();
    let (container, token, length) = (text("containerName"), text("sasToken"), body.len());
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!(
        "{method} /{container}/{}{token}{query} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
        name.join("/"),
        text("hostName"),
    );
    raw(hub, request.as_bytes()).await
}

const BLOCK_BLOB: &str = "x-ms-blob-type: BlockBlob";

#[tokio::test]
async fn a_file_goes_up_in_three_steps() {
    let (hub, token) = hub_with_device().await;
    let started = start(&hub, &token, "dir/a b.txt").await;
    assert_eq!(started["hostName"], format!("localhost:{}", hub.https_port()));
    let put = blob(&hub, "PUT", &started, "", &[BLOCK_BLOB, "Content-Type: text/plain"], "hello").await;
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    assert!(put.header("etag").unwrap().starts_with('"'));

    // Node has the id in the path, escaped.
    let id = escape_id(started["correlationId"].as_str().unwrap());
    let path = format!("/devices/d/files/notifications/{id}");
    let body = r#"{"isSuccess":true,"statusCode":201,"statusDescription":"Created"}"#;
    assert_eq!(as_device(&hub, &token, &path, body).await.status, 204);

    let file = hub.uploaded_file("d/dir/a b.txt").unwrap();
    assert_eq!((file.content_type.as_str(), &file.content()[..]), ("text/plain", &b"hello"[..]));
    let read = blob(&hub, "GET", &started, "", &[], "").await;
    assert_eq!(
        (read.status, read.header("content-type"), &read.body[..]),
        (200, Some("text/plain"), &b"hello"[..])
    );
    assert!(read.header("last-modified").unwrap().ends_with(" GMT"));
}

#[tokio::test]
async fn blocks_become_a_blob_and_the_id_may_be_in_the_body() {
    let (hub, token) = hub_with_device().await;
    let started = start(&hub, &token, "a").await;
    for (id, content) in [("QQ%3D%3D", "one "), ("Qg%3D%3D", "two")] {
        let query = format!("&comp=block&blockid={id}");
        assert_eq!(blob(&hub, "PUT", &started, &query, &[], content).await.status, 201);
    }
    let list = "<?xml version='1.0'?><BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest></BlockList>";
    let headers = ["x-ms-blob-content-type: text/x"];
    assert_eq!(blob(&hub, "PUT", &started, "&comp=blocklist", &headers, list).await.status, 201);
    let body = json!({ "correlationId": started["correlationId"], "isSuccess": true, "statusCode": 200 });
    let finish = as_device(&hub, &token, "/devices/d/files/notifications", &body.to_string()).await;
    assert_eq!(finish.status, 204);
    let file = hub.uploaded_file("d/a").unwrap();
    assert_eq!((file.content_type.as_str(), &file.content()[..]), ("text/x", &b"one two"[..]));
}

#[tokio::test]
async fn parts_of_a_blob_can_be_read() {
    let (hub, token) = hub_with_device().await;
    let started = start(&hub, &token, "a").await;
    assert_eq!(blob(&hub, "PUT", &started, "", &[BLOCK_BLOB], "0123456789").await.status, 201);
    for (range, status, content_range, body) in [
        ("Range: bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
        ("x-ms-range: bytes=7-99", 206, Some("bytes 7-9/10"), "789"),
        ("x-ms-range: bytes=9-", 206, Some("bytes 9-9/10"), "9"),
        ("x-ms-range: bytes=4-2", 200, None, "0123456789"),
        ("Range: lines=1-2", 200, None, "0123456789"),
    ] {
        let read = blob(&hub, "GET", &started, "", &[range], "").await;
        assert_eq!((read.status, read.header("content-range")), (status, content_range), "{range}");
        assert_eq!(read.body, body.as_bytes(), "{range}");
    }
    let beyond = blob(&hub, "GET", &started, "", &["Range: bytes=10-20"], "").await;
    assert_eq!((beyond.status, beyond.header("x-ms-error-code")), (416, Some("InvalidRange")));
}

#[tokio::test]
async fn the_storage_refuses_in_its_own_way() {
    let (hub, token) = hub_with_device().await;
    let started = start(&hub, &token, "a").await;
    let with = |name: &str, value: &str| {
        let mut changed = started.clone();
        changed[name] = value.into();
        changed
    };
    let sas = started["sasToken"].as_str().unwrap();
    let cases = [
        ("PUT", with("blobName", "d/b"), "", BLOCK_BLOB, 403, "AuthenticationFailed"),
        ("PUT", with("sasToken", "?sv=2018-03-28"), "", BLOCK_BLOB, 403, "AuthenticationFailed"),
        (
            "PUT",
            with("sasToken", &sas.replace("sp=rw", "sp=rwd")),
            "",
            BLOCK_BLOB,
            403,
            "AuthenticationFailed",
        ),
        ("PUT", started.clone(), "", "x-a: b", 400, "MissingRequiredHeader"),
        ("PUT", started.clone(), "", "x-ms-blob-type: PageBlob", 400, "MissingRequiredHeader"),
        ("PUT", started.clone(), "&comp=page", "x-a: b", 400, "InvalidQueryParameterValue"),
        ("PUT", started.clone(), "&comp=block", "x-a: b", 400, "InvalidBlobOrBlock"),
        ("PUT", started.clone(), "&comp=blocklist", "x-a: b", 400, "InvalidXmlDocument"),
        ("GET", started.clone(), "", "x-a: b", 404, "BlobNotFound"),
        ("DELETE", started.clone(), "", "x-a: b", 405, "UnsupportedHttpVerb"),
    ];
    for (method, started, query, header, status, code) in cases {
        let reply = blob(&hub, method, &started, query, &[header], "x").await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!((reply.status, reply.header("x-ms-error-code")), (status, Some(code)), "{text}");
        assert!(text.contains(&format!("<Code>{code}</Code>")), "{text}");
    }
    // Another container is a path of the hub, which has none such.
    assert_eq!(blob(&hub, "PUT", &with("containerName", "other"), "", &[BLOCK_BLOB], "x").await.status, 404);
}

#[tokio::test]
async fn the_hub_refuses_with_its_codes() {
    let (hub, token) = hub_with_device().await;
    let notifications = "/devices/d/files/notifications";
    for (path, body, status, name) in [
        ("/devices/d/files", "", 400, "ArgumentNull"),
        ("/devices/d/files", "no json", 400, "IotHubFormatError"),
        ("/devices/d/files", r#"{"blobName":5}"#, 400, "IotHubFormatError"),
        ("/devices/d/files", "{}", 400, "ArgumentInvalid"),
        (notifications, r#"{"correlationId":"x","isSuccess":true}"#, 400, "InvalidFileUploadCorrelationId"),
        (notifications, r#"{"correlationId":"x"}"#, 400, "ArgumentInvalid"),
        ("/devices/e/files", r#"{"blobName":"a"}"#, 401, "IotHubUnauthorized"),
    ] {
        as_device(&hub, &token, path, body).await.refusal(status, name);
    }
    let path = "/devices/d/files";
    raw(&hub, request("POST", path, &[], r#"{"blobName":"a"}"#).as_bytes())
        .await
        .refusal(401, "IotHubUnauthorizedAccess");
}
