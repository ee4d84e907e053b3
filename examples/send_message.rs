//! Sends a message to a device and waits for what becomes of it.
//!
//! ```text
//! cargo run --example send_message -- myDevice 'wake up' [--wish reject]
//! ```
//!
//! The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program, with a device that takes
//! what comes. `--wish` is a property that the example `cloud_messages` heeds.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use std::time::Duration;

use iothub::DeviceClient;
use iothub::service::{CloudMessage, DeliveryAck};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let device_id = arguments.next().unwrap_or_else(|| "myFirstDevice".into());
    let text = arguments.next().unwrap_or_else(|| "wake up".into());

    let hub = hub::from_environment().await?;
    let messaging = hub.registry()?.messaging();
    if std::env::var("IOTHUB_CONNECTION_STRING").is_err() {
        start_device(&hub, &device_id).await?;
    }

    let mut message = CloudMessage::new(text).ack(DeliveryAck::Full).expires_in(Duration::from_secs(3600));
    if let Some(wish) = hub::argument("--wish") {
        message = message.property("wish", wish);
    }
    // Listen first: all services share the feedback, and take it as it comes.
    let mut feedback = messaging.feedback().await?;
    let id = messaging.send_to_device(&device_id, message).await?;
    println!("sent {id}");
    let record = loop {
        let batch = feedback.next().await.ok_or("the feedback ended")??;
        let record = batch.records.iter().find(|record| record.original_message_id == id).cloned();
        batch.complete().await?;
        if let Some(record) = record {
            break record;
        }
    };
    println!("{:?} by {}", record.status, record.device_id);

    messaging.close().await;
    hub.shutdown().await;
    Ok(())
}

/// A device in this program that takes every message.
async fn start_device(hub: &hub::Hub, device_id: &str) -> Result<(), Box<dyn std::error::Error>> {
    let registry = hub.registry()?;
    let device = registry.get_or_create_device(device_id).await?;
    let connection_string = device.connection_string(registry.host_name()).ok_or("the device has no key")?;
    let client = DeviceClient::connect_with(&connection_string, hub.options.clone()).await?;
    let mut messages = client.messages().await?;
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            message.complete().await.ok();
        }
    });
    Ok(())
}
