//! Texts that are no queries: each is refused with its place, none does harm.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn errors_say_where() {
    let hub = hub().await;
    let start = "SQL query parse failed due to following errors: ";
    for (text, says) in [
        ("", "Line 1:1 Unexpected end at input ''"),
        ("DELETE", "Line 1:1 Unexpected character at input 'DELETE'"),
        ("SELECT", "Line 1:7 Unexpected end at input ''"),
        ("SELECT * FORM devices", "Line 1:10 Unexpected character at input 'FORM'"),
        ("SELECT * FROM device", "Line 1:15 Unexpected character at input 'device'"),
        ("SELECT * FROM devices.twins", "Line 1:23 Unexpected character at input 'twins'"),
        ("SELECT * FROM devices WHERE", "Line 1:28 Unexpected end at input ''"),
        ("SELECT * FROM devices WHERE SELECT", "Line 1:29 Unexpected character at input 'SELECT'"),
        ("SELECT *\nFROM devices\nWHERE tags.a == 1", "Line 3:15 Unexpected character at input '='"),
        ("SELECT * FROM devices WHERE tags.a = 'ü' 1", "Line 1:42 Unexpected character at input '1'"),
        ("SELECT * FROM devices WHERE tags.a = 'x", "Line 1:38 No closing quote at input ''x'"),
        ("SELECT * FROM devices WHERE tags.a = 'x\\q'", "Line 1:40 Unknown escape at input '\\q'"),
        ("SELECT * FROM devices WHERE tags.a = '\\ud83d'", "Line 1:39 Half a character"),
        ("SELECT * FROM devices WHERE tags.[[a = 1", "Line 1:34 No closing ']]'"),
        ("SELECT * FROM devices WHERE tags.a = 12abc", "Line 1:38 Not a number at input '12abc'"),
        ("SELECT * FROM devices WHERE tags.a = 0x", "Line 1:38 Not a number at input '0x'"),
        ("SELECT * FROM devices WHERE tags.a = 1e999", "Line 1:38 Not a number at input '1e999'"),
        ("SELECT * FROM devices WHERE tags.a = #", "Line 1:38 Unexpected character at input '#'"),
        ("SELECT * FROM devices WHERE tags.a = 1 = 1", "Line 1:40 Unexpected character at input '='"),
        ("SELECT * FROM devices WHERE (tags.a = 1", "Line 1:40 Unexpected end"),
        ("SELECT * FROM devices WHERE tags.a IN []", "Line 1:40 Unexpected character at input ']'"),
        ("SELECT * FROM devices WHERE tags.a IN ('x')", "Line 1:39 Unexpected character at input '('"),
        ("SELECT * FROM devices WHERE tags.a IN [tags.b]", "Line 1:40 Unexpected character at input 'tags'"),
        ("SELECT * FROM devices WHERE tags.group = 1", "Line 1:34 Unexpected character at input 'group'"),
        ("SELECT * FROM devices WHERE tags.1 = 1", "Line 1:34 Unexpected character at input '1'"),
        ("SELECT * FROM devices WHERE LOWER(tags.a) = 'x'", "Line 1:29 Unknown function at input 'LOWER'"),
        ("SELECT * FROM devices WHERE COUNT() > 1", "Line 1:29 Unknown function at input 'COUNT'"),
        ("SELECT * FROM devices WHERE IS_DEFINED('x')", "Line 1:40 Unexpected character at input ''x''"),
        ("SELECT * FROM devices WHERE IS_DEFINED()", "Line 1:40 Unexpected character at input ')'"),
        ("SELECT * FROM devices WHERE STARTSWITH('x')", "Line 1:43 Unexpected character at input ')'"),
        ("SELECT * FROM devices WHERE tags.a[0] = 1", "Line 1:35 Unexpected character at input '['"),
        ("SELECT * FROM devices; DROP", "Line 1:22 Unexpected character at input ';'"),
        // What the language has not.
        ("SELECT * FROM devices ORDER BY deviceId", "Line 1:23 Unexpected character at input 'ORDER'"),
        ("SELECT DISTINCT tags.a FROM devices", "Line 1:17 Unexpected character at input 'tags'"),
        ("SELECT * FROM devices JOIN x", "Line 1:23 Unexpected character at input 'JOIN'"),
        ("SELECT * FROM devices WHERE deviceId LIKE 'x%'", "Line 1:38 Unexpected character at input 'LIKE'"),
        ("SELECT *, deviceId FROM devices", "Line 1:9 Unexpected character at input ','"),
        ("SELECT TOP x * FROM devices", "Line 1:12 Unexpected character at input 'x'"),
        ("SELECT TOP 1.5 * FROM devices", "Line 1:12 Unexpected character at input '1.5'"),
        ("SELECT TOP -1 * FROM devices", "Line 1:12 Unexpected character at input '-'"),
        ("SELECT COUNT(tags.a) FROM devices", "Line 1:14 Unexpected character at input 'tags'"),
        ("SELECT SUM() FROM devices", "Line 1:12 Unexpected character at input ')'"),
        ("SELECT MEDIAN(tags.a) FROM devices", "Line 1:8 Unknown aggregate at input 'MEDIAN'"),
        // What does not go together.
        ("SELECT deviceId, COUNT() FROM devices", "Line 1:8 Path without aggregate"),
        ("SELECT tags.a FROM devices GROUP BY tags.b", "Line 1:8 Path without aggregate"),
        ("SELECT * FROM devices GROUP BY tags.a", "Line 1:8 Unexpected character at input '*'"),
        ("SELECT COUNT() FROM devices.modules GROUP BY tags.a", "Line 1:37 GROUP BY not supported"),
        ("SELECT jobId FROM devices.jobs", "Line 1:8 Projection not supported"),
        ("SELECT COUNT() FROM devices.jobs", "Line 1:8 Projection not supported"),
        (
            "SELECT * FROM devices.jobs WHERE tags.a = 1",
            "Line 1:34 Not a member of a device job at input 'tags'",
        ),
    ] {
        let text_of_error = error(&hub, text).await;
        let rest = text_of_error.strip_prefix(start).unwrap();
        assert!(rest.starts_with(says), "{text}: {rest}");
    }
}

/// As the real hub counted in a job's condition (twins.md 5.3).
#[test]
fn positions_in_conditions_count_the_query_around_them() {
    let error = Condition::parse("SELECT * FROM devices").unwrap_err();
    let expected =
        "SQL query parse failed due to following errors: Line 1:29 Unexpected character at input 'SELECT'";
    assert!(error.text.starts_with(expected), "{error}");
    assert!(Condition::parse("FROM devices.modules WHERE tags.a = 1").is_ok());
    for condition in ["", "1 = 1 GROUP BY tags.a", "FROM devices.modules", "tags.a = 1; x"] {
        let parsed = Condition::parse(condition);
        assert_eq!(parsed.is_ok(), condition == "FROM devices.modules", "{condition}");
    }
}

#[tokio::test]
async fn long_queries_are_refused() {
    let hub = hub().await;
    let query = |length: usize| {
        let start = "SELECT * FROM devices WHERE tags.a = '";
        format!("{start}{}'", "ü".repeat(length - start.len() - 1))
    };
    assert!(page(&hub, &query(8192)).await.is_ok());
    assert!(error(&hub, &query(8193)).await.contains("8193 characters"));
}

/// Nested as deep and as wide as 8192 characters allow.
#[tokio::test]
async fn nesting_has_an_end() {
    let hub = hub().await;
    let nested =
        |depth: usize| format!("SELECT * FROM devices WHERE {}1 = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(page(&hub, &nested(50)).await.unwrap().items.len(), 4);
    assert!(error(&hub, &nested(51)).await.contains("Too deeply nested"));
    for hostile in ["(", "NOT ", "- ", "[", "IS_NULL(", "tags.a IN [", "1 = ((", "[["] {
        let text = format!("SELECT * FROM devices WHERE {}", hostile.repeat(8000 / hostile.len()));
        error(&hub, &text).await;
    }
    for chain in ["1=1 OR ", "1=2 AND ", "1 + ", "1 * ", "tags.a.b.c = 1 OR "] {
        let text = format!("SELECT * FROM devices WHERE {}1=1", chain.repeat(8000 / chain.len()));
        assert!(page(&hub, &text).await.is_ok(), "{chain}");
    }
    let items = vec!["tags.a"; 1000].join(",");
    assert!(page(&hub, &format!("SELECT {items} FROM devices")).await.is_ok());
}

const WORDS: &[&str] = &[
    "SELECT",
    "*",
    "FROM",
    "devices",
    "devices.modules",
    "devices.jobs",
    "WHERE",
    "GROUP",
    "BY",
    "TOP",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "NIN",
    "(",
    ")",
    "[",
    "]",
    "[[",
    "]]",
    ",",
    ".",
    "=",
    "!=",
    "<>",
    "<",
    ">=",
    "+",
    "-",
    "/",
    "%",
    "tags.a",
    "deviceId",
    "properties.desired.$version",
    "COUNT()",
    "SUM(tags.a)",
    "IS_DEFINED(",
    "STARTSWITH(",
    "'x'",
    "\"y\"",
    "'",
    "\\",
    "0x1F",
    "1",
    "2.5",
    "1e3",
    "true",
    "null",
    "undefined",
    "ü",
    "😀",
    "\n",
    "\u{0}",
    ";",
];

proptest! {
    /// Whatever comes is parsed or refused; what is parsed runs.
    #[test]
    fn no_text_does_harm(text in "\\PC{0,60}") {
        run(&text);
        run(&format!("SELECT * FROM devices WHERE {text}"));
    }

    #[test]
    fn no_sequence_of_words_does_harm(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        let text = words.join(" ");
        run(&text);
        run(&format!("SELECT * FROM devices WHERE {text}"));
        run(&format!("SELECT {text} FROM devices GROUP BY tags.a"));
    }
}

fn run(text: &str) {
    let Ok(query) = Query::parse(text) else { return };
    let hub = Hub::new(HubConfig::default());
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    let rows = query.count(&hub.lock());
    assert!(rows <= 1, "{text}");
}
