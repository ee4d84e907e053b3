//! Messages to devices and what becomes of them, uploaded files, and what an application sees of a hub that goes away.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, future::join_all, stream::FuturesOrdered};
use iothub::{
    ClientOptions, DeviceClient, ErrorKind, Registry, RetryPolicy,
    device::ReceivedMessages,
    service::{CloudMessage, DeliveryAck, FeedbackBatch, FeedbackStatus, FeedbackStream, Messaging},
};
use iothub_emulator::{LocalHub, hub::UploadedFile};
use support::{Bench, Cable, DEVICE, MODULE, within};

async fn device(bench: &Bench) -> (DeviceClient, ReceivedMessages) {
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let connection_string = device.connection_string(bench.registry.host_name()).unwrap();
    let client = within(DeviceClient::connect_with(&connection_string, bench.options())).await.unwrap();
    let messages = within(client.messages()).await.unwrap();
    (client, messages)
}

/// A registry whose AMQP goes through a cable.
async fn cabled(bench: &Bench) -> (Registry, Cable) {
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    (Registry::from_connection_string_with(&bench.hub.connection_string(), options).unwrap(), cable)
}

async fn send(messaging: &Messaging, message: CloudMessage) -> String {
    within(messaging.send_to_device(DEVICE, message)).await.unwrap()
}

async fn next(feedback: &mut FeedbackStream) -> FeedbackBatch {
    within(feedback.next()).await.unwrap().unwrap()
}

fn ids(batch: &FeedbackBatch) -> Vec<&str> {
    batch.records.iter().map(|record| record.original_message_id.as_str()).collect()
}

#[tokio::test]
async fn a_device_gets_what_was_sent() {
    let bench = Bench::start().await;
    let (_client, mut messages) = device(&bench).await;
    let expiry = SystemTime::UNIX_EPOCH + Duration::from_millis(4_102_444_800_123);
    let message = CloudMessage::new(&b"\x00\xff{}"[..])
        .message_id("m-1")
        .correlation_id("c-1")
        .user_id("me")
        .content_type("application/json")
        .content_encoding("utf-8")
        .expires_at(SystemTime::now() + Duration::from_secs(3600))
        .property("k", "ü 1");
    assert_eq!(send(&bench.registry.messaging(), message).await, "m-1");
    let received = within(messages.next()).await.unwrap();
    assert_eq!(received.body().as_ref(), b"\x00\xff{}");
    assert_eq!(received.message_id().as_deref(), Some("m-1"));
    assert_eq!(received.correlation_id().as_deref(), Some("c-1"));
    assert_eq!(received.user_id(), Some(&b"me"[..]));
    assert_eq!(received.content_type(), Some("application/json"));
    assert_eq!(received.content_encoding(), Some("utf-8"));
    assert!(received.expires_at().unwrap() < expiry);
    assert_eq!(received.property("k"), Some("ü 1"));
    within(received.complete()).await.unwrap();
}

#[tokio::test]
async fn a_module_gets_what_was_sent_to_it() {
    let bench = Bench::start().await;
    let client = bench.connect().await;
    let mut messages = within(client.messages()).await.unwrap();
    let messaging = bench.registry.messaging();
    within(messaging.send_to_module(DEVICE, MODULE, CloudMessage::new("hi"))).await.unwrap();
    assert_eq!(within(messages.next()).await.unwrap().body().as_ref(), b"hi");
}

#[tokio::test]
async fn many_under_way_at_once_keep_their_order() {
    let bench = Bench::start().await;
    let (_client, mut messages) = device(&bench).await;
    let messaging = bench.registry.messaging();
    let sends = async {
        let mut sends: FuturesOrdered<_> =
            (0..300).map(|n| messaging.send_to_device(DEVICE, CloudMessage::new(n.to_string()))).collect();
        let mut full = 0;
        while let Some(result) = within(sends.next()).await {
            match result {
                Ok(_) => {}
                // The device is slower than we are: 50 may wait.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error:?}");
                    full += 1;
                }
            }
        }
        300 - full
    };
    let receives = async {
        let mut last = -1;
        let mut count = 0;
        while last < 49 {
            let received = within(messages.next()).await.unwrap();
            let n: i64 = std::str::from_utf8(received.body()).unwrap().parse().unwrap();
            assert!(n > last, "{n} after {last}");
            last = n;
            count += 1;
            within(received.complete()).await.unwrap();
        }
        count
    };
    let (sent, received) = tokio::join!(sends, receives);
    assert!(sent >= 50 && received >= 50);
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let bench = Bench::start().await;
    let messaging = bench.registry.messaging();
    let refused = |device: &'static str, message: CloudMessage| {
        let messaging = messaging.clone();
        async move { within(messaging.send_to_device(device, message)).await.unwrap_err() }
    };
    let error = refused("nobody", CloudMessage::new("x")).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`nobody`"), "{error}");
    let error = within(messaging.send_to_module(DEVICE, "nobody", CloudMessage::new("x"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    assert_eq!(refused("no device", CloudMessage::new("x")).await.kind(), ErrorKind::InvalidInput);
    let error = refused(DEVICE, CloudMessage::new(vec![0; 65_537])).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let far = CloudMessage::new("x").expires_in(Duration::from_secs(49 * 3600));
    let error = refused(DEVICE, far).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(!error.may_have_been_applied());

    for _ in 0..50 {
        send(&messaging, CloudMessage::new("x")).await;
    }
    let error = refused(DEVICE, CloudMessage::new("x")).await;
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains(DEVICE) && error.to_string().contains("purge"), "{error}");
    let purged = within(bench.registry.purge_message_queue(DEVICE)).await.unwrap();
    assert_eq!(purged.total_messages_purged, 50);
    send(&messaging, CloudMessage::new("x")).await;
}

#[tokio::test]
async fn sixty_four_kib_arrive() {
    let bench = Bench::start().await;
    let (_client, mut messages) = device(&bench).await;
    let body = vec![7; 65_536 - 36];
    send(&bench.registry.messaging(), CloudMessage::new(body.clone())).await;
    assert_eq!(within(messages.next()).await.unwrap().body().as_ref(), body);
}

#[tokio::test]
async fn feedback_tells_what_became_of_messages() {
    let bench = Bench::start().await;
    let (client, mut messages) = device(&bench).await;
    let messaging = bench.registry.messaging();
    let mut feedback = within(messaging.feedback()).await.unwrap();
    for (id, ack) in [
        ("done", DeliveryAck::Full),
        ("silent", DeliveryAck::None),
        ("refused", DeliveryAck::Negative),
        ("fine", DeliveryAck::Negative),
    ] {
        send(&messaging, CloudMessage::new("x").message_id(id).ack(ack)).await;
        let received = within(messages.next()).await.unwrap();
        match id {
            "refused" => within(received.reject()).await.unwrap(),
            _ => within(received.complete()).await.unwrap(),
        }
    }
    client.close().await;
    let unnamed = send(&messaging, CloudMessage::new("x").ack(DeliveryAck::Full)).await;
    within(bench.registry.purge_message_queue(DEVICE)).await.unwrap();

    // In one batch or several, as the hub likes.
    let mut records = Vec::new();
    while records.len() < 3 {
        let batch = next(&mut feedback).await;
        assert!(batch.enqueued_time.is_some());
        records.extend(batch.records.iter().cloned());
        within(batch.complete()).await.unwrap();
    }
    let seen: Vec<_> = records.iter().map(|r| (r.original_message_id.as_str(), r.status.clone())).collect();
    let expected = [
        ("done", FeedbackStatus::Success),
        ("refused", FeedbackStatus::Rejected),
        (unnamed.as_str(), FeedbackStatus::Purged),
    ];
    assert_eq!(seen, expected);
    assert!(records.iter().all(|record| record.device_id == DEVICE && record.time.time().is_some()));
    messaging.close().await;
    assert!(within(feedback.next()).await.is_none());
}

/// Feedback of one message that nobody fetched.
async fn purged(bench: &Bench, messaging: &Messaging, id: &str) {
    send(messaging, CloudMessage::new("x").message_id(id).ack(DeliveryAck::Full)).await;
    within(bench.registry.purge_message_queue(DEVICE)).await.unwrap();
}

#[tokio::test]
async fn feedback_comes_again_until_it_is_completed() {
    let bench = Bench::start().await;
    let messaging = bench.registry.messaging();
    let mut feedback = within(messaging.feedback()).await.unwrap();
    purged(&bench, &messaging, "one").await;
    within(next(&mut feedback).await.abandon()).await.unwrap();
    drop(next(&mut feedback).await);
    let kept = next(&mut feedback).await;
    assert_eq!(ids(&kept), ["one"]);
    // The lock ends, and with it the right to complete.
    bench.hub.advance(Duration::from_secs(61));
    let again = next(&mut feedback).await;
    let error = within(kept.complete()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(ids(&again), ["one"]);
    within(again.complete()).await.unwrap();
    purged(&bench, &messaging, "two").await;
    assert_eq!(ids(&next(&mut feedback).await), ["two"]);
}

#[tokio::test]
async fn nothing_is_fetched_before_somebody_reads_and_nothing_is_kept_after() {
    let bench = Bench::start().await;
    let messaging = bench.registry.messaging();
    let idle = within(messaging.feedback()).await.unwrap();
    purged(&bench, &messaging, "one").await;
    let mut feedback = within(messaging.feedback()).await.unwrap();
    let batch = next(&mut feedback).await;
    assert_eq!(ids(&batch), ["one"], "the idle stream has not taken it");
    drop((idle, feedback));
    // The batch goes back when its reader drops it; a new reader gets it.
    drop(batch);
    let mut feedback = within(messaging.feedback()).await.unwrap();
    assert_eq!(ids(&next(&mut feedback).await), ["one"]);
}

#[tokio::test]
async fn feedback_goes_on_after_the_connection_was_lost() {
    let bench = Bench::start().await;
    let (registry, cable) = cabled(&bench).await;
    let messaging = registry.messaging();
    let mut feedback = within(messaging.feedback()).await.unwrap();
    purged(&bench, &messaging, "one").await;
    let held = next(&mut feedback).await;
    cable.cut();
    cable.mend();
    let again = next(&mut feedback).await;
    assert_eq!(ids(&again), ["one"], "what was not completed comes again");
    let error = within(held.complete()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    within(again.complete()).await.unwrap();
    purged(&bench, &messaging, "two").await;
    assert_eq!(ids(&next(&mut feedback).await), ["two"]);
}

#[tokio::test]
async fn feedback_goes_on_after_the_hub_was_restarted() {
    let state = tempfile::tempdir().unwrap();
    let first = LocalHub::builder().state_dir(state.path()).start().await.unwrap();
    let (https, amqps) = (first.https_port(), first.amqps_port());
    let registry =
        Registry::from_connection_string_with(&first.connection_string(), first.client_options()).unwrap();
    let messaging = registry.messaging();
    let mut feedback = within(messaging.feedback()).await.unwrap();
    let mut files = within(messaging.file_notifications()).await.unwrap();
    within(first.shutdown()).await;

    let builder = LocalHub::builder().state_dir(state.path()).https_port(https).amqps_port(amqps);
    let second = builder.start().await.unwrap();
    registry.create_device(DEVICE).await.unwrap();
    send(&messaging, CloudMessage::new("x").message_id("one").ack(DeliveryAck::Full)).await;
    within(registry.purge_message_queue(DEVICE)).await.unwrap();
    let batch = next(&mut feedback).await;
    assert_eq!(ids(&batch), ["one"]);
    within(batch.complete()).await.unwrap();
    second.hub().notify_upload(&uploaded());
    within(within(files.next()).await.unwrap().unwrap().complete()).await.unwrap();
}

fn uploaded() -> UploadedFile {
    UploadedFile {
        device_id: DEVICE.to_owned(),
        blob_uri: "https://store.example.net/files/test-device/a.txt".to_owned(),
        blob_name: "test-device/a.txt".to_owned(),
        last_updated: SystemTime::now(),
        size: 1234,
    }
}

#[tokio::test]
async fn uploaded_files_are_told_of() {
    let bench = Bench::start().await;
    let messaging = bench.registry.messaging();
    let mut files = within(messaging.file_notifications()).await.unwrap();
    bench.hub.hub().notify_upload(&uploaded());
    let file = within(files.next()).await.unwrap().unwrap();
    assert_eq!((file.device_id.as_str(), file.blob_size), (DEVICE, 1234));
    assert_eq!(file.blob_name, "test-device/a.txt");
    assert_eq!(file.blob_uri, "https://store.example.net/files/test-device/a.txt");
    assert!(file.last_updated_time.as_ref().unwrap().time().is_some());
    within(file.abandon()).await.unwrap();
    let file = within(files.next()).await.unwrap().unwrap();
    within(file.complete()).await.unwrap();
}

#[tokio::test]
async fn messages_sent_while_the_hub_is_away_arrive_when_it_is_back() {
    let bench = Bench::start().await;
    let (_client, mut messages) = device(&bench).await;
    let (registry, cable) = cabled(&bench).await;
    let messaging = registry.messaging();
    send(&messaging, CloudMessage::new("0")).await;
    cable.cut();
    let sends = join_all((1..=5).map(|n| messaging.send_to_device(DEVICE, CloudMessage::new(n.to_string()))));
    let mend = async {
        tokio::task::yield_now().await;
        cable.mend();
    };
    let (results, ()) = within(futures_util::future::join(sends, mend)).await;
    // One that was handed over before the loss was noticed says so; none is sent twice.
    let mut expected = vec!["0".to_owned()];
    for (n, result) in (1..).zip(results) {
        match result {
            Ok(_) => expected.push(n.to_string()),
            Err(error) => assert!(error.may_have_been_applied(), "{error:?}"),
        }
    }
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let message = within(messages.next()).await.unwrap();
        received.push(String::from_utf8(message.body().to_vec()).unwrap());
        within(message.complete()).await.unwrap();
    }
    assert_eq!(received, expected);
}

#[tokio::test]
async fn calls_and_streams_say_when_the_key_does_not_suffice() {
    let bench = Bench::start().await;
    let wrong = "bm90IHRoZSByaWdodCBrZXk=";
    let string = bench.hub.connection_string();
    let (start, _) = string.split_once(";SharedAccessKey=").unwrap();
    let string = format!("{start};SharedAccessKey={wrong}");
    let registry = Registry::from_connection_string_with(&string, bench.options()).unwrap();
    let messaging = registry.messaging();
    let error = within(messaging.send_to_device(DEVICE, CloudMessage::new("x"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(within(messaging.feedback()).await.unwrap_err().kind(), ErrorKind::Unauthorized);

    // A policy that may read identities only.
    let key = bench.hub.hub().policy("registryRead").unwrap().primary.to_base64();
    let host = bench.registry.host_name();
    let string = format!("HostName={host};SharedAccessKeyName=registryRead;SharedAccessKey={}", key.reveal());
    let registry = Registry::from_connection_string_with(&string, bench.options()).unwrap();
    let error =
        within(registry.messaging().send_to_device(DEVICE, CloudMessage::new("x"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(within(registry.messaging().feedback()).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn calls_end_in_time_on_a_hub_that_is_not_there_or_says_nothing() {
    let bench = Bench::start().await;
    let registry = |port: u16, limit: Duration, retry: RetryPolicy| {
        let options = ClientOptions { amqps_port: Some(port), ..bench.options() };
        let builder = Registry::builder(&bench.hub.connection_string()).unwrap();
        builder.options(options).call_timeout(limit).retry(retry).build().unwrap()
    };
    let minute = Duration::from_secs(60);
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let messaging = registry(unused, minute, RetryPolicy::default()).messaging();
    let error = within(messaging.send_to_device(DEVICE, CloudMessage::new("x"))).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_applied()), (ErrorKind::Connect, false));
    assert_eq!(within(messaging.feedback()).await.unwrap_err().kind(), ErrorKind::Connect);

    // Accepts and then says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let messaging = registry(port, Duration::from_millis(50), RetryPolicy::default()).messaging();
    let error = within(messaging.send_to_device(DEVICE, CloudMessage::new("x"))).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_applied()), (ErrorKind::Timeout, false));
    assert_eq!(within(messaging.file_notifications()).await.unwrap_err().kind(), ErrorKind::Timeout);
    within(messaging.close()).await;
}

#[tokio::test]
async fn close_ends_streams_and_calls_and_the_registry_opens_anew() {
    let bench = Bench::start().await;
    let messaging = bench.registry.messaging();
    let mut feedback = within(messaging.feedback()).await.unwrap();
    within(messaging.close()).await;
    within(messaging.close()).await;
    assert!(within(feedback.next()).await.is_none());
    let error = within(messaging.send_to_device(DEVICE, CloudMessage::new("x"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    send(&bench.registry.messaging(), CloudMessage::new("x")).await;
}

#[tokio::test]
async fn streams_end_with_a_reason_when_the_hub_says_no() {
    let bench = Bench::start().await;
    let string = bench.hub.connection_string();
    let token = {
        let parsed: iothub_common::ServiceConnectionString = string.parse().unwrap();
        let source = parsed.token_source().unwrap();
        source.token(SystemTime::now()).unwrap().secret
    };
    // A ready signature cannot be renewed: when it ends, everything does.
    let string = format!("HostName={};SharedAccessSignature={}", bench.registry.host_name(), token.reveal());
    let registry = Registry::from_connection_string_with(&string, bench.options()).unwrap();
    let messaging = registry.messaging();
    send(&messaging, CloudMessage::new("x")).await;
    let mut feedback = within(messaging.feedback()).await.unwrap();
    bench.hub.advance(Duration::from_secs(7200));
    let error = within(feedback.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(within(feedback.next()).await.is_none());
}

#[test]
fn handles_and_streams_may_be_dropped_outside_the_runtime_and_used_on_another() {
    let first = tokio::runtime::Runtime::new().unwrap();
    let second = tokio::runtime::Runtime::new().unwrap();
    let bench = second.block_on(Bench::start());
    let messaging = bench.registry.messaging();
    let feedback = first.block_on(async {
        send(&messaging, CloudMessage::new("x")).await;
        within(messaging.feedback()).await.unwrap()
    });
    drop(first);
    drop(feedback);
    second.block_on(send(&messaging, CloudMessage::new("x")));
    drop((messaging, bench));
    drop(second);
}
