//! Reading events from a hub that does what real ones do now and then: redirects, loses connections and links, repeats
//! itself, begins its log anew.
#![allow(clippy::unwrap_used)]

mod amqp_hub;

use amqp_hub::{AmqpHub, Client, address, event, filter, within};
use futures_util::future::join;
use iothub_amqp::amqp_error;
use iothub_amqp::message::Message;
use iothub_amqp::proto::LinkId;
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::performatives::Attach;
use iothub_service::{ErrorKind, EventReaderBuilder, EventStream, StartPosition};

const PARTITION: &str = "the-entity/ConsumerGroups/$Default/Partitions/0";

fn after(number: i64) -> String {
    format!("amqp.annotation.x-opt-sequence-number > '{number}'")
}

/// Opens a stream from a position on a hub whose newest event has this number.
async fn open(
    hub: &AmqpHub,
    builder: EventReaderBuilder,
    start: StartPosition,
    newest: i64,
) -> (EventStream, Client, LinkId, Box<Attach>) {
    // Which partitions there are, and for "latest" where that is.
    let questions = if start == StartPosition::Latest { 2 } else { 1 };
    let builder = builder.start(start);
    let (stream, (client, link, attach)) = join(within(builder.stream()), async {
        hub.redirect().await;
        let mut client = hub.accept_authorized().await;
        client.answer_management(questions, newest).await;
        let (link, attach) = client.requested().await;
        client.grant(link).await;
        (client, link, attach)
    })
    .await;
    (stream.unwrap(), client, link, attach)
}

/// The connection after a loss: the client asks whether the log is the one it knows, then for the events after what it
/// has.
async fn reopened(hub: &AmqpHub, newest: i64) -> (Client, LinkId, String) {
    let mut client = hub.accept_authorized().await;
    client.answer_management(1, newest).await;
    let (link, attach) = client.requested().await;
    assert_eq!(address(&attach), PARTITION);
    client.grant(link).await;
    (client, link, filter(&attach))
}

async fn next(events: &mut EventStream) -> i64 {
    within(events.next()).await.unwrap().unwrap().sequence_number
}

async fn send(client: &mut Client, link: LinkId, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        client.send(link, &event(number), 1).await;
    }
}

#[tokio::test]
async fn the_redirect_is_followed_with_the_policy_of_the_hub() {
    let hub = AmqpHub::start().await;
    let registry = hub.registry();
    let (reader, (login, client)) = join(within(registry.events().connect()), async {
        let login = hub.redirect().await;
        let mut client = hub.accept_authorized().await;
        client.answer_management(1, 0).await;
        (login, client)
    })
    .await;
    assert!(reader.unwrap().partition_ids().eq(["0"]));
    assert!(
        login.starts_with("\0service@sas.root.localhost\0SharedAccessSignature sr=localhost&"),
        "{login}"
    );
    // The same key signs for the event hub.
    assert!(
        client.tokens[0].starts_with("SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Fthe-entity&"),
        "{:?}",
        client.tokens
    );
    assert!(client.tokens[0].ends_with("&skn=service"));
}

#[tokio::test]
async fn a_reader_says_where_it_begins_and_who_it_is() {
    let hub = AmqpHub::start().await;
    let builder = hub.registry().events().owner_level(7);
    let (_stream, mut client, link, attach) = open(&hub, builder, StartPosition::Earliest, 9).await;
    assert_eq!(address(&attach), PARTITION);
    assert_eq!(filter(&attach), "amqp.annotation.x-opt-offset > '-1'");
    assert!(attach.name.starts_with(&format!("{PARTITION}-")), "{}", attach.name);
    let properties = attach.properties.unwrap();
    assert_eq!(properties.get("com.microsoft:epoch"), Some(&Value::Long(7)));
    assert!(properties.get("com.microsoft:receiver-name").is_some());
    assert_eq!(client.connection().credit(link), 0, "nobody reads yet");

    let (.., attach) = open(&hub, hub.registry().events(), StartPosition::Earliest, 9).await;
    assert_eq!(attach.properties.unwrap().get("com.microsoft:epoch"), None);
}

#[tokio::test]
async fn credit_follows_the_reader() {
    let hub = AmqpHub::start().await;
    let builder = hub.registry().events().prefetch(4);
    let (mut events, mut client, link, _) = open(&hub, builder, StartPosition::Earliest, 9).await;
    let (first, ()) = join(next(&mut events), async {
        client.credit(link, 4).await;
        send(&mut client, link, 0..4).await;
    })
    .await;
    assert_eq!(first, 0);
    assert_eq!(client.connection().credit(link), 0, "three wait, one was taken");
    assert_eq!(next(&mut events).await, 1);
    client.accepted(4).await;
    client.credit(link, 2).await;
    assert_eq!(next(&mut events).await, 2);
    assert_eq!(next(&mut events).await, 3);
    client.credit(link, 4).await;
}

#[tokio::test]
async fn after_a_loss_events_go_on_where_they_stopped() {
    let hub = AmqpHub::start().await;
    let start = StartPosition::AtSequenceNumber(40);
    let (mut events, mut client, link, attach) = open(&hub, hub.registry().events(), start, 41).await;
    assert_eq!(filter(&attach), "amqp.annotation.x-opt-sequence-number >= '40'");
    let (first, ()) = join(next(&mut events), async {
        client.credit(link, 300).await;
        send(&mut client, link, 40..42).await;
    })
    .await;
    assert_eq!(first, 40);
    client.cut().await;
    // What has come in is not lost, and not asked for again.
    let (mut client, link, filter) = reopened(&hub, 41).await;
    assert_eq!(filter, after(41));
    client.credit(link, 299).await;
    // A hub that repeats itself is not believed.
    send(&mut client, link, [41, 42]).await;
    assert_eq!(next(&mut events).await, 41);
    assert_eq!(next(&mut events).await, 42);
}

#[tokio::test]
async fn latest_stays_the_moment_of_opening() {
    for (newest, expected) in [(41, after(41)), (-1, "amqp.annotation.x-opt-offset > '-1'".to_owned())] {
        let hub = AmqpHub::start().await;
        let (mut events, client, _, attach) =
            open(&hub, hub.registry().events(), StartPosition::Latest, newest).await;
        assert_eq!(filter(&attach), expected);
        client.cut().await;
        let (number, ()) = join(next(&mut events), async {
            // Meanwhile there are more; a partition that never had any needs no question.
            let mut client = hub.accept_authorized().await;
            if newest >= 0 {
                client.answer_management(1, newest + 5).await;
            }
            let (link, attach) = client.requested().await;
            assert_eq!(filter(&attach), expected);
            client.grant(link).await;
            client.credit(link, 300).await;
            send(&mut client, link, [newest + 1]).await;
        })
        .await;
        assert_eq!(number, newest + 1);
    }
}

#[tokio::test]
async fn a_link_comes_back_alone() {
    let hub = AmqpHub::start().await;
    let start = StartPosition::Earliest;
    let (mut events, mut client, link, _) = open(&hub, hub.registry().events(), start, 9).await;
    let (first, ()) = join(next(&mut events), async {
        client.credit(link, 300).await;
        send(&mut client, link, [5]).await;
    })
    .await;
    assert_eq!(first, 5);
    client.accepted(1).await;
    let mut link = link;
    for error in [None, Some(amqp_error("amqp:internal-error", "ouch"))] {
        client.detach(link, error).await;
        let (again, attach) = client.requested().await;
        assert_eq!(filter(&attach), after(5));
        client.grant(again).await;
        client.credit(again, 300).await;
        link = again;
    }
    send(&mut client, link, [6]).await;
    assert_eq!(next(&mut events).await, 6);
}

#[tokio::test]
async fn a_log_that_begins_anew_is_read_from_its_beginning() {
    let hub = AmqpHub::start().await;
    let (mut events, client, ..) = open(&hub, hub.registry().events(), StartPosition::Latest, 41).await;
    client.cut().await;
    let (number, client) = join(next(&mut events), async {
        let (mut client, link, filter) = reopened(&hub, 2).await;
        assert_eq!(filter, "amqp.annotation.x-opt-offset > '-1'");
        client.credit(link, 300).await;
        send(&mut client, link, [0]).await;
        client
    })
    .await;
    assert_eq!(number, 0);
    client.cut().await;
    let (_client, _, filter) = reopened(&hub, 2).await;
    assert_eq!(filter, after(0));
}

#[tokio::test]
async fn a_partition_that_was_taken_over_ends_the_stream() {
    let hub = AmqpHub::start().await;
    let (mut events, mut client, link, _) =
        open(&hub, hub.registry().events(), StartPosition::Latest, 0).await;
    let (ended, ()) = join(within(events.next()), async {
        client.credit(link, 300).await;
        client.detach(link, Some(amqp_error("amqp:link:stolen", "New receiver with higher epoch"))).await;
    })
    .await;
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.hub_code(), Some("amqp:link:stolen"));
    assert!(error.to_string().contains("partition `0`"), "{error}");
    assert!(within(events.next()).await.is_none());
}

#[tokio::test]
async fn an_event_without_a_number_ends_the_stream() {
    let hub = AmqpHub::start().await;
    let (mut events, mut client, link, _) =
        open(&hub, hub.registry().events(), StartPosition::Latest, 0).await;
    let (ended, ()) = join(within(events.next()), async {
        client.credit(link, 300).await;
        client.send(link, &Message::default(), 1).await;
    })
    .await;
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
    assert!(within(events.next()).await.is_none());
}

#[tokio::test]
async fn a_hub_that_does_not_redirect_says_why() {
    let hub = AmqpHub::start().await;
    let registry = hub.registry();
    for (condition, kind) in
        [("amqp:unauthorized-access", ErrorKind::Unauthorized), ("amqp:not-found", ErrorKind::NotFound)]
    {
        let (refused, ()) = join(within(registry.events().connect()), async {
            let mut client = hub.accept().await;
            let (link, _) = client.requested().await;
            client.connection().refuse(link, amqp_error(condition, "because"));
            client.until_closed().await;
        })
        .await;
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
}
