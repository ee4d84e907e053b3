//! Which rows a condition selects.

use super::*;

/// The devices, as `d1 d2`, or modules, as `d1/m1`, for which a condition holds.
async fn selected(hub: &Hub, source: &str, condition: &str) -> String {
    let text = format!("SELECT deviceId, moduleId FROM {source} WHERE {condition}");
    let page = page(hub, &text).await.unwrap_or_else(|error| panic!("{condition}: {error}"));
    let name = |row: &Value| match &row["moduleId"] {
        Value::String(module) => format!("{}/{module}", row["deviceId"].as_str().unwrap()),
        _ => row["deviceId"].as_str().unwrap().to_owned(),
    };
    page.items.iter().map(name).collect::<Vec<_>>().join(" ")
}

async fn check(source: &str, table: &[(&str, &str)]) {
    let hub = hub().await;
    for (condition, expected) in table {
        assert_eq!(selected(&hub, source, condition).await, *expected, "{condition}");
    }
}

#[tokio::test]
async fn comparisons() {
    check(
        "devices",
        &[
            ("tags.color = 'red'", "d1 d4"),
            ("tags.color = \"red\"", "d1 d4"),
            ("'red' = tags.color", "d1 d4"),
            ("tags.color = 'Red'", ""),
            ("tags.color != 'red'", "d2"),
            ("tags.color <> 'red'", "d2"),
            ("tags.color < 'c'", "d2"),
            ("tags.size > 5", "d2"),
            ("tags.size >= 5", "d1 d2"),
            ("tags.size < 7", "d1"),
            ("tags.size <= 7.0", "d1 d2"),
            ("tags.size = 5.0", "d1"),
            ("tags.size = 0x5", "d1"),
            ("tags.size = 5e0", "d1"),
            ("tags.size > -1", "d1 d2"),
            ("tags.size = 'big'", "d4"),
            // Mixed types are never equal and have no order.
            ("tags.size = '5'", ""),
            ("tags.size != 'big'", "d1 d2"),
            ("tags.size < 'a'", ""),
            ("tags.size > 'a'", "d4"),
            ("properties.desired.on = true", "d1"),
            ("properties.desired.on != false", "d1"),
            ("properties.desired.on = 1", ""),
            ("tags.size = null", ""),
            ("tags.size != null", "d1 d2 d4"),
            ("tags.loc != null", "d1"),
            // Only primitives compare.
            ("properties.desired.list = [1, 2]", ""),
            ("properties.desired.list != [1, 2]", ""),
            ("tags.loc = tags.loc", ""),
            ("properties.reported.temp = 19.5", "d1"),
            ("properties.desired.temp > properties.reported.temp", "d1"),
            ("1 = 1", "d1 d2 d3 d4"),
            ("1 = 2", ""),
        ],
    )
    .await;
}

/// A missing value makes a comparison neither true nor false.
#[tokio::test]
async fn missing_values() {
    check(
        "devices",
        &[
            ("tags.nope = 1", ""),
            ("tags.nope != 1", ""),
            ("NOT tags.nope = 1", ""),
            ("tags.nope = undefined", ""),
            ("tags.nope = null", ""),
            ("NOT (tags.color = 'red')", "d2"),
            ("tags.nope = 1 OR tags.color = 'blue'", "d2"),
            ("NOT (tags.nope = 1 AND tags.color = 'red')", "d2"),
            ("NOT (tags.nope = 1 OR tags.color = 'red')", ""),
            ("tags.nope IN [1]", ""),
            ("tags.nope NIN [1]", ""),
            ("IS_DEFINED(tags.nope)", ""),
            ("NOT IS_DEFINED(tags.color)", "d3"),
            ("IS_DEFINED(tags)", "d1 d2 d4"),
            ("IS_DEFINED(tags.loc)", "d1"),
            ("is_defined(tags.loc.city)", "d1"),
            ("IS_DEFINED(tags.color.x)", ""),
            ("IS_DEFINED(properties.desired.list)", "d1"),
            ("IS_DEFINED(properties.reported)", "d1 d2 d3 d4"),
            ("IS_DEFINED(nonsense)", ""),
            ("color = 'red'", ""),
            ("desired.temp = 20", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn operators() {
    check(
        "devices",
        &[
            ("tags.color = 'red' AND tags.size = 5", "d1"),
            ("tags.color = 'blue' OR tags.size = 5", "d1 d2"),
            // NOT binds tighter than AND, AND tighter than OR.
            ("tags.color = 'blue' OR tags.color = 'red' AND tags.size = 5", "d1 d2"),
            ("(tags.color = 'blue' OR tags.color = 'red') AND tags.size = 5", "d1"),
            ("NOT tags.color = 'red' AND tags.size = 7", "d2"),
            ("NOT (tags.color = 'red' AND tags.size = 5)", "d2 d4"),
            ("NOT NOT tags.size = 5", "d1"),
            ("tags.size + 2 = 7", "d1"),
            ("tags.size - 2 - 3 = 0", "d1"),
            ("2 + 3 * 4 = 14", "d1 d2 d3 d4"),
            ("(2 + 3) * 4 = 20", "d1 d2 d3 d4"),
            ("7 % 4 = 3", "d1 d2 d3 d4"),
            ("tags.size * 2 > 12", "d2"),
            ("tags.size / 2 = 2.5", "d1"),
            ("-tags.size = -5", "d1"),
            ("- -5 = tags.size", "d1"),
            ("tags.size / 0 > 1", ""),
            ("tags.color + 'x' = 'redx'", ""),
            ("tags.color IN ['red', 'green']", "d1 d4"),
            ("tags.color in ['blue']", "d2"),
            ("tags.size IN [7, 'big', true]", "d2 d4"),
            ("tags.color NIN ['red']", "d2"),
            ("tags.size IN [-5, 5]", "d1"),
            ("deviceId IN ['d1', 'd3', 'x']", "d1 d3"),
        ],
    )
    .await;
}

#[tokio::test]
async fn functions() {
    check(
        "devices",
        &[
            ("STARTSWITH(tags.color, 're')", "d1 d4"),
            ("STARTS_WITH(deviceId, 'd')", "d1 d2 d3 d4"),
            ("startswith(tags.color, 'RE')", ""),
            ("ENDSWITH(tags.color, 'ue')", "d2"),
            ("ENDS_WITH(tags.color, 'ue')", "d2"),
            ("STARTSWITH(tags.size, 'b')", "d4"),
            ("NOT STARTSWITH(tags.size, 'x')", "d4"),
            ("IS_STRING(tags.size)", "d4"),
            ("IS_NUMBER(tags.size)", "d1 d2"),
            ("IS_BOOL(properties.desired.on)", "d1"),
            ("IS_OBJECT(tags.loc)", "d1"),
            ("IS_OBJECT(tags)", "d1 d2 d4"),
            ("IS_ARRAY(properties.desired.list)", "d1"),
            ("IS_PRIMITIVE(tags.size)", "d1 d2 d4"),
            ("IS_PRIMITIVE(tags.loc)", ""),
            ("IS_NULL(tags.size)", ""),
            ("IS_NULL(null)", "d1 d2 d3 d4"),
            ("NOT IS_NULL(tags.nope)", "d1 d2 d3 d4"),
            ("IS_DEFINED(tags.size) AND NOT IS_NUMBER(tags.size)", "d4"),
        ],
    )
    .await;
}

#[tokio::test]
async fn paths() {
    check(
        "devices",
        &[
            ("DeviceId = 'd1'", "d1"),
            ("devices.deviceId = 'd1'", "d1"),
            ("[[deviceId]] = 'd1'", "d1"),
            ("devices.tags.color = 'blue'", "d2"),
            ("Tags.color = 'blue'", "d2"),
            ("tags.Color = 'blue'", ""),
            ("tags.[[color]] = 'blue'", "d2"),
            ("tags.[[group]] = 'g1'", "d1"),
            ("Properties.Desired.temp = 25", "d2"),
            ("STATUS = 'disabled'", "d2"),
            ("statusReason = 'broken'", "d2"),
            ("connectionState = 'Disconnected'", "d1 d2 d3 d4"),
            ("connectionState = 'disconnected'", ""),
            ("lastActivityTime > '2020-01-01'", "d1 d2"),
            ("capabilities.iotEdge = true", "d3"),
            ("Capabilities.IotEdge = true", "d3"),
            ("authenticationType = 'sas'", "d1 d2 d3 d4"),
            ("cloudToDeviceMessageCount = 0", "d1 d2 d3 d4"),
            ("etag = 'AAAAAAAAAAE='", "d3"),
            ("version = 4", "d1 d2"),
            ("properties.desired.$version = 2", "d1 d2"),
            ("properties.reported.$version = 1", "d3 d4"),
            ("properties.desired.$metadata.temp.$lastUpdatedVersion = 2", "d1 d2"),
            ("properties.desired.[[$metadata]].$lastUpdated > '2020'", "d1 d2 d3 d4"),
            ("IS_DEFINED(properties.reported.$metadata.fw)", "d1 d2"),
            ("IS_DEFINED(properties.desired.$metadata.nope)", ""),
            ("IS_DEFINED(moduleId)", ""),
            ("IS_DEFINED(configurations.[[any]].status)", ""),
            ("STARTSWITH(deviceScope, 'ms-azure-iot-edge://d3-')", "d3"),
        ],
    )
    .await;
    check(
        "devices.modules",
        &[
            ("moduleId = 'm2'", "d1/m2"),
            ("deviceId = 'd1'", "d1/m1 d1/m2"),
            ("devices.modules.moduleId = 'm1'", "d1/m1"),
            ("tags.kind = 'x'", "d1/m2"),
            ("STARTSWITH(moduleId, '$edge')", "d3/$edgeAgent d3/$edgeHub"),
            ("status = 'enabled'", "d1/m1 d1/m2 d3/$edgeAgent d3/$edgeHub"),
            ("IS_DEFINED(capabilities)", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn texts_and_their_escapes() {
    let hub = hub().await;
    let identity = Identity::device("d3").unwrap();
    for (value, written) in [
        ("it's", r"'it\'s'"),
        ("it's", r#""it's""#),
        ("say \"x\"", r#"'say \"x\"'"#),
        ("a\\b", r"'a\\b'"),
        ("é", r"'\u00e9'"),
        ("😀", r"'\ud83d\ude00'"),
        ("😀", "'😀'"),
        ("tab\there", r"'tab\there'"),
        ("", "''"),
        (" = 'x' OR 1 = 1", r"' = \'x\' OR 1 = 1'"),
    ] {
        hub.patch_twin(&identity, &json!({ "tags": { "t": value } }), Precondition::None).unwrap();
        assert_eq!(selected(&hub, "devices", &format!("tags.t = {written}")).await, "d3", "{written}");
    }
}

#[tokio::test]
async fn white_space_and_case_do_not_matter() {
    let hub = hub().await;
    for text in [
        "select deviceId from devices where tags.size=5",
        "SELECT\n\tdeviceId\r\nFROM   devices\nWHERE tags . size\n=\n5\n",
        "Select DeviceId From DEVICES Where tags.size=5 And(1=1)",
    ] {
        assert_eq!(rows(&hub, text).await, r#"[{"deviceId":"d1"}]"#, "{text}");
    }
}
