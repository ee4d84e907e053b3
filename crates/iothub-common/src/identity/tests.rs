#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Plain id, escaped id. Written by hand from RFC 3986.
const ESCAPES: &[(&str, &str)] = &[
    ("myFirstDevice", "myFirstDevice"),
    ("a-b.c_d", "a-b.c_d"),
    ("$edgeHub", "%24edgeHub"),
    ("dev+1", "dev%2B1"),
    ("dev%2b", "dev%252b"),
    ("50%", "50%25"),
    ("a:b", "a%3Ab"),
    ("x#y?z", "x%23y%3Fz"),
    ("d@1", "d%401"),
    ("*!(),=;'", "%2A%21%28%29%2C%3D%3B%27"),
];

#[test]
fn ids_escape_and_come_back() {
    for (id, escaped) in ESCAPES {
        check_id(id, "device id").unwrap();
        assert_eq!(escape_id(id), *escaped);
        assert_eq!(unescape_id(escaped).unwrap(), *id);
    }
}

#[test]
fn ids_in_paths_and_addresses_are_escaped_one_by_one() {
    for (id, escaped) in ESCAPES {
        let device = Identity::device(*id).unwrap();
        assert_eq!(device.http_path("devices"), format!("/devices/{escaped}"));
        assert_eq!(device.amqp_path("twin"), format!("/devices/{escaped}/twin"));
        let module = Identity::module("d", *id).unwrap();
        assert_eq!(module.http_path("twins"), format!("/twins/d/modules/{escaped}"));
        assert_eq!(
            module.amqp_path("/messages/events"),
            format!("/devices/d/modules/{escaped}/messages/events")
        );
    }
}

#[test]
fn resources_are_plain_and_audiences_escaped_as_a_whole() {
    let device = Identity::device("d@1").unwrap();
    assert_eq!(device.resource_uri("localhost"), "localhost/devices/d@1");
    // rest.md 1.4 has this one from the wire.
    assert_eq!(device.audience("localhost"), "localhost%2Fdevices%2Fd%401");
    let module = Identity::module("dev%2b", "$edgeHub").unwrap();
    assert_eq!(module.resource_uri("h.example.net"), "h.example.net/devices/dev%2b/modules/$edgeHub");
    assert_eq!(module.audience("h.example.net"), "h.example.net%2Fdevices%2Fdev%252b%2Fmodules%2F%24edgeHub");
}

#[test]
fn unescaped_text_from_other_sdks_survives() {
    for (text, plain) in
        [("dev+1", "dev+1"), ("50%", "50%"), ("%zz", "%zz"), ("dev@1", "dev@1"), ("%2", "%2")]
    {
        assert_eq!(unescape_id(text).unwrap(), plain);
    }
    assert_eq!(unescape_id("a%FFb").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn bad_ids_are_refused_by_name() {
    let long = "x".repeat(129);
    for (id, says) in [
        ("", "empty"),
        ("my device", "' '"),
        ("a/b", "'/'"),
        ("a\\b", "'\\\\'"),
        ("a\nb", "'\\n'"),
        ("gerät", "'ä'"),
        ("a~b", "'~'"),
        (long.as_str(), "129 characters"),
        (".", "`.`"),
        ("..", "`..`"),
    ] {
        let error = Identity::module("d", id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains("module id") && text.contains(says), "{id:?}: {text}");
        assert!(Identity::device(id).unwrap_err().to_string().contains("device id"));
    }
    check_id(&"x".repeat(128), "device id").unwrap();
    check_id("...", "device id").unwrap();
}

#[test]
fn display_names_both() {
    assert_eq!(Identity::device("d").unwrap().to_string(), "d");
    assert_eq!(Identity::module("d", "m").unwrap().to_string(), "d/m");
}

proptest! {
    #[test]
    fn any_id_comes_back_from_every_place(id in r"[A-Za-z0-9:+%_#*?!(),=@;$'.-]{3,128}") {
        let identity = Identity::module(id.as_str(), id.as_str()).unwrap();
        let path = identity.amqp_path("twin");
        let segments: Vec<String> = path.split('/').map(|s| unescape_id(s).unwrap()).collect();
        prop_assert_eq!(segments, ["", "devices", id.as_str(), "modules", id.as_str(), "twin"]);
        prop_assert_eq!(unescape_id(&identity.audience("h")).unwrap(), identity.resource_uri("h"));
    }

    #[test]
    fn escaped_text_is_safe_and_comes_back(text in r"\PC*") {
        let escaped = escape_id(&text);
        prop_assert!(escaped.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        prop_assert_eq!(unescape_id(&escaped).unwrap(), text);
    }
}
