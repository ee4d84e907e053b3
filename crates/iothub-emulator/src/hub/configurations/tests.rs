//! Configurations through the hub's handle (twins.md 6.1).

#![allow(clippy::unwrap_used)]

use std::time::UNIX_EPOCH;

use iothub_common::Identity;

use super::*;
use crate::hub::timestamp::Timestamp;
use crate::hub::{HubConfig, Push};

/// Devices `a`, `b` and `c` with the tags red, red and blue; module `m` of `a` with the tag `kind` x.
fn hub() -> Hub {
    let hub = Hub::new(HubConfig::new("h.example").unwrap());
    for (id, color) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        hub.put_device(id, &json!({}), Precondition::None).unwrap();
        tag(&hub, id, color);
    }
    hub.put_module("a", "m", &json!({}), Precondition::None).unwrap();
    let patch = json!({ "tags": { "kind": "x" } });
    hub.patch_twin(&Identity::module("a", "m").unwrap(), &patch, Precondition::None).unwrap();
    hub
}

fn tag(hub: &Hub, id: &str, color: &str) {
    let patch = json!({ "tags": { "color": color } });
    hub.patch_twin(&Identity::device(id).unwrap(), &patch, Precondition::None).unwrap();
}

fn put(hub: &Hub, id: &str, priority: u64, condition: &str, content: Value) -> Value {
    let body = json!({ "id": id, "priority": priority, "targetCondition": condition, "content": { "deviceContent": content } });
    hub.put_configuration(id, &body, Precondition::None).unwrap()
}

/// The desired properties without what the hub adds.
fn desired(hub: &Hub, id: &str) -> Value {
    let twin = hub.get_twin(&Identity::device(id).unwrap()).unwrap();
    let mut desired = twin["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|name, _| !name.starts_with('$'));
    desired
}

/// Like `high Applied, low Targeted`.
fn statuses(hub: &Hub, id: &str) -> String {
    let twin = hub.get_twin(&Identity::device(id).unwrap()).unwrap();
    let Some(configurations) = twin.get("configurations") else { return String::new() };
    let text = |(id, status): (&String, &Value)| format!("{id} {}", status["status"].as_str().unwrap());
    configurations.as_object().unwrap().iter().map(text).collect::<Vec<_>>().join(", ")
}

fn run(hub: &Hub) {
    hub.advance(INTERVAL);
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> u32 {
    result.unwrap_err().code
}

const ANY: Precondition = Precondition::IfMatch(None);

#[test]
fn a_new_configuration_is_applied_at_once() {
    let hub = hub();
    let connected = hub.connect(&Identity::device("a").unwrap()).unwrap();
    connected.subscribe_desired();
    let shown = put(
        &hub,
        "conf",
        1,
        "tags.color = 'red'",
        json!({ "properties.desired.o.x": 1, "properties.desired.y": [1] }),
    );

    assert_eq!(desired(&hub, "a"), json!({ "o": { "x": 1 }, "y": [1] }));
    assert_eq!(desired(&hub, "b"), desired(&hub, "a"));
    assert_eq!(desired(&hub, "c"), json!({}));
    assert_eq!((statuses(&hub, "a").as_str(), statuses(&hub, "c").as_str()), ("conf Applied", ""));
    let body = br#"{"o":{"x":1},"y":[1],"$version":2}"#.as_slice().into();
    assert_eq!(connected.try_recv(), Some(Push::Desired { version: 2, body }));

    let twin = hub.get_twin(&Identity::device("a").unwrap()).unwrap();
    // Created, tagged, configured: three writes.
    assert_eq!(twin["etag"], "AAAAAAAAAAM=");
    let metadata = &twin["properties"]["desired"]["$metadata"];
    assert_eq!(metadata["o"]["x"]["$lastUpdatedBy"], "conf");
    assert_eq!(metadata["y"]["$lastUpdatedBy"], "conf");
    assert_eq!(metadata["o"]["x"]["$lastUpdatedVersion"], 2);
    // .NET ticks of today have 18 digits.
    let digest = metadata["y"]["$lastUpdatedByDigest"].as_str().unwrap();
    assert!(digest.len() == 18 && digest.bytes().all(|byte| byte.is_ascii_digit()), "{digest}");
    for above in [metadata, &metadata["o"]] {
        assert_eq!(above.get("$lastUpdatedBy"), None, "only leaves have it");
    }
    let results = &shown["systemMetrics"]["results"];
    assert_eq!(*results, json!({ "targetedCount": 2, "appliedCount": 2 }));
    // Later runs have nothing to do.
    run(&hub);
    assert_eq!(hub.get_twin(&Identity::device("a").unwrap()).unwrap(), twin);
    assert_eq!(connected.try_recv(), None);
}

#[test]
fn it_runs_again_every_five_minutes() {
    let hub = hub();
    put(&hub, "conf", 1, "tags.color = 'red'", json!({ "properties.desired.x": 1 }));
    tag(&hub, "c", "red");
    tag(&hub, "b", "blue");
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    tag(&hub, "d", "red");
    hub.advance(INTERVAL - Duration::from_secs(60));
    assert_eq!((desired(&hub, "b"), desired(&hub, "c")), (json!({ "x": 1 }), json!({})));
    hub.advance(Duration::from_secs(60));
    assert_eq!(
        (desired(&hub, "b"), desired(&hub, "c"), desired(&hub, "d")),
        (json!({}), json!({ "x": 1 }), json!({ "x": 1 }))
    );
    assert_eq!((statuses(&hub, "b").as_str(), statuses(&hub, "c").as_str()), ("", "conf Applied"));
    let shown = hub.get_configuration("conf").unwrap();
    assert_eq!(shown["systemMetrics"]["results"]["targetedCount"], 3);
}

#[test]
fn the_higher_priority_wins_each_path() {
    let hub = hub();
    put(
        &hub,
        "low",
        1,
        "*",
        json!({ "properties.desired.x": "low", "properties.desired.y": "low", "properties.desired.o": { "p": "low" } }),
    );
    put(
        &hub,
        "high",
        5,
        "tags.color = 'red'",
        json!({ "properties.desired.x": "high", "properties.desired.o": { "q": "high" } }),
    );
    assert_eq!(desired(&hub, "a"), json!({ "x": "high", "y": "low", "o": { "q": "high" } }));
    assert_eq!(desired(&hub, "c"), json!({ "x": "low", "y": "low", "o": { "p": "low" } }));
    assert_eq!(statuses(&hub, "a"), "high Applied, low Applied");
    // Of one that has nothing left it is only shown that it targets.
    put(
        &hub,
        "top",
        9,
        "deviceId = 'a'",
        json!({ "properties.desired.x": "top", "properties.desired.o": 1 }),
    );
    assert_eq!(desired(&hub, "a"), json!({ "x": "top", "y": "low", "o": 1 }));
    assert_eq!(statuses(&hub, "a"), "high Targeted, low Applied, top Applied");
    let results = hub.get_configuration("high").unwrap()["systemMetrics"]["results"].clone();
    assert_eq!(results, json!({ "targetedCount": 2, "appliedCount": 1 }));
    // Leaving: the next one's settings apply.
    hub.delete_configuration("top", Precondition::None).unwrap();
    assert_eq!(desired(&hub, "a"), json!({ "x": "high", "y": "low", "o": { "q": "high" } }));
    tag(&hub, "a", "blue");
    run(&hub);
    assert_eq!(desired(&hub, "a"), json!({ "x": "low", "y": "low", "o": { "p": "low" } }));
    hub.delete_configuration("low", ANY).unwrap();
    assert_eq!(
        (desired(&hub, "a"), desired(&hub, "b")),
        (json!({}), json!({ "x": "high", "o": { "q": "high" } }))
    );
    assert_eq!(statuses(&hub, "a"), "");
}

#[test]
fn of_equal_priorities_the_newer_wins() {
    let hub = hub();
    put(&hub, "z", 3, "*", json!({ "properties.desired.x": "older" }));
    hub.advance(Duration::from_secs(1));
    put(&hub, "a", 3, "*", json!({ "properties.desired.x": "newer" }));
    assert_eq!(desired(&hub, "a"), json!({ "x": "newer" }));
    assert_eq!(statuses(&hub, "a"), "a Applied, z Targeted");
    // An update does not make it newer.
    let older = hub.get_configuration("z").unwrap();
    hub.put_configuration("z", &older, ANY).unwrap();
    assert_eq!(desired(&hub, "a"), json!({ "x": "newer" }));
}

#[test]
fn paths_may_be_inside_each_other() {
    let hub = hub();
    put(&hub, "low", 1, "*", json!({ "properties.desired": { "o": { "p": 1, "q": 1 } } }));
    put(&hub, "mid", 2, "*", json!({ "properties.desired.o.q": 2 }));
    assert_eq!(desired(&hub, "a"), json!({ "o": { "p": 1, "q": 2 } }));
    put(&hub, "high", 3, "*", json!({ "properties.desired.o": { "r": 3 } }));
    assert_eq!(desired(&hub, "a"), json!({ "o": { "r": 3 } }), "all of o is the highest one's");
    assert_eq!(statuses(&hub, "a"), "high Applied, low Targeted, mid Targeted");
    hub.delete_configuration("high", ANY).unwrap();
    assert_eq!(desired(&hub, "a"), json!({ "o": { "p": 1, "q": 2 } }));
}

/// What people write themselves is not the configuration's to remove.
#[test]
fn what_others_write_stays() {
    let hub = hub();
    let identity = Identity::device("a").unwrap();
    let write = |desired: Value| {
        let patch = json!({ "properties": { "desired": desired } });
        hub.patch_twin(&identity, &patch, Precondition::None).unwrap();
    };
    write(json!({ "o": { "mine": 1 }, "gone": true }));
    put(
        &hub,
        "conf",
        1,
        "deviceId = 'a'",
        json!({ "properties.desired.o.x": 1, "properties.desired.p.q.r": 2, "properties.desired.gone": null }),
    );
    assert_eq!(desired(&hub, "a"), json!({ "o": { "mine": 1, "x": 1 }, "p": { "q": { "r": 2 } } }));
    // Changed meanwhile: set again by the next run.
    write(json!({ "o": { "x": 7 } }));
    assert_eq!(desired(&hub, "a")["o"]["x"], 7);
    run(&hub);
    assert_eq!(desired(&hub, "a")["o"]["x"], 1);
    hub.delete_configuration("conf", Precondition::None).unwrap();
    assert_eq!(desired(&hub, "a"), json!({ "o": { "mine": 1 } }));
}

#[test]
fn conditions_choose_devices_or_modules() {
    let hub = hub();
    put(&hub, "none", 1, "", json!({ "properties.desired.x": 1 }));
    assert_eq!(statuses(&hub, "a"), "");
    let module = |id: &str, condition: &str| {
        let body = json!({ "targetCondition": condition, "content": { "moduleContent": { "properties.desired.x": 1 } } });
        hub.put_configuration(id, &body, Precondition::None)
    };
    let shown = module("some", "FROM devices.modules WHERE tags.kind = 'x'").unwrap();
    assert_eq!(shown["systemMetrics"]["results"]["appliedCount"], 1);
    assert_eq!(
        shown["systemMetrics"]["queries"],
        json!({
            "targetedCount": "select deviceId, moduleId FROM devices.modules WHERE tags.kind = 'x'",
            "appliedCount": "select deviceId, moduleId from devices.modules where configurations.[[some]].status = 'Applied'",
        })
    );
    let twin = hub.get_twin(&Identity::module("a", "m").unwrap()).unwrap();
    assert_eq!(twin["properties"]["desired"]["x"], 1);
    assert_eq!(twin["configurations"], json!({ "some": { "status": "Applied" } }));
    assert_eq!(desired(&hub, "a"), json!({}));
    assert_eq!(code(module("devices", "tags.kind = 'x'")), 400_401);
    let edge = json!({ "targetCondition": "*", "content": { "modulesContent": { "m": { "properties.desired": {} } } } });
    let shown = hub.put_configuration("edge", &edge, Precondition::None).unwrap();
    assert_eq!(shown["systemMetrics"]["results"], json!({ "targetedCount": 3, "appliedCount": 0 }));
}

/// The hub's own queries, as they are shown, and custom ones.
#[tokio::test]
async fn metrics_are_counts_of_queries() {
    let hub = hub();
    let body = json!({
        "targetCondition": "tags.color = 'red'",
        "content": { "deviceContent": { "properties.desired.x": 1 } },
        "metrics": { "queries": {
            "applied": "SELECT deviceId FROM devices WHERE configurations.[[conf]].status = 'Applied'",
            "done": "SELECT deviceId FROM devices WHERE properties.reported.x = 1",
            "colors": "SELECT COUNT() AS n FROM devices GROUP BY tags.color",
        }, "results": { "applied": 99 } },
    });
    let shown = hub.put_configuration("conf", &body, Precondition::None).unwrap();
    assert_eq!(shown["metrics"]["results"], json!({ "applied": 2, "done": 0, "colors": 2 }));
    assert_eq!(shown["metrics"]["queries"], body["metrics"]["queries"]);
    hub.report(&Identity::device("a").unwrap(), &json!({ "x": 1 })).unwrap();
    run(&hub);
    assert_eq!(hub.get_configuration("conf").unwrap()["metrics"]["results"]["done"], 1);
    for (name, count) in [("targetedCount", 2), ("appliedCount", 2)] {
        let query = shown["systemMetrics"]["queries"][name].as_str().unwrap();
        assert_eq!(hub.query(query, &Default::default()).await.unwrap().items.len(), count, "{query}");
    }
}

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
