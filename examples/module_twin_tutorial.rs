//! The module identity and module twin tutorial, both apps in one program, on an embedded local hub.
//!
//! ```text
//! cargo run --example module_twin_tutorial
//! ```
#![allow(clippy::print_stdout)]

use iothub::{DesiredUpdates, ModuleClient, Registry, TwinPatch};
use iothub_emulator::LocalHub;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = LocalHub::start().await?;
    let (hub_connection_string, options) = (hub.connection_string(), hub.client_options());

    // The service: create a device and a module on it.
    let registry = Registry::from_connection_string_with(&hub_connection_string, options.clone())?;
    let device = registry.create_device("myFirstDevice").await?;
    registry.add_module(&device.device_id, "myFirstModule").await?;
    let module = registry.get_module(&device.device_id, "myFirstModule").await?;
    let no_key = "the hub makes keys for identities that come without";
    let device_connection_string = device.connection_string(registry.host_name()).ok_or(no_key)?;
    let module_connection_string = module.connection_string(registry.host_name()).ok_or(no_key)?;
    println!("device connection string = \"{device_connection_string}\"");
    println!("module connection string = \"{module_connection_string}\"");

    // The module: open, read the twin, listen for desired properties, report.
    let client = ModuleClient::connect_with(&module_connection_string, options).await?;
    println!("client opened");
    let twin = client.twin();
    println!("twin contents:\n{}", twin.get().await?);
    let mut desired = twin.desired().await?;
    print_next(&mut desired).await;
    let patch = json!({
        "updateTime": "2026-11-25T08:00:00Z",
        "firmwareVersion": "1.2.1",
        "weather": { "temperature": 72, "humidity": 17 },
    });
    twin.report(&patch).await?;
    println!("twin state reported");

    // The service again: ask for something, and see what was reported.
    let patch = TwinPatch::new().desired(&json!({ "telemetryInterval": 30 }));
    registry.update_module_twin(&device.device_id, &module.module_id, &patch).await?;
    print_next(&mut desired).await;
    let read_back = registry.get_module_twin(&device.device_id, &module.module_id).await?;
    println!("reported properties as the service sees them:\n{}", read_back.properties.reported);

    client.close().await;
    hub.shutdown().await;
    Ok(())
}

async fn print_next(desired: &mut DesiredUpdates) {
    if let Some(update) = desired.next().await {
        println!("new desired properties received:\n{}", update.properties());
    }
}
