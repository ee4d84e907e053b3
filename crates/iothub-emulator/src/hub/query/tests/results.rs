//! The shape of results: projections, aggregates, groups.

use super::*;

async fn check(table: &[(&str, &str)]) {
    let hub = hub().await;
    for (text, expected) in table {
        assert_eq!(rows(&hub, text).await, *expected, "{text}");
    }
}

#[tokio::test]
async fn whole_twins() {
    let hub = hub().await;
    for (source, identities) in [
        ("devices", vec!["d1", "d2", "d3", "d4"]),
        ("devices.modules", vec!["d1/m1", "d1/m2", "d3/$edgeAgent", "d3/$edgeHub"]),
    ] {
        let page = page(&hub, &format!("SELECT * FROM {source}")).await.unwrap();
        assert_eq!((page.item_type, page.continuation), ("Twin", None));
        let expected: Vec<_> = identities
            .into_iter()
            .map(|id| match id.split_once('/') {
                None => hub.get_twin(&Identity::device(id).unwrap()).unwrap(),
                Some((device, module)) => hub.get_twin(&Identity::module(device, module).unwrap()).unwrap(),
            })
            .collect();
        assert_eq!(page.items, expected);
    }
    let jobs = page(&hub, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'x'").await.unwrap();
    assert_eq!((jobs.items.len(), jobs.item_type), (0, "DeviceJob"));
}

#[tokio::test]
async fn projections() {
    check(&[
        // Attributes are spelled as the hub spells them.
        (
            "SELECT DeviceId, STATUS FROM devices WHERE deviceId = 'd2'",
            r#"[{"deviceId":"d2","status":"disabled"}]"#,
        ),
        ("SELECT deviceId AS id FROM devices WHERE deviceId = 'd1'", r#"[{"id":"d1"}]"#),
        ("SELECT deviceId AS [[group]] FROM devices WHERE deviceId = 'd1'", r#"[{"group":"d1"}]"#),
        ("SELECT tags.loc.city FROM devices WHERE deviceId = 'd1'", r#"[{"city":"Oslo"}]"#),
        (
            "SELECT tags.loc, properties.desired.list FROM devices WHERE deviceId = 'd1'",
            r#"[{"loc":{"city":"Oslo"},"list":[1,2]}]"#,
        ),
        ("SELECT tags FROM devices WHERE deviceId = 'd2'", r#"[{"tags":{"color":"blue","size":7}}]"#),
        ("SELECT Properties.Desired.$version AS v FROM devices WHERE deviceId = 'd2'", r#"[{"v":2}]"#),
        ("SELECT capabilities.IOTEDGE FROM devices WHERE deviceId = 'd3'", r#"[{"iotEdge":true}]"#),
        // Missing values are left out.
        (
            "SELECT deviceId, tags.size FROM devices WHERE deviceId IN ['d2', 'd3']",
            r#"[{"deviceId":"d2","size":7},{"deviceId":"d3"}]"#,
        ),
        ("SELECT TOP 2 deviceId FROM devices", r#"[{"deviceId":"d1"},{"deviceId":"d2"}]"#),
        ("SELECT TOP 0 deviceId FROM devices", "[]"),
        ("SELECT moduleId FROM devices.modules WHERE tags.kind = 'x'", r#"[{"moduleId":"m2"}]"#),
    ])
    .await;
    let hub = hub().await;
    assert_eq!(page(&hub, "SELECT deviceId FROM devices").await.unwrap().item_type, "Raw");
    let whole = hub.get_twin(&Identity::device("d1").unwrap()).unwrap();
    let row = &page(&hub, "SELECT properties, properties.reported FROM devices").await.unwrap().items[0];
    assert_eq!(row["properties"], whole["properties"]);
    assert_eq!(row["reported"], whole["properties"]["reported"]);
}

#[tokio::test]
async fn aggregates() {
    check(&[
        ("SELECT COUNT() AS n FROM devices", r#"[{"n":4}]"#),
        ("SELECT COUNT(*) AS n FROM devices WHERE tags.color = 'red'", r#"[{"n":2}]"#),
        ("SELECT count() FROM devices", r#"[{"COUNT":4}]"#),
        ("SELECT COUNT() AS n FROM devices.modules", r#"[{"n":4}]"#),
        // SUM and AVG take numbers only; d4's size is a text.
        ("SELECT SUM(tags.size) AS s, AVG(tags.size) AS a FROM devices", r#"[{"s":12,"a":6}]"#),
        ("SELECT AVG(properties.desired.temp) FROM devices", r#"[{"AVG":22.5}]"#),
        ("SELECT MIN(tags.size) AS a, MAX(tags.size) AS b FROM devices", r#"[{"a":5,"b":7}]"#),
        ("SELECT MIN(tags.color) AS a, MAX(tags.color) AS b FROM devices", r#"[{"a":"blue","b":"red"}]"#),
        ("SELECT MAX(properties.reported.temp) AS m FROM devices", r#"[{"m":19.5}]"#),
        ("SELECT MAX(lastActivityTime) AS m FROM devices WHERE deviceId = 'd3'", r#"[{"m":"0001-01-01T00:00:00Z"}]"#),
        // Of nothing.
        (
            "SELECT COUNT() AS n, SUM(tags.size) AS s, AVG(tags.size) AS a, MIN(tags.size) AS m FROM devices WHERE 1 = 2",
            r#"[{"n":0,"s":0}]"#,
        ),
    ])
    .await;
}

#[tokio::test]
async fn groups() {
    check(&[
        (
            "SELECT tags.color AS color, COUNT() AS n FROM devices GROUP BY tags.color",
            // Where the value is missing there is one group without the key.
            r#"[{"n":1},{"color":"blue","n":1},{"color":"red","n":2}]"#,
        ),
        (
            "SELECT status, SUM(tags.size) AS s FROM devices WHERE IS_NUMBER(tags.size) GROUP BY status",
            r#"[{"status":"disabled","s":7},{"status":"enabled","s":5}]"#,
        ),
        (
            "SELECT tags.color, status, COUNT() AS n FROM devices WHERE IS_DEFINED(tags.color) GROUP BY status, tags.color",
            r#"[{"color":"blue","status":"disabled","n":1},{"color":"red","status":"enabled","n":2}]"#,
        ),
        ("SELECT COUNT() AS n FROM devices GROUP BY status", r#"[{"n":1},{"n":3}]"#),
        ("SELECT tags.color FROM devices WHERE 1 = 2 GROUP BY tags.color", "[]"),
        ("SELECT TOP 1 status, COUNT() AS n FROM devices GROUP BY status", r#"[{"status":"disabled","n":1}]"#),
    ])
    .await;
}

/// 1 and 1.0 are the same number; a text that looks like one is not.
#[tokio::test]
async fn groups_go_by_value() {
    let hub = hub().await;
    for (id, value) in [("d1", json!(1)), ("d2", json!(1.0)), ("d3", json!("1")), ("d4", json!(true))] {
        let patch = json!({ "tags": { "v": value } });
        hub.patch_twin(&Identity::device(id).unwrap(), &patch, Precondition::None).unwrap();
    }
    let text = "SELECT tags.v, COUNT() AS n FROM devices GROUP BY tags.v";
    assert_eq!(rows(&hub, text).await, r#"[{"v":"1","n":1},{"v":1,"n":2},{"v":true,"n":1}]"#);
}
