//! Runs the table in `vectors.md`.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::*;
use crate::hub::precondition::Precondition;

const TABLE: &str = include_str!("vectors.md");

#[test]
fn the_reference_table_holds() {
    let mut rows = 0;
    for line in TABLE.lines() {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [number, before, operation, after, told, _source] = cells[..]
            && number.parse::<u32>().is_ok()
        {
            check_row(&format!("row {number}"), before, operation, after, told);
            rows += 1;
        }
    }
    assert_eq!(rows, 38);
}

fn check_row(row: &str, before: &str, operation: &str, after: &str, told: &str) {
    let mut twin = before_state(before);
    let original = twin.clone();
    let outcome = run(&mut twin, operation);

    if let Some(error) = after.strip_prefix("= error ") {
        assert_error(row, outcome.unwrap_err(), error);
        assert_eq!(twin, original, "{row}: a refused update changed the twin");
        assert_eq!(told, "-", "{row}");
        return;
    }
    let notification = outcome.unwrap_or_else(|error| panic!("{row}: {error}"));
    if after == "=" {
        assert_eq!(twin, original, "{row}");
    } else {
        assert_eq!(shown(&twin), expected_after(&original, after), "{row}");
    }
    let expected = (told != "-").then(|| long_names(&json_in(told)).to_string());
    assert_eq!(notification.map(|n| String::from_utf8(n.body.to_vec()).unwrap()), expected, "{row}");
}

fn assert_error(row: &str, error: HubError, expected: &str) {
    let (code, kind) = expected.split_once(' ').unwrap_or((expected, ""));
    assert_eq!(error.code.to_string(), code, "{row}: {error}");
    let words = match kind {
        "name" => "name has invalid characters",
        "null-in-array" => "cannot be null",
        "int" => "4503599627370495",
        "" => "",
        other => panic!("{row}: unknown kind {other}"),
    };
    assert!(error.text.contains(words), "{row}: {error}");
}

/// `P d=`{…}` tags=`{…}` If-Match 1` and the like.
fn run(twin: &mut Twin, operation: &str) -> Result<Option<Notification>, HubError> {
    let (verb, rest) = operation.split_once(' ').unwrap();
    if let Some((_, counter)) = rest.split_once("If-Match ") {
        let counter: u64 = counter.parse().unwrap();
        Precondition::IfMatch(Some(STANDARD.encode(counter.to_be_bytes()))).check(&twin.etag())?;
    }
    match verb {
        "P" => twin.patch(&service_body(rest), time(9)),
        "U" => twin.replace(&service_body(rest), time(9)).map(Some),
        // What stands beside the body, the version annotation of row 38, does not reach the twin.
        "R" => twin.report(&json_in(rest), time(9)).map(|_| None),
        other => panic!("unknown operation {other}"),
    }
}

fn service_body(text: &str) -> Value {
    let mut body = Map::new();
    if let Some(tags) = section_in(text, "tags=") {
        body.insert("tags".to_owned(), tags);
    }
    if let Some(desired) = section_in(text, "d=") {
        let properties = Map::from_iter([("desired".to_owned(), desired)]);
        body.insert("properties".to_owned(), properties.into());
    }
    body.into()
}

/// A state by its letter, built from its line in the table and not by updates.
fn before_state(letter: &str) -> Twin {
    let line = TABLE.lines().find(|line| line.starts_with(&format!("- {letter}: "))).unwrap();
    let (numbers, _) = line[5..].split_once(' ').unwrap();
    let mut twin = Twin::fresh(time(0));
    twin.writes = numbers.split_once('/').unwrap().0.parse().unwrap();
    if let Some(desired) = section_in(line, "d=") {
        (twin.desired, twin.desired_version) = branch(&desired);
    }
    if let Some(reported) = section_in(line, "r=") {
        (twin.reported, twin.reported_version) = branch(&reported);
    }
    let wanted = format!("{numbers} {}", section_in(line, "d=").unwrap());
    assert_eq!(format!("{}/{} {}", twin.writes, twin.version(), short(&twin)), wanted, "{letter}");
    twin
}

/// The desired part in the short names of the table.
fn short(twin: &Twin) -> String {
    let text = twin.properties()["desired"].to_string();
    let text = text.replace("$metadata", "$m").replace("$version", "$v");
    let text = text.replace("$lastUpdatedVersion", "$n").replace("$lastUpdated", "$t");
    [0, 1, 9].iter().fold(text, |text, n| text.replace(&format!("{:?}", time(*n).for_twin()), &n.to_string()))
}

fn branch(section: &Value) -> (Branch, u64) {
    let mut values = section.as_object().unwrap().clone();
    let metadata = values.shift_remove("$m").unwrap();
    let version = values.shift_remove("$v").unwrap().as_u64().unwrap();
    (stored(&values, &metadata), version)
}

/// Goes through the stored form, where a branch is its stamp and its members.
fn stored(values: &Map<String, Value>, metadata: &Value) -> Branch {
    let mut branch = Branch::empty(&stamp(metadata));
    for (name, value) in values {
        let single = Map::from_iter([(name.clone(), value.clone())]);
        branch.merge(&single, &stamp(&metadata[name]));
        if let Value::Object(inner) = value {
            branch.put_branch(name, stored(inner, &metadata[name]));
        }
    }
    branch.touch(&stamp(metadata));
    branch
}

fn stamp(metadata: &Value) -> Stamp {
    Stamp::new(time(metadata["$t"].as_u64().unwrap()), metadata.get("$n").and_then(Value::as_u64))
}

fn expected_after(original: &Twin, after: &str) -> String {
    let (numbers, sections) = after.split_once(' ').unwrap();
    let shown_before = |name: &str| original.properties()[name].clone();
    let section = |name: &str, otherwise: Value| {
        section_in(sections, name).map_or(otherwise, |section| long_names(&section))
    };
    let tags = section("tags=", original.tags.values().into());
    let desired = section("d=", shown_before("desired"));
    let reported = section("r=", shown_before("reported"));
    format!("{numbers} tags={tags} d={desired} r={reported}")
}

fn shown(twin: &Twin) -> String {
    let properties = twin.properties();
    let tags = Value::Object(twin.tags.values());
    let (desired, reported) = (&properties["desired"], &properties["reported"]);
    format!("{}/{} tags={tags} d={desired} r={reported}", twin.writes, twin.version())
}

/// The table's short names spelled out.
fn long_names(value: &Value) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    let long = |(name, value): (&String, &Value)| match name.as_str() {
        "$m" => ("$metadata".to_owned(), long_names(value)),
        "$v" => ("$version".to_owned(), value.clone()),
        "$n" => ("$lastUpdatedVersion".to_owned(), value.clone()),
        "$t" => ("$lastUpdated".to_owned(), time(value.as_u64().unwrap()).for_twin().into()),
        _ => (name.clone(), long_names(value)),
    };
    members.iter().map(long).collect::<Map<_, _>>().into()
}

/// The JSON after ` name` (like ` d=`) in a cell.
fn section_in(text: &str, name: &str) -> Option<Value> {
    let marker = format!(" {name}`");
    let at = format!(" {text}").find(&marker)?;
    Some(json_in(&text[at + marker.len() - 2..]))
}

/// The JSON between the first two backticks.
fn json_in(text: &str) -> Value {
    let json = text.split('`').nth(1).unwrap();
    serde_json::from_str(json).unwrap()
}

fn time(number: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number)).into()
}
