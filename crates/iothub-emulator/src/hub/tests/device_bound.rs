//! Cloud-to-device messages, their feedback, and what the hub does as time passes.

use bytes::Bytes;
use uuid::Uuid;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn message(id: &str, ack: Ack) -> Message {
    Message { message_id: Some(id.to_owned()), ack, body: Bytes::from_static(b"hello"), ..Message::default() }
}

fn receive(hub: &Hub, identity: &Identity) -> Locked<Message> {
    hub.receive(identity, Lane::Messages).unwrap().unwrap()
}

fn settle(hub: &Hub, identity: &Identity, lock: Uuid, verdict: Verdict) {
    hub.settle(identity, Lane::Messages, lock, verdict).unwrap();
}

/// Message ids and ends of the feedback there is, one list for each batch.
fn feedback(hub: &Hub) -> Vec<Vec<(String, String)>> {
    let mut batches = Vec::new();
    while let Some(locked) = hub.receive_notice(Inbox::Feedback) {
        let records: Value = serde_json::from_slice(&locked.item.body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let record = |record: &Value| {
            assert_eq!(record["statusCode"], record["description"]);
            (text(&record["originalMessageId"]), text(&record["statusCode"]))
        };
        batches.push(records.as_array().unwrap().iter().map(record).collect());
        hub.settle_notice(Inbox::Feedback, locked.lock, Verdict::Complete).unwrap();
    }
    batches
}

fn ends(batches: Vec<Vec<(String, String)>>) -> Vec<(String, String)> {
    batches.into_iter().flatten().collect()
}

/// A hub that sends feedback at once.
fn prompt_hub() -> (Hub, Identity) {
    let messaging = MessagingConfig { feedback_delay: Duration::ZERO, ..MessagingConfig::default() };
    let hub = Hub::new(HubConfig { messaging, ..HubConfig::new(HOST).unwrap() });
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    (hub, Identity::device("d").unwrap())
}

#[test]
fn the_51st_message_is_refused_until_one_is_gone() {
    let (hub, device, module) = hub_with_module();
    (0..50).for_each(|n| hub.send_to_device(&device, message(&n.to_string(), Ack::None)).unwrap());
    let refused = hub.send_to_device(&device, message("50", Ack::None)).unwrap_err();
    assert_eq!((refused.code, refused.name), (403_004, "DeviceMaximumQueueDepthExceeded"));
    hub.send_to_device(&module, message("m", Ack::None)).unwrap();
    let count = |json: Value| json["cloudToDeviceMessageCount"].as_u64();
    assert_eq!(count(hub.get_device("d").unwrap()), Some(50));
    assert_eq!(count(hub.get_twin(&module).unwrap()), Some(1));

    let locked = receive(&hub, &device);
    assert_eq!(locked.item.message_id.as_deref(), Some("0"));
    assert_eq!(hub.send_to_device(&device, message("50", Ack::None)).unwrap_err().code, 403_004, "locked");
    settle(&hub, &device, locked.lock, Verdict::Complete);
    hub.send_to_device(&device, message("50", Ack::None)).unwrap();
    assert_eq!(hub.purge_messages(&device).unwrap(), 50);
    assert_eq!(hub.purge_messages(&device).unwrap(), 0);
    assert_eq!(receive(&hub, &module).item.message_id.as_deref(), Some("m"));
}

#[test]
fn what_cannot_be_delivered_is_refused() {
    let (hub, device, _) = hub_with_module();
    let nobody = Identity::device("nobody").unwrap();
    assert_eq!(hub.send_to_device(&nobody, message("1", Ack::None)).unwrap_err().code, 404_001);
    let no_module = Identity::module("d", "nobody").unwrap();
    assert_eq!(hub.send_to_device(&no_module, message("1", Ack::None)).unwrap_err().code, 404_010);

    let sized = |size: usize| Message { body: vec![0; size].into(), ..Message::default() };
    hub.send_to_device(&device, sized(65_536)).unwrap();
    assert_eq!(hub.send_to_device(&device, sized(65_537)).unwrap_err().code, 413_001);

    let late = |after: Duration| Message { expires_at: Some(hub.now() + after), ..message("1", Ack::None) };
    hub.send_to_device(&device, late(47 * 3600 * SECOND)).unwrap();
    assert_eq!(hub.send_to_device(&device, late(49 * 3600 * SECOND)).unwrap_err().code, 400_004);
}

#[test]
fn every_end_has_its_record_for_who_asked() {
    let (hub, device) = prompt_hub();
    let abandon_all = |lock: Uuid| {
        settle(&hub, &device, lock, Verdict::Abandon);
        for count in 1..10 {
            let again = receive(&hub, &device);
            assert_eq!(again.delivery_count, count);
            settle(&hub, &device, again.lock, Verdict::Abandon);
        }
    };
    let end_it = |end: &str| match end {
        "Success" => settle(&hub, &device, receive(&hub, &device).lock, Verdict::Complete),
        "Rejected" => settle(&hub, &device, receive(&hub, &device).lock, Verdict::Reject),
        "DeliveryCountExceeded" => abandon_all(receive(&hub, &device).lock),
        "Purged" => assert_eq!(hub.purge_messages(&device).unwrap(), 1),
        _ => {
            hub.advance(3600 * SECOND);
            assert!(hub.receive(&device, Lane::Messages).unwrap().is_none());
        }
    };
    for (end, success) in [
        ("Success", true),
        ("Rejected", false),
        ("DeliveryCountExceeded", false),
        ("Purged", false),
        ("Expired", false),
    ] {
        for (ack, wanted) in
            [(Ack::None, false), (Ack::Positive, success), (Ack::Negative, !success), (Ack::Full, true)]
        {
            hub.send_to_device(&device, message("id", ack)).unwrap();
            end_it(end);
            let expected: Vec<_> = wanted.then(|| ("id".to_owned(), end.to_owned())).into_iter().collect();
            assert_eq!(ends(feedback(&hub)), expected, "{end} {ack:?}");
        }
    }
}

#[test]
fn feedback_names_the_device_and_its_generation() {
    let (hub, device) = prompt_hub();
    hub.send_to_device(&device, message("id", Ack::Full)).unwrap();
    settle(&hub, &device, receive(&hub, &device).lock, Verdict::Complete);
    let locked = hub.receive_notice(Inbox::Feedback).unwrap();
    let records: Value = serde_json::from_slice(&locked.item.body).unwrap();
    let record = &records[0];
    assert_eq!(record["deviceId"], "d");
    assert_eq!(record["deviceGenerationId"], hub.get_device("d").unwrap()["generationId"]);
    assert!(record["enqueuedTimeUtc"].as_str().unwrap().ends_with('Z'));
    // It is the caller's for a minute, then somebody else's.
    assert!(hub.receive_notice(Inbox::Feedback).is_none());
    hub.advance(60 * SECOND);
    let again = hub.receive_notice(Inbox::Feedback).unwrap();
    assert_eq!(again.item.body, locked.item.body);
    let lost = hub.settle_notice(Inbox::Feedback, locked.lock, Verdict::Complete).unwrap_err();
    assert_eq!(lost.code, 412_002);
    hub.settle_notice(Inbox::Feedback, again.lock, Verdict::Complete).unwrap();
}

#[test]
fn feedback_waits_for_64_records_or_15_seconds() {
    let (hub, device, _) = hub_with_module();
    let complete = |count: u32| {
        for n in 0..count {
            hub.send_to_device(&device, message(&n.to_string(), Ack::Full)).unwrap();
            settle(&hub, &device, receive(&hub, &device).lock, Verdict::Complete);
        }
    };
    complete(2);
    assert_eq!(feedback(&hub).len(), 0);
    hub.advance(14 * SECOND);
    complete(1);
    hub.advance(14 * SECOND);
    assert_eq!(feedback(&hub).len(), 0, "15 seconds after the last");
    hub.advance(SECOND);
    assert_eq!(feedback(&hub).iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    complete(65);
    assert_eq!(feedback(&hub).iter().map(Vec::len).collect::<Vec<_>>(), [64]);
    hub.advance(15 * SECOND);
    assert_eq!(feedback(&hub).iter().map(Vec::len).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_lock_that_ends_gives_the_message_back_and_a_late_word_is_refused() {
    let (hub, device) = prompt_hub();
    let connected = hub.connect(&device).unwrap();
    connected.claim(Claim::Messages);
    hub.send_to_device(&device, message("1", Ack::Full)).unwrap();
    assert_eq!(connected.try_recv(), Some(Push::Waiting(Lane::Messages)));
    let first = receive(&hub, &device);
    hub.tend();
    assert_eq!(connected.try_recv(), None);
    hub.advance(60 * SECOND);
    hub.tend();
    assert_eq!(connected.try_recv(), Some(Push::Waiting(Lane::Messages)));
    let late = hub.settle(&device, Lane::Messages, first.lock, Verdict::Complete).unwrap_err();
    assert_eq!((late.code, late.name), (412_002, "DeviceMessageLockLost"));
    let second = receive(&hub, &device);
    assert_eq!((second.delivery_count, second.sequence), (0, first.sequence));
    assert_eq!(second.enqueued_at, first.enqueued_at);
    settle(&hub, &device, second.lock, Verdict::Complete);
    assert_eq!(ends(feedback(&hub)), [("1".to_owned(), "Success".to_owned())]);
}

#[tokio::test]
async fn time_alone_expires_messages_and_sends_feedback() {
    let (hub, device, _) = hub_with_module();
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { hub.run().await }
    });
    let mut news = hub.news();
    let expires_at = Some(hub.now() + 100 * SECOND);
    hub.send_to_device(&device, Message { expires_at, ..message("1", Ack::Full) }).unwrap();
    hub.advance(100 * SECOND);
    // The record waits for others, until the clock says that it waited enough.
    loop {
        tokio::task::yield_now().await;
        hub.advance(15 * SECOND);
        if tokio::time::timeout(SECOND, news.changed()).await.is_ok() {
            break;
        }
    }
    assert_eq!(ends(feedback(&hub)), [("1".to_owned(), "Expired".to_owned())]);
    running.abort();
}

#[test]
fn who_claims_last_receives() {
    let (hub, device) = prompt_hub();
    hub.send_to_device(&device, message("1", Ack::None)).unwrap();
    let first = hub.connect(&device).unwrap();
    assert_eq!(first.try_recv(), None);
    first.claim(Claim::Messages);
    assert_eq!(first.try_recv(), Some(Push::Waiting(Lane::Messages)));
    first.claim(Claim::Messages);
    assert_eq!(first.try_recv(), Some(Push::Waiting(Lane::Messages)), "nobody displaces itself");

    let second = hub.connect(&device).unwrap();
    second.claim(Claim::Messages);
    assert_eq!(first.try_recv(), Some(Push::Displaced(Claim::Messages)));
    assert_eq!(second.try_recv(), Some(Push::Waiting(Lane::Messages)));
    hub.send_to_device(&device, message("2", Ack::None)).unwrap();
    assert_eq!((first.try_recv(), second.try_recv()), (None, Some(Push::Waiting(Lane::Messages))));
    second.give_up(Claim::Messages);
    hub.send_to_device(&device, message("3", Ack::None)).unwrap();
    assert_eq!(second.try_recv(), None);
}

#[test]
fn messages_belong_to_the_identity_not_to_its_name() {
    let (hub, device, module) = hub_with_module();
    hub.send_to_device(&device, message("1", Ack::None)).unwrap();
    hub.send_to_device(&module, message("1", Ack::None)).unwrap();
    let locked = receive(&hub, &device);
    hub.delete_device("d", Precondition::None).unwrap();
    assert_eq!(hub.receive(&device, Lane::Messages).unwrap_err().code, 404_001);
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    hub.put_module("d", "m", &json!({}), Precondition::None).unwrap();
    assert!(hub.receive(&device, Lane::Messages).unwrap().is_none());
    assert!(hub.receive(&module, Lane::Messages).unwrap().is_none());
    let lost = hub.settle(&device, Lane::Messages, locked.lock, Verdict::Complete).unwrap_err();
    assert_eq!(lost.code, 412_002);
}

#[test]
fn file_notifications_are_objects_in_a_queue_of_their_own() {
    let (hub, _, _) = hub_with_module();
    hub.notify_upload(&UploadedFile {
        device_id: "d".to_owned(),
        blob_uri: "https://blobs.example.net/c/d/a.txt".to_owned(),
        blob_name: "d/a.txt".to_owned(),
        last_updated: SystemTime::UNIX_EPOCH + 1_547_455_680 * SECOND,
        size: 5,
    });
    assert!(hub.receive_notice(Inbox::Feedback).is_none());
    let locked = hub.receive_notice(Inbox::FileNotifications).unwrap();
    let mut file: Value = serde_json::from_slice(&locked.item.body).unwrap();
    assert!(file["enqueuedTimeUtc"].take().is_string());
    assert_eq!(
        file,
        json!({
            "deviceId": "d",
            "blobUri": "https://blobs.example.net/c/d/a.txt",
            "blobName": "d/a.txt",
            "lastUpdatedTime": "2019-01-14T08:48:00Z",
            "blobSizeInBytes": 5,
            "enqueuedTimeUtc": null,
        })
    );
    hub.settle_notice(Inbox::FileNotifications, locked.lock, Verdict::Abandon).unwrap();
    let again = hub.receive_notice(Inbox::FileNotifications).unwrap();
    assert_eq!(again.delivery_count, 1);
}
