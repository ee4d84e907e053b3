//! Queries: items, pages, tokens, and JSON as it was sent (rest.md 6).
#![allow(clippy::unwrap_used)]

mod support;

use futures_util::{StreamExt, TryStreamExt};
use iothub_service::{ErrorKind, ItemType, Page, RawJson, Twin};
use serde::Deserialize;
use serde_json::json;
use support::{FakeHub, Step, json, refusal, twin};

const SQL: &str = "SELECT * FROM devices";

fn page(headers: &'static [(&'static str, &'static str)], body: impl ToString) -> Step {
    Step::Answer(200, headers, body.to_string())
}

#[tokio::test]
async fn raw_items_are_the_text_that_the_hub_sent() {
    let items = [
        r#"{"z":1,"a":{"n":123456789012345678901234567890,"f":1.50,"date":"2023-01-31T10:37:08.4599400"}}"#,
        r#"{ "ü" : "\u00e9" }"#,
        "null",
    ];
    let hub = FakeHub::start([page(&[("x-ms-item-type", "Raw")], format!("[{}]", items.join(" , ")))]).await;
    let raw: Vec<RawJson> = hub.registry().query(SQL).try_collect().await.unwrap();
    assert_eq!(raw.iter().map(RawJson::as_str).collect::<Vec<_>>(), items);
    let request = hub.request();
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/devices/query?api-version=2021-04-12")
    );
    assert_eq!(request.body, r#"{"query":"SELECT * FROM devices"}"#);
    assert_eq!((request.header("x-ms-max-item-count"), request.header("x-ms-continuation")), (None, None));
}

#[tokio::test]
async fn items_come_from_page_after_page_in_order() {
    let hub = FakeHub::start([
        page(&[("x-ms-continuation", "t1"), ("x-ms-item-type", "Twin")], json!([twin("a"), twin("b")])),
        // A page may be empty and not the last.
        page(&[("x-ms-continuation", "t2")], "[]"),
        // An empty token is none: asking with it would begin anew.
        page(&[("x-ms-continuation", "")], json!([twin("c")])),
    ])
    .await;
    let twins = hub.registry().query(SQL).page_size(2).typed::<Twin>();
    let ids: Vec<_> = twins.map_ok(|twin| twin.device_id).try_collect().await.unwrap();
    assert_eq!(ids, ["a", "b", "c"]);
    let requests = hub.requests();
    let tokens: Vec<_> = requests.iter().map(|request| request.header("x-ms-continuation")).collect();
    assert_eq!(tokens, [None, Some("t1"), Some("t2")]);
    assert!(requests.iter().all(|request| request.header("x-ms-max-item-count") == Some("2")));
    assert!(requests.iter().all(|request| request.body == requests[0].body));
}

#[tokio::test]
async fn nothing_is_fetched_before_it_is_needed() {
    let hub = FakeHub::start([page(&[("x-ms-continuation", "t1")], "[1]"), page(&[], "[2]")]).await;
    let mut items = hub.registry().query(SQL).typed::<u8>();
    assert!(hub.requests().is_empty());
    assert_eq!(items.try_next().await.unwrap(), Some(1));
    assert_eq!(hub.requests().len(), 1);
    assert_eq!(items.try_next().await.unwrap(), Some(2));
    assert_eq!(items.try_next().await.unwrap(), None);
    assert_eq!(items.try_next().await.unwrap(), None);
    assert_eq!(hub.requests().len(), 2);
}

#[tokio::test]
async fn pages_have_tokens_that_go_on_elsewhere() {
    let hub = FakeHub::start([
        page(&[("x-ms-continuation", "t1"), ("x-ms-item-type", "Raw")], r#"[{"n":1}]"#),
        page(&[("x-ms-item-type", "raw")], r#"[{"n":2}]"#),
    ])
    .await;
    #[derive(Debug, Deserialize)]
    struct Row {
        n: u8,
    }
    let first: Page<Row> = hub.registry().query(SQL).typed().pages().next().await.unwrap().unwrap();
    assert_eq!((first.items[0].n, first.item_type, first.token.as_deref()), (1, ItemType::Raw, Some("t1")));

    let mut rest = hub.registry().query(SQL).typed::<Row>().from_token(first.token.unwrap()).pages();
    let last = rest.next().await.unwrap().unwrap();
    assert_eq!((last.items[0].n, last.token), (2, None));
    assert!(rest.next().await.is_none());
    assert_eq!(hub.requests()[1].header("x-ms-continuation"), Some("t1"));
}

#[tokio::test]
async fn what_the_hub_does_not_understand_comes_in_its_own_words() {
    let text =
        "SQL query parse failed due to following errors: Line 1:29 Unexpected character at input 'SELECT'";
    let hub = FakeHub::start([refusal(400, "ArgumentInvalid", text)]).await;
    let items: Vec<_> = hub.registry().query("SELEKT").collect().await;
    assert_eq!(items.len(), 1);
    let error = items[0].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::InvalidInput, Some("ArgumentInvalid")));
    assert!(error.to_string().contains("Line 1:29"), "{error}");
}

#[tokio::test]
async fn an_error_is_the_last_item() {
    let hub = FakeHub::start([
        page(&[("x-ms-continuation", "t1")], "[1]"),
        refusal(401, "IotHubUnauthorizedAccess", "Unauthorized"),
    ])
    .await;
    let items: Vec<_> = hub.registry().query(SQL).typed::<u8>().collect().await;
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].as_ref().unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn an_item_that_does_not_fit_costs_only_itself() {
    let hub = FakeHub::start([page(&[], r#"[1,"two",3]"#)]).await;
    let items: Vec<_> = hub.registry().query(SQL).typed::<u8>().collect().await;
    assert_eq!(items.len(), 3);
    assert_eq!((items[0].as_ref().unwrap(), items[2].as_ref().unwrap()), (&1, &3));
    assert_eq!(items[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_page_is_fetched_again_after_whatever_passes() {
    let hub = FakeHub::start([
        refusal(429, "ThrottlingException", "x"),
        Step::Close,
        refusal(503, "ServiceUnavailable", "x"),
        page(&[], "[1]"),
    ])
    .await;
    let items: Vec<u8> = hub.registry().query(SQL).typed::<u8>().try_collect().await.unwrap();
    assert_eq!(items, [1]);
}

#[tokio::test]
async fn answers_that_never_end_or_are_no_pages_are_protocol_errors() {
    let endless = || page(&[("x-ms-continuation", "t")], "[]");
    for steps in [vec![endless(), endless(), endless()], vec![json(200, "{}")], vec![json(200, "")]] {
        let hub = FakeHub::start(steps).await;
        let items: Vec<_> = hub.registry().query(SQL).collect().await;
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn bad_page_sizes_and_tokens_are_refused_before_anything_is_sent() {
    let hub = FakeHub::start([]).await;
    let registry = hub.registry();
    for query in [registry.query(SQL).page_size(0), registry.query(SQL).from_token("a\r\nb")] {
        let items: Vec<_> = query.collect().await;
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(hub.requests().is_empty());
}
