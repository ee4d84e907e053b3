//! Start, addresses, several hubs, end.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use iothub_emulator::{LocalHub, StartError};
use support::{call, connect, connect_to, owner_token, raw, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn twenty_hubs_live_side_by_side() {
    let mut hubs = Vec::new();
    for number in 0..20 {
        let hub = LocalHub::start().await.unwrap();
        let reply = call(&hub, "PUT", &format!("/devices/only-on-{number}"), &[], "{}").await;
        assert_eq!(reply.status, 200);
        hubs.push(hub);
    }
    let ports: HashSet<u16> = hubs.iter().flat_map(|hub| [hub.https_port(), hub.amqps_port()]).collect();
    assert_eq!(ports.len(), 40);
    for (number, hub) in hubs.iter().enumerate() {
        let list = call(hub, "GET", "/devices", &[], "").await.json();
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!(list[0]["deviceId"], format!("only-on-{number}"));
    }

    // Neither the keys nor the authority of one is good for another.
    let header = format!("Authorization: {}", owner_token(&hubs[0]));
    let request = support::request("GET", "/devices", &[&header], "");
    raw(&hubs[1], request.as_bytes()).await.refusal(401, "IotHubUnauthorizedAccess");
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let error = connect_to(&hubs[0], loopback, hubs[1].https_port()).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn both_loopback_families_serve() {
    let hub = LocalHub::start().await.unwrap();
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    for address in addresses {
        for port in [hub.https_port(), hub.amqps_port()] {
            soon(connect_to(&hub, address, port)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn health_needs_neither_token_nor_version() {
    let hub = LocalHub::start().await.unwrap();
    let reply = raw(&hub, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["status"], "ok");
}

#[tokio::test]
async fn hub_has_the_names_it_was_given() {
    let hub = LocalHub::builder().hostname("hub.example").hostname("other.example").start().await.unwrap();
    assert_eq!(hub.host_name(), "hub.example");
    assert!(hub.connection_string().starts_with("HostName=hub.example;SharedAccessKeyName=iothubowner;"));
    assert_eq!(call(&hub, "GET", "/devices", &[], "").await.status, 200);

    let stream = TcpStream::connect(("127.0.0.1", hub.https_port())).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(support::trusting(hub.ca_pem()));
    connector.connect("other.example".try_into().unwrap(), stream).await.unwrap();
}

#[tokio::test]
async fn name_that_is_none_is_refused() {
    let error = LocalHub::builder().hostname("no such name").start().await.unwrap_err();
    assert!(matches!(error, StartError::HostName { .. }));
    assert_eq!(error.to_string(), "host name `no such name` is neither a DNS name nor an IP address");
}

#[tokio::test]
async fn port_in_use_is_named() {
    let hub = LocalHub::start().await.unwrap();
    let error = LocalHub::builder().https_port(hub.https_port()).start().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("port {}", hub.https_port())), "{text}");
    assert!(text.contains("it is in use"), "{text}");
}

#[tokio::test]
async fn shutdown_ends_open_connections() {
    let hub = LocalHub::start().await.unwrap();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut idle = connect(&hub).await;
    let mut half_way = connect(&hub).await;
    half_way.write_all(b"GET /devices HTTP/1.1\r\nHost: loc").await.unwrap();
    let mut amqp = connect_to(&hub, loopback, hub.amqps_port()).await.unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", hub.https_port())).await.unwrap();
    let port = hub.https_port();

    soon(hub.shutdown()).await;

    let mut rest = Vec::new();
    for stream in [&mut idle, &mut half_way, &mut amqp] {
        // An orderly end or a reset; either way it is over.
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
    let _ = soon(silent.read_to_end(&mut rest)).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn request_under_way_is_finished_on_shutdown() {
    let hub = LocalHub::start().await.unwrap();
    let header = format!("Authorization: {}", owner_token(&hub));
    let body = r#"{"deviceId":"d"}"#;
    let request = support::request("PUT", "/devices/d", &[&header, "Expect: 100-continue"], body);
    let (head, body) = request.split_at(request.len() - body.len());

    let mut stream = connect(&hub).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    // The hub waits for the body from here on.
    assert_eq!(support::read_reply(&mut stream).await.status, 100);
    let ending = tokio::spawn(hub.shutdown());
    tokio::task::yield_now().await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let reply = support::read_reply(&mut stream).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    soon(ending).await.unwrap();
}

#[tokio::test]
async fn drop_ends_the_hub() {
    let hub = LocalHub::start().await.unwrap();
    let port = hub.https_port();
    let mut open = connect(&hub).await;
    drop(hub);
    let mut rest = Vec::new();
    let _ = soon(open.read_to_end(&mut rest)).await;
    soon(async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[test]
fn drop_outside_a_runtime_does_no_harm() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(LocalHub::start()).unwrap();
    drop(hub);
    let hub = runtime.block_on(LocalHub::start()).unwrap();
    drop(runtime);
    drop(hub);
}

#[tokio::test]
async fn debug_shows_no_key() {
    let hub = LocalHub::start().await.unwrap();
    let connection_string = hub.connection_string();
    let key = connection_string.split_once("SharedAccessKey=").unwrap().1;
    for text in [format!("{hub:?}"), format!("{:?}", hub.client_options()), format!("{:?}", hub.hub())] {
        assert!(!text.contains(key), "{text}");
    }
}

#[tokio::test]
async fn state_directory_keeps_authority_and_keys() {
    let dir = tempfile::tempdir().unwrap();
    let start = async || LocalHub::builder().state_dir(dir.path().join("state")).start().await.unwrap();
    let first = start().await;
    let (ca, connection_string) = (first.ca_pem().to_owned(), first.connection_string());
    assert_eq!(std::fs::read_to_string(first.ca_file().unwrap()).unwrap(), ca);
    first.shutdown().await;

    let second = start().await;
    assert_eq!((second.ca_pem(), second.connection_string()), (ca.as_str(), connection_string));
    assert_eq!(call(&second, "GET", "/devices", &[], "").await.status, 200);
}

#[tokio::test]
async fn policies_have_only_their_rights() {
    let dir = tempfile::tempdir().unwrap();
    let hub = LocalHub::builder().state_dir(dir.path()).start().await.unwrap();
    let stored = std::fs::read_to_string(dir.path().join("policies.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    call(&hub, "PUT", "/devices/d", &[], "{}").await;

    // GET device, PUT device, GET twin (rest.md 1.4)
    for (policy, expected) in [
        ("iothubowner", [200, 200, 200]),
        ("service", [401, 401, 200]),
        ("device", [401, 401, 401]),
        ("registryRead", [200, 401, 401]),
        ("registryReadWrite", [200, 200, 401]),
    ] {
        for key in ["primaryKey", "secondaryKey"] {
            let key = stored[policy][key].as_str().unwrap();
            let key = iothub_common::SymmetricKey::from_base64(key).unwrap();
            let header = format!("Authorization: {}", support::token(&key, "localhost", Some(policy), 3600));
            for ((method, path), status) in
                [("GET", "/devices/d"), ("PUT", "/devices/d"), ("GET", "/twins/d")].iter().zip(expected)
            {
                let request = support::request(method, path, &[&header, "If-Match: *"], "{}");
                let reply = raw(&hub, request.as_bytes()).await;
                assert_eq!(reply.status, status, "{policy} {method} {path}");
            }
        }
    }
}
