//! Messages and feedback against a hub that does what real ones do now and then: gives no credit, loses connections in
//! the worst moment, refuses outcomes, sends nonsense.
#![allow(clippy::unwrap_used)]

mod amqp_hub;

use amqp_hub::{AmqpHub, Client, address, feedback, message_id, within};
use futures_util::future::join;
use iothub_amqp::amqp_error;
use iothub_amqp::proto::{LinkId, Outcome};
use iothub_amqp::types::definitions::ReceiverSettleMode;
use iothub_amqp::types::messaging::{Accepted, Rejected, Released};
use iothub_service::{CloudMessage, ErrorKind, FeedbackBatch, FeedbackStream, Messaging};

const FEEDBACK: &str = "/messages/serviceBound/feedback";
const CONTENT_TYPE: &str = "application/vnd.microsoft.iothub.feedback.json";
const RECORDS: &str = r#"[{"originalMessageId":"m-1","enqueuedTimeUtc":"2026-11-25T08:00:00Z","statusCode":"Success",
    "description":"Success","deviceId":"d","deviceGenerationId":"1","later":{"a":1}}]"#;

async fn send(messaging: &Messaging, id: &str) -> iothub_service::Result<String> {
    within(messaging.send_to_device("d", CloudMessage::new("x").message_id(id))).await
}

/// The connection for messages, and its link with credit.
async fn sender(hub: &AmqpHub, credit: u32) -> (Client, LinkId) {
    let mut client = hub.accept_authorized().await;
    let link = client.granted("/messages/devicebound").await;
    client.connection().grant(link, credit);
    (client, link)
}

#[tokio::test]
async fn the_token_is_for_the_hub_and_the_message_for_the_device() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (sent, ()) = join(send(&messaging, "m-1"), async {
        let (mut client, _) = sender(&hub, 1).await;
        assert!(client.tokens[0].starts_with("SharedAccessSignature sr=localhost&"), "{:?}", client.tokens);
        assert!(client.tokens[0].ends_with("&skn=service"));
        let (delivery, message) = client.message().await;
        assert_eq!(message_id(&message), "m-1");
        assert_eq!(message.properties.unwrap().to.unwrap(), "/devices/d/messages/devicebound");
        client.settle(&delivery, Accepted {}.into()).await;
    })
    .await;
    assert_eq!(sent.unwrap(), "m-1");
}

#[tokio::test]
async fn what_the_hub_has_is_not_sent_again_and_what_it_has_not_is() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (results, ()) = join(join(send(&messaging, "first"), send(&messaging, "second")), async {
        // Credit for one: the second is still with us when the connection goes.
        let (mut client, _) = sender(&hub, 1).await;
        let (_, message) = client.message().await;
        assert_eq!(message_id(&message), "first");
        client.cut().await;
        let (mut client, _) = sender(&hub, 10).await;
        let (delivery, message) = client.message().await;
        assert_eq!(message_id(&message), "second");
        client.settle(&delivery, Accepted {}.into()).await;
    })
    .await;
    let (first, second) = results;
    let error = first.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_applied()), (ErrorKind::Unavailable, true));
    assert_eq!(second.unwrap(), "second");
}

#[tokio::test]
async fn a_dropped_call_takes_its_message_back() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let mut dropped = Box::pin(send(&messaging, "dropped"));
    let (mut client, link) = tokio::select! {
        _ = &mut dropped => panic!("without credit"),
        client = sender(&hub, 0) => client,
    };
    drop(dropped);
    let (sent, ()) = join(send(&messaging, "kept"), async {
        client.connection().grant(link, 2);
        let (delivery, message) = client.message().await;
        assert_eq!(message_id(&message), "kept");
        client.settle(&delivery, Accepted {}.into()).await;
    })
    .await;
    sent.unwrap();
}

#[tokio::test]
async fn a_throttled_message_is_sent_again_and_a_refused_one_is_not() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let refuse = |condition| Rejected { error: Some(amqp_error(condition, "because")) };
    let (sent, client) = join(send(&messaging, "m-1"), async {
        let (mut client, _) = sender(&hub, 10).await;
        let (delivery, _) = client.message().await;
        client.settle(&delivery, refuse("com.microsoft:device-container-throttled").into()).await;
        let (delivery, _) = client.message().await;
        client.settle(&delivery, Released {}.into()).await;
        let (delivery, message) = client.message().await;
        assert_eq!(message_id(&message), "m-1");
        client.settle(&delivery, refuse("amqp:not-found").into()).await;
        client
    })
    .await;
    let error = sent.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_applied()), (ErrorKind::NotFound, false));
    assert!(error.to_string().contains("`d`"), "{error}");
    drop(client);
}

#[tokio::test]
async fn the_link_comes_back_alone() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (results, _client) = join(
        async {
            send(&messaging, "one").await.unwrap();
            send(&messaging, "two").await.unwrap();
        },
        async {
            let (mut client, link) = sender(&hub, 1).await;
            let (delivery, _) = client.message().await;
            client.settle(&delivery, Accepted {}.into()).await;
            client.detach(link, None).await;
            let link = client.granted("/messages/devicebound").await;
            client.connection().grant(link, 1);
            let (delivery, message) = client.message().await;
            assert_eq!(message_id(&message), "two");
            client.settle(&delivery, Accepted {}.into()).await;
            client
        },
    )
    .await;
    results
}

/// A stream of feedback, and the hub's end of its link.
async fn listen(hub: &AmqpHub, messaging: &Messaging) -> (FeedbackStream, Client, LinkId) {
    let (stream, (client, link)) = join(within(messaging.feedback()), async {
        let mut client = hub.accept_authorized().await;
        let (link, attach) = client.requested().await;
        assert_eq!(address(&attach), FEEDBACK);
        assert_eq!(attach.rcv_settle_mode, ReceiverSettleMode::Second);
        client.connection().hold_outcomes(link);
        client.grant(link).await;
        (client, link)
    })
    .await;
    (stream.unwrap(), client, link)
}

/// The next batch, which the hub sends when it has credit for it.
async fn batch(stream: &mut FeedbackStream, client: &mut Client, link: LinkId, token: u64) -> FeedbackBatch {
    let (batch, ()) = join(within(stream.next()), async {
        client.credit(link, 1).await;
        client.send(link, &feedback(CONTENT_TYPE, RECORDS), token).await;
    })
    .await;
    batch.unwrap().unwrap()
}

#[tokio::test]
async fn one_batch_is_asked_for_at_a_time_and_its_fields_are_kept() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (mut stream, mut client, link) = listen(&hub, &messaging).await;
    assert_eq!(client.connection().credit(link), 0, "nobody has asked yet");
    let batch = batch(&mut stream, &mut client, link, 1).await;
    assert_eq!(client.connection().credit(link), 0);
    let record = &batch.records[0];
    assert_eq!((record.original_message_id.as_str(), record.device_id.as_str()), ("m-1", "d"));
    assert_eq!(record.generation_id.as_deref(), Some("1"));
    assert_eq!(record.unknown.get("later"), Some(&serde_json::json!({ "a": 1 })));
}

#[tokio::test]
async fn completion_waits_for_the_hubs_word() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (mut stream, mut client, link) = listen(&hub, &messaging).await;

    let first = batch(&mut stream, &mut client, link, 1).await;
    let (completed, ()) = join(within(first.complete()), async {
        assert_eq!(client.outcome().await, (1, Outcome::Accepted));
        assert!(client.connection().settle(link, 1, Accepted {}.into()));
        client.flush().await;
    })
    .await;
    completed.unwrap();

    let second = batch(&mut stream, &mut client, link, 2).await;
    let (abandoned, ()) = join(within(second.abandon()), async {
        assert_eq!(client.outcome().await, (2, Outcome::Released));
        let error = Some(amqp_error("amqp:not-found", "the lock has ended"));
        assert!(client.connection().settle(link, 2, Rejected { error }.into()));
        client.flush().await;
    })
    .await;
    assert_eq!(abandoned.unwrap_err().kind(), ErrorKind::PreconditionFailed);

    drop(batch(&mut stream, &mut client, link, 3).await);
    assert_eq!(client.outcome().await, (3, Outcome::Released));

    let last = batch(&mut stream, &mut client, link, 4).await;
    let (completed, ()) = join(within(last.complete()), async {
        assert_eq!(client.outcome().await, (4, Outcome::Accepted));
        client.cut().await;
    })
    .await;
    let error = completed.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_applied()), (ErrorKind::Unavailable, true));
}

#[tokio::test]
async fn the_stream_asks_again_on_a_new_link_and_on_a_new_connection() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (mut stream, mut client, link) = listen(&hub, &messaging).await;
    let (got, ()) = join(within(stream.next()), async {
        client.credit(link, 1).await;
        client.detach(link, None).await;
        let link = client.granted(FEEDBACK).await;
        client.credit(link, 1).await;
        client.cut().await;
        let mut client = hub.accept_authorized().await;
        let link = client.granted(FEEDBACK).await;
        client.credit(link, 1).await;
        client.send(link, &feedback(CONTENT_TYPE, RECORDS), 1).await;
    })
    .await;
    assert_eq!(got.unwrap().unwrap().records.len(), 1);
}

#[tokio::test]
async fn nonsense_ends_the_stream_with_a_reason_and_does_not_come_again() {
    for (content_type, body, word) in [
        ("text/plain", RECORDS, "text/plain"),
        (CONTENT_TYPE, "{", CONTENT_TYPE),
        (CONTENT_TYPE, "[{\"deviceId\":1}]", CONTENT_TYPE),
    ] {
        let hub = AmqpHub::start().await;
        let messaging = hub.registry().messaging();
        let (mut stream, mut client, link) = listen(&hub, &messaging).await;
        let (got, ()) = join(within(stream.next()), async {
            client.credit(link, 1).await;
            client.send(link, &feedback(content_type, body), 1).await;
            assert_eq!(client.outcome().await, (1, Outcome::Rejected(None)));
        })
        .await;
        let error = got.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(word), "{error}");
        assert!(within(stream.next()).await.is_none());
        assert_eq!(client.detached().await, link, "nobody reads any more");
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_takes_its_link_with_it() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let (stream, mut client, link) = listen(&hub, &messaging).await;
    drop(stream);
    assert_eq!(client.detached().await, link);
}

#[tokio::test]
async fn a_right_that_is_missing_ends_the_call_and_one_that_is_taken_away_the_stream() {
    let hub = AmqpHub::start().await;
    let messaging = hub.registry().messaging();
    let refuse = || Some(amqp_error("amqp:unauthorized-access", "Token Invalid."));
    let (refused, mut client) = join(within(messaging.feedback()), async {
        let mut client = hub.accept_authorized().await;
        for _ in 0..2 {
            let (link, _) = client.requested().await;
            client.connection().refuse(link, refuse().unwrap());
            client.detached().await;
        }
        // Between the two the client has shown a token anew.
        assert_eq!(client.tokens.len(), 2);
        client
    })
    .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unauthorized);

    let (stream, link) = join(within(messaging.feedback()), client.granted(FEEDBACK)).await;
    let mut stream = stream.unwrap();
    let (ended, ()) = join(within(stream.next()), async {
        client.credit(link, 1).await;
        client.detach(link, refuse()).await;
        let link = client.granted(FEEDBACK).await;
        client.credit(link, 1).await;
        client.detach(link, refuse()).await;
    })
    .await;
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Unauthorized);
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() {
    let hub = AmqpHub::start().await;
    let registry = hub.registry();
    let messaging = registry.messaging();
    let (stream, client, _) = listen(&hub, &messaging).await;
    drop((registry, messaging));
    drop(stream);
    client.until_closed().await;
}

#[cfg(feature = "entra-id")]
mod entra {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
    use iothub_service::Registry;

    use super::*;

    #[derive(Debug)]
    struct Always;

    #[async_trait::async_trait]
    impl TokenCredential for Always {
        async fn get_token(
            &self,
            _: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
            Ok(AccessToken::new("header.payload.signature", in_an_hour.into()))
        }
    }

    #[tokio::test]
    async fn messages_go_with_a_bearer_token_and_events_want_a_key() {
        let hub = AmqpHub::start().await;
        let registry = Registry::with_token_credential("localhost", Arc::new(Always), hub.options()).unwrap();
        let messaging = registry.messaging();
        let (sent, client) = join(send(&messaging, "m-1"), async {
            let (mut client, _) = sender(&hub, 1).await;
            let (delivery, _) = client.message().await;
            client.settle(&delivery, Accepted {}.into()).await;
            client
        })
        .await;
        sent.unwrap();
        assert_eq!(client.tokens, ["Bearer header.payload.signature"]);
        assert_eq!(client.token_types, ["Bearer"]);
        let error = within(registry.events().stream()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
