#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

/// Order, spacing, a number beyond 64 bits, digits at the end of a date, an escape: all would change in a
/// parsed copy.
const ODD: &str = r#"{"z":1, "a":123456789012345678901234567890,"d":"2023-01-31T10:37:08.4599400","f":1.0,"u":"\u00fc ü","$version":12}"#;

#[test]
fn json_is_kept_as_it_came() {
    let properties: Properties = ODD.parse().unwrap();
    assert_eq!(properties.as_str(), ODD);
    assert_eq!(properties.to_string(), ODD);
    assert_eq!(serde_json::to_string(&properties).unwrap(), ODD);
    assert_eq!(properties.version(), 12);
    let twin =
        TwinProperties::from_slice(format!(r#"{{"reported":{{}},"desired":{ODD}}}"#).as_bytes()).unwrap();
    assert_eq!(twin.to_string(), format!(r#"{{"desired":{ODD},"reported":{{}}}}"#));
    assert_eq!(serde_json::to_string(&twin).unwrap(), twin.to_string());
}

#[test]
fn versions() {
    for (json, version) in [
        (r#"{"$version":1}"#, 1),
        (r#"{"a":{"$version":9},"$version":2}"#, 2),
        (r#"{"a":{"$version":9}}"#, 0),
        (r#"{"$version":null}"#, 0),
        ("{}", 0),
    ] {
        assert_eq!(json.parse::<Properties>().unwrap().version(), version, "{json}");
    }
    assert_eq!((Properties::default().version(), Properties::default().as_str()), (0, "{}"));
}

#[test]
fn members_become_types() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Weather {
        temperature: f64,
        humidity: u8,
    }

    let properties: Properties =
        r#"{"weather":{"temperature":72.5,"humidity":17},"name":"x","gone":null,"big":18446744073709551615}"#
            .parse()
            .unwrap();
    assert_eq!(properties.get("weather").unwrap(), Some(Weather { temperature: 72.5, humidity: 17 }));
    assert_eq!(properties.get::<String>("name").unwrap().as_deref(), Some("x"));
    assert_eq!(properties.get("big").unwrap(), Some(u64::MAX));
    assert_eq!(properties.get::<String>("absent").unwrap(), None);
    assert_eq!(properties.get::<String>("gone").unwrap(), None);
    assert!(properties.contains("gone") && !properties.contains("absent"));
    assert_eq!(
        properties.to::<serde_json::Value>().unwrap()["weather"],
        json!({"temperature": 72.5, "humidity": 17})
    );
}

#[test]
fn a_type_that_does_not_fit_names_the_property() {
    let properties: Properties = r#"{"name":"x"}"#.parse().unwrap();
    let error = properties.get::<u32>("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`name`") && error.to_string().contains("u32"), "{error}");
    assert_eq!(properties.to::<Vec<u8>>().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_is_no_twin_is_refused() {
    for json in ["", "[]", "null", "1", r#""{}""#, "{", r#"{"a":}"#] {
        assert_eq!(json.parse::<Properties>().unwrap_err().kind(), ErrorKind::Protocol, "{json}");
    }
    for json in ["", "[]", r#"{"desired":[]}"#, r#"{"desired":null}"#] {
        assert_eq!(
            TwinProperties::from_slice(json.as_bytes()).unwrap_err().kind(),
            ErrorKind::Protocol,
            "{json}"
        );
    }
}

#[test]
fn missing_sections_are_empty_and_strangers_ignored() {
    let twin = TwinProperties::from_slice(br#"{"reported":{"$version":3},"other":1}"#).unwrap();
    assert_eq!((twin.desired.as_str(), twin.reported.version()), ("{}", 3));
}

#[test]
fn it_also_comes_from_a_parsed_value() {
    let twin: TwinProperties = serde_json::from_value(json!({"desired": {"a": 1, "$version": 4}})).unwrap();
    assert_eq!(twin.desired.version(), 4);
    assert_eq!(twin.desired.get("a").unwrap(), Some(1));
}

#[test]
fn deep_nesting_costs_no_stack() {
    let deep = format!(r#"{{"a":{}1{},"$version":5}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let properties: Properties = deep.parse().unwrap();
    assert_eq!(properties.version(), 5);
    assert!(properties.get::<serde_json::Value>("a").is_err());
}
