//! Asks a hub in its query language: twins, parts of them into a type of one's own, and sums over groups.
//!
//! ```text
//! cargo run --example query_twins -- "tags.site = 'north'"
//! ```
//!
//! The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program with a few devices.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use futures_util::TryStreamExt;
use iothub::service::{BulkItem, TwinContent};
use iothub::{Device, NewDevice, Registry};
use serde::Deserialize;
use serde_json::json;

/// What is selected of each device. Names of fields are those in the query.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    device_id: String,
    site: Option<String>,
    interval: Option<u32>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let condition = std::env::args().nth(1).unwrap_or_else(|| "tags.site = 'north'".into());
    let hub = hub::from_environment().await?;
    let registry = Registry::from_connection_string_with(&hub.connection_string, hub.options.clone())?;
    if std::env::var("IOTHUB_CONNECTION_STRING").is_err() {
        make_devices(&registry).await?;
    }

    let sql = format!(
        "SELECT deviceId, tags.site AS site, properties.desired.interval AS interval FROM devices WHERE {condition}"
    );
    let mut rows = registry.query(sql).typed::<Row>();
    while let Some(row) = rows.try_next().await? {
        let site = row.site.as_deref().unwrap_or("-");
        println!("{}: site {site}, interval {:?}", row.device_id, row.interval);
    }

    // Without a type the items are JSON as the hub wrote it.
    let mut groups =
        registry.query("SELECT tags.site AS site, COUNT() AS devices FROM devices GROUP BY tags.site");
    while let Some(group) = groups.try_next().await? {
        println!("{group}");
    }

    // Keys are not in twins; identities have a list of their own.
    let devices: Vec<Device> = registry.list_devices().try_collect().await?;
    println!("{} devices in all", devices.len());
    hub.shutdown().await;
    Ok(())
}

async fn make_devices(registry: &Registry) -> Result<(), iothub::Error> {
    let items = (0..10).map(|n| {
        let site = if n % 3 == 0 { "north" } else { "south" };
        let twin = TwinContent::new().tags(&json!({ "site": site })).desired(&json!({ "interval": 10 * n }));
        BulkItem::create_device(NewDevice::new(format!("device-{n}"))).with_twin(&twin)
    });
    let report = registry.bulk(items).report().await;
    report.failed.into_iter().try_for_each(|failed| failed.result)
}
