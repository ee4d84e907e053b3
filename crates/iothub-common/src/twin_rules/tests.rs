#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn broken(patch: Value) -> (Rule, String) {
    let violation = check_patch(Section::Reported, &patch).expect_err("a violation");
    (violation.rule, violation.path)
}

/// `{"l1":{"l2":…{"l{levels}":inner}…}}`
fn nested(levels: usize, inner: Value) -> Value {
    (1..=levels).rev().fold(inner, |value, level| json!({ format!("l{level}"): value }))
}

#[test]
fn what_the_hub_takes() {
    for patch in [
        json!({}),
        json!({"": 1}),
        json!({"firmwareVersion": "1.2.1", "weather": {"temperature": 72.5, "humidity": 17}}),
        json!({"remove": null, "in": {"an-object": null}}),
        json!({"list": [1, "two", [3], {"four": 5}], "date": "2023-01-31T10:37:08.4599400"}),
        json!({"least": -4_503_599_627_370_496_i64, "most": 4_503_599_627_370_495_i64}),
        json!({"double": 1e300, "large": 4_503_599_627_370_496.0}),
        json!({"k".repeat(1024): "v".repeat(4096)}),
        json!({"é".repeat(512): "é".repeat(2048)}),
        json!({"größe": "ok", "a-b_c:d/e@f": "tab\tand $.# in a value"}),
    ] {
        for section in [Section::Tags, Section::Desired, Section::Reported] {
            assert_eq!(check_patch(section, &patch), Ok(()), "{patch}");
        }
    }
}

#[test]
fn what_it_refuses_and_where() {
    use Rule::*;
    let long_key = "k".repeat(1025);
    for (patch, rule, path) in [
        (json!([]), NotAnObject, ""),
        (json!(null), NotAnObject, ""),
        (json!({"a.b": 1}), KeyCharacters, ".a.b"),
        (json!({"$version": 3}), KeyCharacters, ".$version"),
        (json!({"a": {"$x": 1}}), KeyCharacters, ".a.$x"),
        (json!({"a": {"b c": 1}}), KeyCharacters, ".a.b c"),
        (json!({"a#": 1}), KeyCharacters, ".a#"),
        (json!({"a\u{1}": 1}), KeyCharacters, ".a\u{1}"),
        (json!({"a\u{85}": 1}), KeyCharacters, ".a\u{85}"),
        // A key is bad even when it is only to be removed.
        (json!({"a.b": null}), KeyCharacters, ".a.b"),
        (json!({"l": [{"ok": 1}, {"not ok": 1}]}), KeyCharacters, ".l[1].not ok"),
        (json!({&long_key: 1}), KeyLength, &format!(".{long_key}")),
        (json!({"é".repeat(513): 1}), KeyLength, &format!(".{}", "é".repeat(513))),
        (json!({"a": "x".repeat(4097)}), StringLength, ".a"),
        (json!({"a": "é".repeat(2049)}), StringLength, ".a"),
        (json!({"l": ["x".repeat(4097)]}), StringLength, ".l[0]"),
        (json!({"a": 4_503_599_627_370_496_i64}), IntegerRange, ".a"),
        (json!({"a": -4_503_599_627_370_497_i64}), IntegerRange, ".a"),
        (json!({"a": u64::MAX}), IntegerRange, ".a"),
        (json!({"l": [1, null]}), NullInArray, ".l[1]"),
        (json!({"l": [{"a": {"b": null}}]}), NullInArray, ".l[0].a.b"),
        (json!({"l": [[null]]}), NullInArray, ".l[0][0]"),
    ] {
        assert_eq!(broken(patch), (rule, format!("properties.reported{path}")));
    }
}

/// twins.md 1.2: `one{...ten{property}}` passes, an 11th object fails, and arrays count as levels.
#[test]
fn ten_levels_and_no_more() {
    assert_eq!(check_patch(Section::Desired, &nested(11, json!("property"))), Ok(()));
    let (rule, path) = broken(nested(11, json!({})));
    assert_eq!(rule, Rule::Depth);
    assert!(path.ends_with(".l10.l11"), "{path}");

    assert_eq!(check_patch(Section::Desired, &nested(10, json!([1]))), Ok(()));
    assert_eq!(broken(nested(11, json!([]))).0, Rule::Depth);
    assert_eq!(broken(nested(10, json!([{}]))).0, Rule::Depth);
    assert_eq!(broken(nested(10, json!([[]]))).0, Rule::Depth);
}

#[test]
fn depth_without_end_ends() {
    // Beyond what the JSON parser lets through, and harmless to drop.
    let deep = (0..1000).fold(json!(1), |value, _| json!({ "a": value }));
    assert_eq!(broken(deep).0, Rule::Depth);
}

#[test]
fn the_first_violation_counts() {
    assert_eq!(broken(json!({"a": [null], "b.c": 1})).1, "properties.reported.a[0]");
}

#[test]
fn sections_start_the_path() {
    let patch = json!({"a": {"b.c": 1}});
    for (section, path) in [
        (Section::Tags, "tags.a.b.c"),
        (Section::Desired, "properties.desired.a.b.c"),
        (Section::Reported, "properties.reported.a.b.c"),
    ] {
        assert_eq!(check_patch(section, &patch).unwrap_err().path, path);
    }
}

/// The texts and numbers of twins.md 1.4.
#[test]
fn the_hubs_own_words() {
    let say = |patch: Value| {
        let violation = check_patch(Section::Reported, &patch).unwrap_err();
        (violation.status(), violation.error_code(), violation.hub_text())
    };
    assert_eq!(
        say(json!({"a": {"my key": 1}})),
        (400, 400_004, "Property or Tag name has invalid characters. Error in Property/Tag my key. Must not contain Control Characters, '.', '$', '#', or ' '.".to_owned())
    );
    assert_eq!(
        say(json!({"list": [null]})),
        (400, 400_004, "Value of Property or Tag cannot be null. Error inProperty/Tag list".to_owned())
    );
    let (status, code, text) = say(json!({"s": "x".repeat(5000)}));
    assert_eq!((status, code), (400, 400_004));
    assert!(
        text.starts_with("Property or Tag value should be maximum 4096 bytes. Error in Property/Tag s"),
        "{text}"
    );

    let large = json!({"a": "x".repeat(32768)});
    for (section, text) in [
        (Section::Reported, "'Properties.Reported' size should be less than 32768 bytes."),
        (Section::Desired, "'Properties.Desired' size should be less than 32768 bytes."),
        (Section::Tags, "'Tags' size should be less than 8192 bytes."),
    ] {
        let violation = check_size(section, &large).unwrap_err();
        assert_eq!(
            (violation.status(), violation.error_code(), violation.hub_text().as_str()),
            (403, 403_100, text)
        );
    }
}

#[test]
fn as_an_error_it_names_the_path_and_what_to_do() {
    for (patch, says) in [
        (json!({"a": {"my key": 1}}), "`properties.reported.a.my key` has ' ' in a key"),
        (json!({"a.b": 1}), "`properties.reported.a.b` has '.' in a key"),
        (json!({"$version": 1}), "`properties.reported.$version` has '$' in a key"),
        (json!({"a\u{7}": 1}), "`properties.reported.a\\u{7}` has '\\u{7}' in a key"),
        (json!({"k".repeat(2000): 1}), "has a key of 2000 bytes"),
        (json!({"n": u64::MAX}), "outside of -4503599627370496 to 4503599627370495"),
    ] {
        let error = Error::from(check_patch(Section::Reported, &patch).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let shown = error.to_string();
        assert!(shown.contains(says), "{shown}");
        assert!(shown.len() < 500, "{} bytes", shown.len());
    }
}

/// The three examples of twins.md 1.3, then what they leave open.
#[test]
fn sizes() {
    for (section, size) in [
        (json!({"a": "xy", "n": 5, "b": true, "o": {"k": "z"}}), 20),
        (json!({"é": "ü"}), 4),
        (json!({"l": [1, "ab"]}), 11),
        (json!({}), 0),
        (json!({"a\u{1}": "b\u{9f}c"}), 3),
        (json!({"$version": 7, "$metadata": {"$lastUpdated": "x"}, "a": 1}), 9),
        (json!({"l": [{"k": [true, 1.5]}]}), 14),
    ] {
        assert_eq!(section_size(&section), size, "{section}");
    }
}

#[test]
fn the_size_limit_itself_is_allowed() {
    let of_size = |bytes: usize| json!({"a": "x".repeat(bytes - 1)});
    assert_eq!(check_size(Section::Tags, &of_size(8192)), Ok(()));
    assert!(check_size(Section::Tags, &of_size(8193)).is_err());
    assert_eq!(check_size(Section::Desired, &of_size(32768)), Ok(()));
    assert!(check_size(Section::Reported, &of_size(32769)).is_err());
}
