//! Direct methods between a caller and a connection.

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn request(connect_timeout: u64) -> MethodRequest {
    MethodRequest {
        name: "reboot".to_owned(),
        payload: Bytes::from_static(b"{\"in\": 5.0}"),
        response_timeout: 30 * SECOND,
        connect_timeout: u32::try_from(connect_timeout).unwrap() * SECOND,
    }
}

fn call(
    hub: &Hub,
    target: &Identity,
    request: MethodRequest,
) -> JoinHandle<Result<MethodResponse, HubError>> {
    let (hub, target) = (hub.clone(), target.clone());
    tokio::spawn(async move { hub.invoke_method(&target, request).await })
}

async fn ended(call: JoinHandle<Result<MethodResponse, HubError>>) -> Result<MethodResponse, HubError> {
    tokio::time::timeout(60 * SECOND, call).await.expect("within a minute").unwrap()
}

async fn next_call(connected: &Connected) -> (uuid::Uuid, String, Bytes) {
    let push = tokio::time::timeout(60 * SECOND, connected.recv()).await.expect("within a minute");
    let Push::Method { id, name, payload } = push else { panic!("{push:?}") };
    (id, name, payload)
}

fn response(status: i32, payload: &'static str) -> MethodResponse {
    MethodResponse { status, payload: Bytes::from_static(payload.as_bytes()) }
}

fn listening(hub: &Hub, identity: &Identity) -> Connected {
    let connected = hub.connect(identity).unwrap();
    connected.claim(Claim::Methods);
    connected
}

#[tokio::test]
async fn a_call_reaches_who_listens_and_the_answer_comes_back_as_it_is() {
    let (hub, device, module) = hub_with_module();
    for (target, other) in [(&device, &module), (&module, &device)] {
        let (connected, bystander) = (listening(&hub, target), listening(&hub, other));
        let call = call(&hub, target, request(0));
        let (id, name, payload) = next_call(&connected).await;
        assert_eq!((name.as_str(), &payload[..]), ("reboot", &b"{\"in\": 5.0}"[..]));
        // Not its call.
        bystander.respond(id, response(1, "1")).unwrap();
        connected.respond(uuid::Uuid::new_v4(), response(2, "2")).unwrap();
        connected.respond(id, response(-7, " {\"a\":  1.50}")).unwrap();
        connected.respond(id, response(3, "3")).unwrap();
        let answer = ended(call).await.unwrap();
        assert_eq!(&answer.to_json()[..], b"{\"status\":-7,\"payload\": {\"a\":  1.50}}");
        assert_eq!(bystander.try_recv(), None);
    }
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_nobody_known() {
    let (hub, device, module) = hub_with_module();
    let code = async |target: &Identity| hub.invoke_method(target, request(0)).await.unwrap_err().code;
    assert_eq!(code(&Identity::device("nobody").unwrap()).await, 404_001);
    assert_eq!(code(&Identity::module("d", "nobody").unwrap()).await, 404_010);
    assert_eq!(code(&device).await, 404_103);
    let connected = hub.connect(&device).unwrap();
    assert_eq!(code(&device).await, 404_103, "connected, but not for methods");
    connected.claim(Claim::Methods);
    connected.give_up(Claim::Methods);
    assert_eq!(code(&device).await, 404_103);
    assert_eq!(code(&module).await, 404_103);
    hub.put_device("d", &json!({ "status": "disabled" }), Precondition::IfMatch(None)).unwrap();
    assert_eq!(code(&device).await, 404_001);
}

#[tokio::test]
async fn the_connect_timeout_is_how_long_a_call_waits_for_a_listener() {
    let (hub, device, _) = hub_with_module();
    let late = call(&hub, &device, request(20));
    let early = call(&hub, &device, request(300));
    tokio::task::yield_now().await;
    hub.advance(20 * SECOND);
    let error = ended(late).await.unwrap_err();
    assert_eq!((error.code, error.text.as_str()), (404_103, "Timed out waiting for device to connect."));
    assert!(!early.is_finished());
    let connected = listening(&hub, &device);
    let (id, _, _) = next_call(&connected).await;
    connected.respond(id, response(200, "null")).unwrap();
    assert_eq!(ended(early).await.unwrap().status, 200);
}

#[tokio::test]
async fn without_an_answer_in_time_the_call_ends_and_a_late_one_is_dropped() {
    let (hub, device, _) = hub_with_module();
    let connected = listening(&hub, &device);
    let call = call(&hub, &device, request(0));
    let (id, _, _) = next_call(&connected).await;
    hub.advance(29 * SECOND);
    tokio::task::yield_now().await;
    assert!(!call.is_finished());
    hub.advance(SECOND);
    let error = ended(call).await.unwrap_err();
    assert_eq!((error.code, error.name), (504_101, "GatewayTimeout"));
    assert_eq!(error.text, "Timed out waiting for the response from device.");
    connected.respond(id, response(200, "1")).unwrap();
    assert_eq!(connected.try_recv(), None);
}

#[tokio::test]
async fn a_call_ends_when_who_listens_leaves() {
    type Leave = fn(&Hub, Connected);
    let leaves: [(&str, Leave); 5] = [
        ("closes", |_, connected| drop(connected)),
        ("gives up", |_, connected| {
            connected.give_up(Claim::Methods);
            std::mem::forget(connected);
        }),
        ("is displaced", |hub, connected| {
            let other = listening(hub, connected.identity());
            assert_eq!(connected.try_recv(), Some(Push::Displaced(Claim::Methods)));
            std::mem::forget((connected, other));
        }),
        ("is disabled", |hub, connected| {
            hub.put_device("d", &json!({ "status": "disabled" }), Precondition::IfMatch(None)).unwrap();
            std::mem::forget(connected);
        }),
        ("is deleted", |hub, connected| {
            hub.delete_device("d", Precondition::None).unwrap();
            std::mem::forget(connected);
        }),
    ];
    for (name, leave) in leaves {
        let (hub, device, _) = hub_with_module();
        let connected = listening(&hub, &device);
        let call = call(&hub, &device, request(0));
        next_call(&connected).await;
        leave(&hub, connected);
        let error = ended(call).await.unwrap_err();
        assert_eq!((error.code, error.name), (404_104, "DeviceConnectionClosedRemotely"), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_nobodys_answer() {
    let (hub, device, _) = hub_with_module();
    let connected = listening(&hub, &device);
    let large = vec![b' '; 128 * 1024 + 1];
    for (payload, expected) in [
        (&b""[..], Ok("null")),
        (b"undefined", Ok("null")),
        (b"\"text\"", Ok("\"text\"")),
        (b"{\"a\":", Err("is no JSON")),
        (b"1 2", Err("is no JSON")),
        (&large, Err("is larger than 128 KiB")),
    ] {
        let call = call(&hub, &device, request(0));
        let (id, _, _) = next_call(&connected).await;
        let answer = MethodResponse { status: 200, payload: Bytes::copy_from_slice(payload) };
        let taken = connected.respond(id, answer);
        match (ended(call).await, expected) {
            (Ok(answer), Ok(expected)) => {
                taken.unwrap();
                assert_eq!(answer.payload, expected);
            }
            (Err(error), Err(what)) => {
                assert_eq!((error.status, error.name), (502, "BadDeviceResponse"));
                assert!(error.text.ends_with(what), "{}", error.text);
                assert_eq!(taken.unwrap_err().code, 400_004);
            }
            (ended, expected) => panic!("{ended:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn only_so_many_calls_at_a_time_and_a_dropped_one_is_over() {
    let (hub, device, module) = hub_with_module();
    let mut calls: Vec<_> = (0..100).map(|_| Box::pin(hub.invoke_method(&device, request(300)))).collect();
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()));
    let error = hub.invoke_method(&device, request(0)).await.unwrap_err();
    assert_eq!((error.code, error.name), (403_800, "DeviceMaximumInflightMethodExceeded"));
    assert_eq!(hub.invoke_method(&module, request(0)).await.unwrap_err().code, 404_103);
    drop(calls);
    assert_eq!(hub.invoke_method(&device, request(0)).await.unwrap_err().code, 404_103);
}

#[test]
fn bodies_of_calls_are_read_and_checked() {
    let parse = |body: &str| MethodRequest::parse(body.as_bytes());
    let full = r#"{"methodName":"m","payload": {"b":1.0, "a":2},"responseTimeoutInSeconds":5,"connectTimeoutInSeconds":300,"x":1}"#;
    let read = parse(full).unwrap();
    assert_eq!((read.name.as_str(), &read.payload[..]), ("m", &br#"{"b":1.0, "a":2}"#[..]));
    assert_eq!((read.response_timeout, read.connect_timeout), (5 * SECOND, 300 * SECOND));
    for body in
        [r#"{"methodName":"m"}"#, r#"{"methodName":"m","payload":null,"responseTimeoutInSeconds":null}"#]
    {
        let read = parse(body).unwrap();
        assert_eq!(&read.payload[..], b"null");
        assert_eq!((read.response_timeout, read.connect_timeout), (30 * SECOND, Duration::ZERO));
    }
    assert_eq!(parse("").unwrap_err().code, 400_005);
    let name = |length: usize| format!(r#"{{"methodName":"{}"}}"#, "n".repeat(length));
    let payload = |length: usize| format!(r#"{{"methodName":"m","payload":"{}"}}"#, "p".repeat(length - 2));
    parse(&name(100)).unwrap();
    parse(&payload(128 * 1024)).unwrap();
    for body in [
        "[]",
        "{}",
        r#"{"methodName":7}"#,
        r#"{"methodName":"  "}"#,
        r#"{"methodName":"m","responseTimeoutInSeconds":4}"#,
        r#"{"methodName":"m","responseTimeoutInSeconds":301}"#,
        r#"{"methodName":"m","responseTimeoutInSeconds":"30"}"#,
        r#"{"methodName":"m","connectTimeoutInSeconds":301}"#,
        r#"{"methodName":"m","connectTimeoutInSeconds":-1}"#,
        r#"{"methodName":"m","connectTimeoutInSeconds":1.5}"#,
        &name(101),
        &payload(128 * 1024 + 1),
    ] {
        assert_eq!(parse(body).unwrap_err().code, 400_004, "{}", &body[..body.len().min(60)]);
    }
}
