//! What the HTTPS port says to requests it does not serve, and that it goes on serving the others.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use iothub_common::SymmetricKey;
use iothub_emulator::LocalHub;
use support::{VERSION, call, connect, owner_key, owner_token, raw, read_reply, request, soon, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The hub still answers a proper request.
async fn assert_serves(hub: &LocalHub) {
    let reply = call(hub, "GET", "/devices", &[], "").await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"[]".as_slice()));
}

#[tokio::test]
async fn bad_tokens_are_unauthorized() {
    let hub = LocalHub::start().await.unwrap();
    let (key, owner) = (owner_key(&hub), Some("iothubowner"));
    let other_key = SymmetricKey::from_base64("AAECAwQFBgcICQoLDA0ODw==").unwrap();
    let whole = owner_token(&hub);
    for (what, authorization) in [
        ("missing", None),
        ("empty", Some(String::new())),
        ("no token", Some("hello".to_owned())),
        ("other scheme", Some("Basic aGVsbG86d29ybGQ=".to_owned())),
        ("cut", Some(whole[..whole.len() / 2].to_owned())),
        ("wrong key", Some(token(&other_key, "localhost", owner, 3600))),
        ("expired", Some(token(&key, "localhost", owner, -3600))),
        ("unknown policy", Some(token(&key, "localhost", Some("nobody"), 3600))),
        ("no policy", Some(token(&key, "localhost", None, 3600))),
        ("other hub", Some(token(&key, "other.test", owner, 3600))),
        ("other device", Some(token(&key, "localhost/devices/b", owner, 3600))),
        ("part of a name", Some(token(&key, "localhost/dev", owner, 3600))),
    ] {
        let line = authorization.map(|value| format!("Authorization: {value}"));
        let headers: Vec<&str> = line.iter().map(String::as_str).collect();
        let reply = raw(&hub, request("GET", "/devices/a", &headers, "").as_bytes()).await;
        reply.refusal(401, "IotHubUnauthorizedAccess");
        assert!(reply.header("x-ms-request-id").is_some(), "{what}");
    }
    assert_serves(&hub).await;
}

#[tokio::test]
async fn token_for_a_part_of_the_registry_is_good_there() {
    let hub = LocalHub::start().await.unwrap();
    let token = token(&owner_key(&hub), "LOCALHOST/devices/a", Some("iothubowner"), 3600);
    let header = format!("Authorization: {token}");
    let ask = async |path: &str| raw(&hub, request("GET", path, &[&header], "").as_bytes()).await;
    ask("/devices/a").await.refusal(404, "DeviceNotFound");
    ask("/devices/a/modules/m").await.refusal(404, "DeviceNotFound");
    ask("/devices/ab").await.refusal(401, "IotHubUnauthorizedAccess");
    ask("/devices").await.refusal(401, "IotHubUnauthorizedAccess");
}

#[tokio::test]
async fn tokens_end_with_the_hubs_clock() {
    let hub = LocalHub::start().await.unwrap();
    let header = format!("Authorization: {}", owner_token(&hub));
    let ask = async || raw(&hub, request("GET", "/devices", &[&header], "").as_bytes()).await;
    assert_eq!(ask().await.status, 200);
    hub.advance(std::time::Duration::from_secs(2 * 3600));
    ask().await.refusal(401, "IotHubUnauthorizedAccess");
}

#[tokio::test]
async fn api_version_is_asked_for() {
    let hub = LocalHub::start().await.unwrap();
    let authorization = format!("Authorization: {}", owner_token(&hub));
    for (query, status) in [
        ("", 400),
        ("?", 400),
        ("?api-version=", 400),
        ("?api-version=1", 400),
        ("?api-version=2021-04-1x", 400),
        ("?top=1&api-version=2016-11-14", 200),
        ("?api-version=2030-01-01-preview", 200),
    ] {
        let text = format!("GET /devices{query} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n\r\n");
        let reply = raw(&hub, text.as_bytes()).await;
        match status {
            400 => drop(reply.refusal(400, "InvalidProtocolVersion")),
            _ => assert_eq!(reply.status, status, "{query}"),
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let hub = LocalHub::start().await.unwrap();
    call(&hub, "GET", "/nothing/here", &[], "").await.refusal(404, "NotFound");
    call(&hub, "GET", "/", &[], "").await.refusal(404, "NotFound");
    let reply = call(&hub, "PATCH", "/devices/d", &[], "{}").await;
    reply.refusal(405, "MethodNotAllowed");
    assert_eq!(reply.header("allow"), Some("GET, PUT, DELETE"));
}

#[tokio::test]
async fn body_that_is_no_json_is_a_bad_request() {
    let hub = LocalHub::start().await.unwrap();
    let put = async |path: &str, method: &str, body: &str| call(&hub, method, path, &[], body).await;
    for body in ["{", "hello", "\u{fffd}\0", "[".repeat(100_000).as_str()] {
        put("/devices/d", "PUT", body).await.refusal(400, "GenericBadRequest");
    }
    put("/devices/d", "PUT", "").await.refusal(400, "ArgumentNull");
    // Twins have a code of their own for this (twins.md 1.4).
    put("/twins/d", "PATCH", "{\"tags\":").await.refusal(400, "IotHubFormatError");
    put("/twins/d", "PUT", "nope").await.refusal(400, "IotHubFormatError");
    assert_serves(&hub).await;
}

#[tokio::test]
async fn oversized_bodies_are_refused_however_they_come() {
    let hub = LocalHub::start().await.unwrap();
    let authorization = format!("Authorization: {}", owner_token(&hub));
    let big = "x".repeat(1024 * 1024 + 1);

    let reply = call(&hub, "PUT", "/devices/d", &[], &big).await;
    reply.refusal(413, "MessageTooLarge");

    let head = format!("PUT /devices/d?{VERSION} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
    raw(&hub, chunked.as_bytes()).await.refusal(413, "MessageTooLarge");

    // Who asks before sending need not send.
    let asking = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", big.len());
    raw(&hub, asking.as_bytes()).await.refusal(413, "MessageTooLarge");
    assert_serves(&hub).await;
}

#[tokio::test]
async fn unauthorized_body_is_not_asked_for() {
    let hub = LocalHub::start().await.unwrap();
    let asking = format!(
        "PUT /devices/d?{VERSION} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    );
    raw(&hub, asking.as_bytes()).await.refusal(401, "IotHubUnauthorizedAccess");
}

#[tokio::test]
async fn largest_body_is_read() {
    let hub = LocalHub::start().await.unwrap();
    let padding = " ".repeat(1024 * 1024 - 16);
    let body = format!("{padding}{{\"deviceId\":\"d\"}}");
    assert_eq!(body.len(), 1024 * 1024);
    assert_eq!(call(&hub, "PUT", "/devices/d", &[], &body).await.status, 200);
}

#[tokio::test]
async fn garbage_closes_only_its_own_connection() {
    let hub = LocalHub::start().await.unwrap();
    let mut bystander = connect(&hub).await;

    for port in [hub.https_port(), hub.amqps_port()] {
        for garbage in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 4096], b"AMQP\x00\x01\x00\x00"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            // Ends with or without an alert or reset; what counts is that it ends.
            let mut rest = Vec::new();
            let _ = soon(stream.read_to_end(&mut rest)).await;
        }
    }
    for garbage in
        [b"\x00\x01\x02\xff\r\n\r\n".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n"]
    {
        let mut stream = connect(&hub).await;
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
    }

    let authorization = format!("Authorization: {}", owner_token(&hub));
    bystander.write_all(request("GET", "/devices", &[&authorization], "").as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut bystander).await.status, 200);
    assert_serves(&hub).await;
}

#[tokio::test]
async fn silent_and_half_open_connections_delay_nobody() {
    let hub = LocalHub::start().await.unwrap();
    let mut silent = Vec::new();
    for port in [hub.https_port(), hub.amqps_port()] {
        for _ in 0..50 {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
    }
    let mut slow = connect(&hub).await;
    slow.write_all(b"GET /devices HTTP/1.1\r\nHost: loc").await.unwrap();
    assert_serves(&hub).await;
    drop(silent);
}

/// Longer than any deadline of the hub. Tokio's time is paused where this is used, so it passes at once.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn client_that_never_starts_tls_is_shown_out() {
    let hub = LocalHub::start().await.unwrap();
    for port in [hub.https_port(), hub.amqps_port()] {
        let mut silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LONG, silent.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn request_that_never_ends_is_shown_out() {
    let hub = LocalHub::start().await.unwrap();
    let authorization = format!("Authorization: {}", owner_token(&hub));
    let mut slow_head = connect(&hub).await;
    let mut slow_body = connect(&hub).await;
    let request = request("PUT", "/devices/d", &[&authorization], "{}");
    slow_head.write_all(&request.as_bytes()[..20]).await.unwrap();
    slow_body.write_all(&request.as_bytes()[..request.len() - 1]).await.unwrap();

    tokio::time::pause();
    let mut reply = Vec::new();
    tokio::time::timeout(LONG, slow_body.read_to_end(&mut reply)).await.unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    assert!(reply.contains("ErrorCode:RequestTimeout;"), "{reply}");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LONG, slow_head.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 2"));
}

#[tokio::test]
async fn endless_head_is_refused() {
    let hub = LocalHub::start().await.unwrap();
    let mut stream = connect(&hub).await;
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    // Fails at some point, when the hub has closed.
    for _ in 0..10_000 {
        if stream.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP/1.1 2"));
    assert_serves(&hub).await;
}
