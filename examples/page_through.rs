//! Prints one page of a hub's device ids, and the token with which the next run goes on.
//!
//! ```text
//! cargo run --example page_through
//! cargo run --example page_through -- TOKEN
//! ```
//!
//! The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use futures_util::TryStreamExt;
use iothub::Registry;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    device_id: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = hub::from_environment().await?;
    let registry = Registry::from_connection_string_with(&hub.connection_string, hub.options.clone())?;
    let mut query = registry.query("SELECT deviceId FROM devices").typed::<Row>();
    if let Some(token) = std::env::args().nth(1) {
        query = query.from_token(token);
    }
    if let Some(page) = query.pages().try_next().await? {
        page.items.iter().for_each(|row| println!("{}", row.device_id));
        if let Some(token) = page.token {
            println!("token {token}");
        }
    }
    hub.shutdown().await;
    Ok(())
}
