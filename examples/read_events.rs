//! Reads what devices send, at the hub's built-in endpoint, until Ctrl-C.
//!
//! ```text
//! cargo run --example read_events [-- --earliest] [--device myDevice] [--count 10]
//! ```
//!
//! From now on, or with `--earliest` from the oldest event that the hub keeps; of all devices, or of one; all, or so
//! many. The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program, with a device that
//! sends.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use std::time::Duration;

use iothub::DeviceClient;
use iothub::service::StartPosition;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = hub::argument("--device");
    let mut left: u64 = hub::argument("--count").map_or(Ok(u64::MAX), |text| text.parse())?;
    let earliest = std::env::args().any(|argument| argument == "--earliest");
    let start = if earliest { StartPosition::Earliest } else { StartPosition::Latest };

    let hub = hub::from_environment().await?;
    let mut events = hub.registry()?.events().start(start).stream().await?;
    println!("reading");
    if std::env::var("IOTHUB_CONNECTION_STRING").is_err() {
        start_device(&hub).await?;
    }

    while left > 0 {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event.transpose()? else { break };
        let from = event.device_id.as_deref().unwrap_or("?");
        if device.as_deref().is_some_and(|device| device != from) {
            continue;
        }
        println!("{from}: {} {:?}", String::from_utf8_lossy(&event.body), event.properties);
        left -= 1;
    }
    hub.shutdown().await;
    Ok(())
}

/// A device in this program that sends twice a second.
async fn start_device(hub: &hub::Hub) -> Result<(), Box<dyn std::error::Error>> {
    let registry = hub.registry()?;
    let device = registry.get_or_create_device("myFirstDevice").await?;
    let connection_string = device.connection_string(registry.host_name()).ok_or("the device has no key")?;
    let client = DeviceClient::connect_with(&connection_string, hub.options.clone()).await?;
    tokio::spawn(async move {
        while client.send("tick").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    Ok(())
}
