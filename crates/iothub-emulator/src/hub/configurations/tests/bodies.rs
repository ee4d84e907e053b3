//! What is accepted, and how it is shown.

use std::time::UNIX_EPOCH;

use super::*;
use crate::hub::timestamp::Timestamp;

#[test]
fn a_configuration_has_every_member_in_order() {
    let hub = hub();
    let body = json!({ "id": "conf", "schemaVersion": "1.0", "labels": { "app": "mine" }, "etag": "x",
        "content": { "deviceContent": { "properties.desired.x": 1 }, "moduleContent": null, "modulesContent": null } });
    let shown = hub.put_configuration("conf", &body, Precondition::None).unwrap();
    let names: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names.join(" "),
        "id schemaVersion labels content contentType targetCondition createdTimeUtc lastUpdatedTimeUtc priority \
         systemMetrics metrics etag"
    );
    assert_eq!(shown["content"], json!({ "deviceContent": { "properties.desired.x": 1 } }));
    assert_eq!((&shown["labels"], &shown["priority"]), (&json!({ "app": "mine" }), &json!(0)));
    assert_eq!((&shown["etag"], &shown["targetCondition"]), (&json!("MQ=="), &json!("")));
    assert_eq!(hub.get_configuration("conf").unwrap(), shown);
    assert_eq!(hub.list_configurations(0), [shown]);
}

#[test]
fn updates_follow_the_headers_and_keep_the_content() {
    let hub = hub();
    let first = put(&hub, "conf", 1, "*", json!({ "properties.desired.x": 1 }));
    let if_match = |etag: &Value| Precondition::IfMatch(Some(etag.as_str().unwrap().to_owned()));
    assert_eq!(code(hub.put_configuration("conf", &first, Precondition::None)), 409_401);
    assert_eq!(code(hub.put_configuration("conf", &first, if_match(&json!("abc")))), 412_001);
    assert_eq!(code(hub.put_configuration("other", &json!({ "content": first["content"] }), ANY)), 404_301);
    let mut changed = first.clone();
    changed["labels"] = json!({ "a": "b" });
    changed["targetCondition"] = json!("tags.color = 'blue'");
    changed["priority"] = json!(7);
    let second = hub.put_configuration("conf", &changed, if_match(&first["etag"])).unwrap();
    assert_ne!(second["etag"], first["etag"]);
    assert_eq!(second["createdTimeUtc"], first["createdTimeUtc"]);
    assert_eq!((desired(&hub, "a"), desired(&hub, "c")), (json!({}), json!({ "x": 1 })));
    assert_eq!(code(hub.put_configuration("conf", &changed, if_match(&first["etag"]))), 412_001);
    changed["content"] = json!({ "deviceContent": { "properties.desired.x": 2 } });
    assert_eq!(code(hub.put_configuration("conf", &changed, ANY)), 400_403);
    assert!(
        hub.put_configuration("conf", &json!({ "priority": 1 }), ANY).is_ok(),
        "the content may be left out"
    );
    assert_eq!(code(hub.delete_configuration("conf", if_match(&first["etag"]))), 412_001);
    hub.delete_configuration("conf", ANY).unwrap();
    assert_eq!(code(hub.get_configuration("conf")), 404_301);
    assert_eq!(code(hub.delete_configuration("conf", ANY)), 404_301);
}

#[test]
fn bodies_and_ids_are_checked() {
    let hub = hub();
    let good = json!({ "properties.desired.x": 1 });
    let device = |content: Value| json!({ "content": { "deviceContent": content } });
    let with = |name: &str, value: Value| {
        let mut body = device(good.clone());
        body[name] = value;
        body
    };
    let long = "i".repeat(129);
    let big: serde_json::Map<_, _> = (0..9).map(|n| (format!("k{n}"), json!("v".repeat(4000)))).collect();
    let queries = |count: usize| {
        let query = |n| (format!("q{n}"), json!("SELECT * FROM devices"));
        json!({ "queries": (0..count).map(query).collect::<serde_json::Map<_, _>>() })
    };
    for (id, body, expected) in [
        ("Upper", device(good.clone()), 400_004),
        ("a b", device(good.clone()), 400_004),
        ("a/b", device(good.clone()), 400_004),
        ("", device(good.clone()), 400_004),
        (long.as_str(), device(good.clone()), 400_004),
        ("x", with("id", json!("y")), 400_004),
        ("x", json!(null), 400_005),
        ("x", json!([]), 400_004),
        ("x", json!({}), 400_402),
        ("x", json!({ "content": {} }), 400_402),
        ("x", json!({ "content": { "deviceContent": good, "moduleContent": good } }), 400_402),
        ("x", json!({ "content": { "content": good } }), 400_402),
        ("x", device(json!({ "tags.x": 1 })), 400_402),
        ("x", device(json!({ "properties.desiredx": 1 })), 400_402),
        ("x", device(json!({ "properties.reported.x": 1 })), 400_402),
        ("x", device(json!({ "properties.desired": 1 })), 400_402),
        ("x", device(json!({ "properties.desired.a b": 1 })), 400_402),
        ("x", device(json!({ "properties.desired.a": { "$b": 1 } })), 400_402),
        ("x", device(json!({ "properties.desired": big })), 400_402),
        ("x", with("targetCondition", json!("tags.x = ")), 400_401),
        ("x", with("targetCondition", json!("FROM devices.modules WHERE tags.x = 1")), 400_401),
        ("x", with("targetCondition", json!(5)), 400_004),
        ("x", with("priority", json!(-1)), 400_004),
        ("x", with("priority", json!("1")), 400_004),
        ("x", with("labels", json!({ "a": 1 })), 400_004),
        ("x", with("metrics", queries(6)), 400_404),
        ("x", with("metrics", json!({ "queries": { "q": "SELECT" } })), 400_404),
    ] {
        assert_eq!(code(hub.put_configuration(id, &body, Precondition::None)), expected, "{id} {body:.200}");
    }
    assert_eq!(hub.list_configurations(100), Vec::<Value>::new());
    assert!(hub.put_configuration("x-1.y_%", &with("metrics", queries(5)), Precondition::None).is_ok());
}

#[test]
fn a_hub_has_a_hundred_at_most() {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    for number in 0..100 {
        put(&hub, &format!("c{number:02}"), 1, "", json!({ "properties.desired.x": 1 }));
    }
    let body = json!({ "content": { "deviceContent": { "properties.desired.x": 1 } } });
    let error = hub.put_configuration("one-more", &body, Precondition::None).unwrap_err();
    assert_eq!((error.status, error.code), (413, 413_101));
    assert_eq!(error.text, "Number of deployments exceed the maximum quota 100 for this IotHub.");
    assert_eq!(hub.list_configurations(3).len(), 3);
    assert_eq!(hub.list_configurations(1000).len(), 100);
}

/// Settings that do not fit stay away until there is room.
#[test]
fn a_full_twin_is_targeted_only() {
    let hub = hub();
    let identity = Identity::device("a").unwrap();
    let full: serde_json::Map<_, _> = (0..8).map(|n| (format!("k{n}"), json!("v".repeat(4090)))).collect();
    hub.patch_twin(&identity, &json!({ "properties": { "desired": full } }), Precondition::None).unwrap();
    put(&hub, "conf", 1, "deviceId = 'a'", json!({ "properties.desired.more": "v".repeat(100) }));
    assert_eq!(statuses(&hub, "a"), "conf Targeted");
    let results = hub.get_configuration("conf").unwrap()["systemMetrics"]["results"].clone();
    assert_eq!(results, json!({ "targetedCount": 1, "appliedCount": 0 }));
    hub.patch_twin(&identity, &json!({ "properties": { "desired": { "k0": null } } }), Precondition::None)
        .unwrap();
    run(&hub);
    assert_eq!(statuses(&hub, "a"), "conf Applied");
}

#[test]
fn queries_can_be_tested_before() {
    let hub = hub();
    let test = |condition: &str, metric: &str| {
        let body = json!({ "targetCondition": condition, "customMetricQueries": { "m": metric } });
        hub.test_configuration_queries(&body).unwrap()
    };
    let fine = json!({ "targetConditionError": null, "customMetricQueryErrors": {} });
    for condition in ["*", "", "tags.a = 1", "FROM devices.modules WHERE tags.a = 1"] {
        assert_eq!(test(condition, "SELECT * FROM devices"), fine, "{condition}");
    }
    let wrong = test("tags.a = ", "SELECT");
    assert!(wrong["targetConditionError"].as_str().unwrap().contains("Line 1:38"), "{wrong}");
    assert!(wrong["customMetricQueryErrors"]["m"].as_str().unwrap().contains("Line 1:7"), "{wrong}");
    assert_eq!(hub.test_configuration_queries(&json!({})).unwrap(), fine);
}

#[test]
fn content_is_applied_to_one_edge_device() {
    let hub = hub();
    hub.put_device("edge", &json!({ "capabilities": { "iotEdge": true } }), Precondition::None).unwrap();
    let agent = Identity::module("edge", "$edgeAgent").unwrap();
    let old = json!({ "tags": { "t": 1 }, "properties": { "desired": { "old": true } } });
    hub.patch_twin(&agent, &old, Precondition::None).unwrap();
    let content = json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": { "modules": { "filter": {}, "store": {} } } },
        "filter": { "properties.desired.limits": { "a": 1 }, "properties.desired": { "b": 2 } },
    } });
    hub.apply_configuration_content("edge", &content).unwrap();
    let ids: Vec<_> =
        hub.list_modules("edge").unwrap().iter().map(|module| module["moduleId"].clone()).collect();
    assert_eq!(ids, ["$edgeAgent", "$edgeHub", "filter", "store"]);
    assert_eq!(hub.get_module("edge", "filter").unwrap()["managedBy"], "iotEdge");
    let twin = hub.get_twin(&agent).unwrap();
    assert_eq!(twin["tags"], json!({ "t": 1 }));
    assert_eq!(twin["properties"]["desired"].get("old"), None);
    let filter = hub.get_twin(&Identity::module("edge", "filter").unwrap()).unwrap();
    let desired = &filter["properties"]["desired"];
    assert_eq!((&desired["b"], &desired["limits"]), (&json!(2), &json!({ "a": 1 })));

    assert_eq!(code(hub.apply_configuration_content("nobody", &content)), 404_001);
    let error = hub.apply_configuration_content("a", &content).unwrap_err();
    assert_eq!((error.status, hub.list_modules("a").unwrap().len()), (400, 1));
    for (body, expected) in [
        (json!({}), 400_402),
        (json!({ "modulesContent": { "m": 1 } }), 400_402),
        (json!({ "modulesContent": { "new": {}, "m": { "tags.x": 1 } } }), 400_402),
        (json!({ "modulesContent": { "new": {}, "bad id": {} } }), 400_402),
    ] {
        assert_eq!(code(hub.apply_configuration_content("edge", &body)), expected, "{body}");
    }
    let many: serde_json::Map<_, _> = (0..49).map(|n| (format!("n{n}"), json!({}))).collect();
    assert_eq!(code(hub.apply_configuration_content("edge", &json!({ "modulesContent": many }))), 413_003);
    assert_eq!(hub.list_modules("edge").unwrap().len(), 4, "nothing half-made");
}

#[test]
fn times_are_in_the_hubs_form() {
    let at: Timestamp = (UNIX_EPOCH + Duration::from_secs(1_700_000_000)).into();
    let body = json!({ "content": { "deviceContent": { "properties.desired.x": 1 } } });
    let shown = Configuration::create(&body, 1, at).unwrap().to_json("conf");
    assert_eq!(shown["createdTimeUtc"], "2023-11-14T22:13:20Z");
    assert_eq!(shown["lastUpdatedTimeUtc"], "2023-11-14T22:13:20Z");
}
