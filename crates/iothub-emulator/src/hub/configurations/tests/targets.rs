//! Which twins get which settings.

use super::*;
use crate::hub::Push;

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
