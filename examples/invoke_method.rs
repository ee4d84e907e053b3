//! Invokes a direct method on a device and tells what came of it.
//!
//! ```text
//! cargo run --example invoke_method -- myDevice reboot '{"delay": 5}'
//! ```
//!
//! The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program, with a device that answers.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use std::time::Duration;

use iothub::service::DirectMethod;
use iothub::{DeviceClient, ErrorKind, Registry};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let device_id = arguments.next().unwrap_or_else(|| "myFirstDevice".into());
    let name = arguments.next().unwrap_or_else(|| "reboot".into());
    let payload: Value =
        arguments.next().map_or(Ok(json!({ "delay": 5 })), |text| serde_json::from_str(&text))?;

    let hub = hub::from_environment().await?;
    let registry = Registry::from_connection_string_with(&hub.connection_string, hub.options.clone())?;
    if std::env::var("IOTHUB_CONNECTION_STRING").is_err() {
        start_device(&registry, &hub, &device_id).await?;
    }

    let method = DirectMethod::new(name)
        .payload(&payload)
        .connect_timeout(Duration::from_secs(10))
        .response_timeout(Duration::from_secs(30));
    match registry.invoke_device_method(&device_id, method).await {
        Ok(answer) => println!("the device answered {}: {}", answer.status, answer.payload),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => println!("there is no such device: {error}"),
            ErrorKind::Unavailable => println!("it is not connected, or has no methods: {error}"),
            ErrorKind::Timeout => println!("it did not answer in time; it may have done it: {error}"),
            _ => return Err(error.into()),
        },
    }
    hub.shutdown().await;
    Ok(())
}

/// A device in this program that answers every method with what it got.
async fn start_device(
    registry: &Registry,
    hub: &hub::Hub,
    device_id: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let device = registry.get_or_create_device(device_id).await?;
    let connection_string = device.connection_string(registry.host_name()).ok_or("the device has no key")?;
    let client = DeviceClient::connect_with(&connection_string, hub.options.clone()).await?;
    let mut methods = client.methods().await?;
    tokio::spawn(async move {
        while let Some(request) = methods.next().await {
            let echo = json!({ "method": request.name(), "got": request.payload_as::<Value>().ok() });
            request.respond(200, &echo).await.ok();
        }
        client.close().await;
    });
    Ok(())
}
