//! Pages and their tokens (twins.md 5.2).

use super::*;

/// A hub with so many devices, `d0000` and on, every second with the tag `even`.
fn fleet(devices: usize) -> Hub {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    for number in 0..devices {
        let id = format!("d{number:04}");
        hub.put_device(&id, &json!({}), Precondition::None).unwrap();
        let tags = json!({ "tags": { "number": number, "even": number % 2 == 0 } });
        hub.patch_twin(&Identity::device(id).unwrap(), &tags, Precondition::None).unwrap();
    }
    hub
}

fn request(max_items: usize, continuation: Option<String>) -> PageRequest {
    PageRequest { max_items: Some(max_items), continuation }
}

/// The sizes of all pages, and the rows.
async fn all(hub: &Hub, text: &str, max_items: usize) -> (Vec<usize>, Vec<Value>) {
    let (mut sizes, mut items) = (Vec::new(), Vec::new());
    let mut continuation = None;
    loop {
        let page = hub.query(text, &request(max_items, continuation)).await.unwrap();
        sizes.push(page.items.len());
        items.extend(page.items);
        continuation = page.continuation;
        if continuation.is_none() {
            return (sizes, items);
        }
    }
}

#[tokio::test]
async fn every_row_comes_once_at_every_page_size() {
    let hub = fleet(250);
    let expected: Vec<_> = (0..250).map(|number| json!({ "number": number })).collect();
    for (max_items, sizes) in [
        (100, vec![100, 100, 50]),
        (1000, vec![100, 100, 50]),
        (0, vec![100, 100, 50]),
        (1, vec![1; 250]),
        (125, vec![100, 100, 50]),
        (50, vec![50; 5]),
    ] {
        assert_eq!(all(&hub, "SELECT tags.number FROM devices", max_items).await, (sizes, expected.clone()));
    }
}

/// Rows are looked at 500 at a time; the ends of those must not show.
#[tokio::test]
async fn sparse_matches_are_found_across_chunks() {
    let hub = fleet(1201);
    for (condition, expected) in [
        ("tags.number IN [0, 499, 500, 501, 999, 1000, 1200]", vec![0, 499, 500, 501, 999, 1000, 1200]),
        ("tags.number = 1200", vec![1200]),
        ("tags.number = 500", vec![500]),
        ("tags.number > 5000", vec![]),
    ] {
        let text = format!("SELECT tags.number FROM devices WHERE {condition}");
        for max_items in [1, 2, 100] {
            let (sizes, items) = all(&hub, &text, max_items).await;
            let numbers: Vec<_> = items.iter().map(|row| row["number"].as_u64().unwrap()).collect();
            assert_eq!(numbers, expected, "{condition}");
            assert_eq!(sizes.len(), expected.len().div_ceil(max_items).max(1), "{condition}");
        }
    }
    let count = rows(&hub, "SELECT COUNT() AS n FROM devices WHERE tags.even = true").await;
    assert_eq!(count, r#"[{"n":601}]"#);
}

/// No token after the last row, however it falls on the pages.
#[tokio::test]
async fn a_token_is_given_only_when_there_is_more() {
    let hub = fleet(4);
    for (text, max_items, pages) in [
        ("SELECT * FROM devices", 4, 1),
        ("SELECT * FROM devices", 3, 2),
        ("SELECT * FROM devices", 2, 2),
        ("SELECT * FROM devices WHERE tags.even = true", 1, 2),
        ("SELECT * FROM devices WHERE tags.number < 1", 1, 1),
        ("SELECT TOP 3 * FROM devices", 2, 2),
        ("SELECT TOP 2 * FROM devices", 2, 1),
        ("SELECT TOP 2 * FROM devices", 1, 2),
        ("SELECT TOP 9 * FROM devices", 2, 2),
        ("SELECT COUNT() FROM devices", 1, 1),
        ("SELECT tags.even FROM devices GROUP BY tags.even", 1, 2),
        ("SELECT tags.even FROM devices GROUP BY tags.even", 2, 1),
        ("SELECT TOP 1 tags.even FROM devices GROUP BY tags.even", 1, 1),
        ("SELECT * FROM devices.modules", 1, 1),
    ] {
        assert_eq!(all(&hub, text, max_items).await.0.len(), pages, "{text} by {max_items}");
    }
    assert_eq!(all(&hub, "SELECT TOP 3 * FROM devices", 2).await.1.len(), 3, "TOP is for all pages together");
}

#[tokio::test]
async fn groups_have_pages_too() {
    let hub = fleet(230);
    let text = "SELECT tags.number, COUNT() AS n FROM devices GROUP BY tags.number";
    for max_items in [7, 100] {
        let (sizes, items) = all(&hub, text, max_items).await;
        assert_eq!(sizes.len(), 230_usize.div_ceil(max_items));
        let mut numbers: Vec<_> = items.iter().map(|row| row["number"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..230).collect::<Vec<_>>());
        assert!(items.iter().all(|row| row["n"] == 1));
    }
}

/// A page of large twins has fewer rows than asked for, and none is left out.
#[tokio::test]
async fn pages_have_an_end_in_bytes_too() {
    let hub = fleet(80);
    // 16 keys and values of 1000 bytes in both sections, and the keys again in their metadata: 96 KB a twin.
    let desired: serde_json::Map<_, _> =
        (0..16).map(|n| (format!("{n:1000}").replace(' ', "k"), json!("v".repeat(1000)))).collect();
    let patch = json!({ "properties": { "desired": desired } });
    for number in 0..80 {
        let identity = Identity::device(format!("d{number:04}")).unwrap();
        hub.patch_twin(&identity, &patch, Precondition::None).unwrap();
        hub.report(&identity, &patch["properties"]["desired"]).unwrap();
    }
    let (sizes, items) = all(&hub, "SELECT * FROM devices", 100).await;
    assert!(sizes.len() > 1 && sizes[0] > 1, "{sizes:?}");
    let numbers: Vec<_> = items.iter().map(|twin| twin["tags"]["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..80).collect::<Vec<_>>());
}

/// Values too long for a header.
#[tokio::test]
async fn tokens_of_groups_are_short() {
    let hub = fleet(3);
    for number in 0..3 {
        let patch = json!({ "tags": { "long": format!("{}{number}", "ü".repeat(2000)) } });
        let identity = Identity::device(format!("d{number:04}")).unwrap();
        hub.patch_twin(&identity, &patch, Precondition::None).unwrap();
    }
    let text = "SELECT tags.long, COUNT() AS n FROM devices GROUP BY tags.long";
    let page = hub.query(text, &request(1, None)).await.unwrap();
    assert!(page.continuation.unwrap().len() < 1000);
    let (sizes, items) = all(&hub, text, 1).await;
    assert_eq!(sizes, [1, 1, 1]);
    assert!(items.iter().all(|row| row["n"] == 1));
}

#[tokio::test]
async fn modules_go_on_within_a_device() {
    let hub = fleet(3);
    for (device, module) in [("d0000", "a"), ("d0000", "b"), ("d0000", "c"), ("d0002", "a"), ("d0002", "b")] {
        hub.put_module(device, module, &json!({}), Precondition::None).unwrap();
    }
    let text = "SELECT deviceId, moduleId FROM devices.modules";
    let expected = all(&hub, text, 100).await.1;
    assert_eq!(expected.len(), 5);
    for max_items in 1..5 {
        assert_eq!(all(&hub, text, max_items).await.1, expected, "pages of {max_items}");
    }
}

/// A token says after which row to go on, so devices made or deleted meanwhile shift nothing.
#[tokio::test]
async fn tokens_survive_changes() {
    let hub = fleet(4);
    let text = "SELECT tags.number FROM devices";
    let first = hub.query(text, &request(2, None)).await.unwrap();
    hub.put_device("a-before-all", &json!({}), Precondition::None).unwrap();
    hub.put_device("d0001b", &json!({}), Precondition::None).unwrap();
    hub.delete_device("d0001", Precondition::None).unwrap();
    hub.delete_device("d0002", Precondition::None).unwrap();
    let second = hub.query(text, &request(2, first.continuation.clone())).await.unwrap();
    assert_eq!(second.items, [json!({}), json!({ "number": 3 })]);
    assert_eq!(second.continuation, None);
    // Again, as a client does that lost the answer.
    assert_eq!(hub.query(text, &request(2, first.continuation)).await.unwrap(), second);
}

#[tokio::test]
async fn a_token_is_for_its_query_only() {
    let hub = fleet(4);
    let first = hub.query("SELECT * FROM devices", &request(1, None)).await.unwrap();
    let token = first.continuation.unwrap();
    assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "safe in a header");
    for (text, token, says) in [
        ("SELECT * FROM devices WHERE 1 = 1", token.as_str(), "another query"),
        ("SELECT * FROM devices", "nonsense", "no token"),
        ("SELECT * FROM devices", "e30", "no token"),
        ("SELECT * FROM devices", "ü", "no token"),
        ("SELECT * FROM devices", &token[..token.len() / 2], "no token"),
    ] {
        let error = hub.query(text, &request(1, Some(token.to_owned()))).await.unwrap_err();
        assert_eq!(error.code, 400_004);
        assert!(error.text.contains(says), "{error}");
    }
}
