//! A device sends measurements, each with its properties, and a batch of those it kept.
//!
//! ```text
//! IOTHUB_DEVICE_CONNECTION_STRING='HostName=…;DeviceId=…;SharedAccessKey=…' cargo run --example telemetry
//! ```
//!
//! Without that variable a device is made on the hub of `IOTHUB_CONNECTION_STRING`, else on a local hub inside this
//! program. `--count N` sends N measurements one by one, `--websocket` goes through port 443.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use std::time::SystemTime;

use iothub::{DeviceClient, Message};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = hub::argument("--count").map_or(Ok(3), |text| text.parse())?;
    let (connection_string, options, hub) = hub::device_from_environment().await?;

    let client = DeviceClient::builder(&connection_string)?
        .options(options)
        .transport(hub::transport())
        .connect()
        .await?;
    println!("client opened");

    for number in 1..=count {
        client.send(measurement(number)?).await?;
        // The hub has it: `send` returns no sooner.
        println!("sent {number}");
    }
    let kept = [measurement(count + 1)?, measurement(count + 2)?];
    client.send_batch(&kept).await?;
    println!("sent a batch of {}", kept.len());

    client.close().await;
    if let Some(hub) = hub {
        hub.shutdown().await;
    }
    Ok(())
}

fn measurement(number: u32) -> iothub::Result<Message> {
    let temperature = 20.0 + f64::from(number) / 2.0;
    let message = Message::json(&json!({ "number": number, "temperature": temperature }))?
        .message_id(format!("measurement-{number}"))
        .creation_time(SystemTime::now())
        .property("level", if temperature > 30.0 { "alert" } else { "info" });
    Ok(message)
}
