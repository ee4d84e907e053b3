//! Creates a device and a module on it, and prints their connection strings. Run twice, it prints those that exist.
//!
//! ```text
//! cargo run --example create_identities -- --device-id myFirstDevice --module-id myFirstModule
//! ```
//!
//! The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program. `IOTHUB_CA_FILE` and
//! `IOTHUB_HTTPS_PORT` are for a local hub as a separate process: `hub.env` in its state directory sets them.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use iothub::Registry;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device_id = argument("--device-id").unwrap_or_else(|| "myFirstDevice".into());
    let module_id = argument("--module-id").unwrap_or_else(|| "myFirstModule".into());

    let hub = hub::from_environment().await?;
    let registry = Registry::from_connection_string_with(&hub.connection_string, hub.options.clone())?;

    let device = registry.get_or_create_device(device_id.as_str()).await?;
    if !device.was_created() {
        println!("device {device_id} exists");
    }
    let module = registry.get_or_add_module(&device_id, module_id.as_str()).await?;
    if !module.was_created() {
        println!("module {module_id} exists");
    }
    let module = registry.get_module(&module.device_id, &module.module_id).await?;

    let no_key = "this identity has no symmetric key, so it has no connection string";
    println!(
        "device connection string = \"{}\"",
        device.connection_string(registry.host_name()).ok_or(no_key)?
    );
    println!(
        "module connection string = \"{}\"",
        module.connection_string(registry.host_name()).ok_or(no_key)?
    );
    hub.shutdown().await;
    Ok(())
}

/// The value after a flag.
fn argument(flag: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != flag).nth(1)
}
