//! A device takes messages from the cloud until Ctrl-C. One that says `reject` in its property `wish` is rejected, one
//! that says `abandon` is given back the first time it comes; every other one is completed.
//!
//! ```text
//! IOTHUB_DEVICE_CONNECTION_STRING='HostName=…;DeviceId=…;SharedAccessKey=…' cargo run --example cloud_messages
//! ```
//!
//! Without that variable a device is made on the hub of `IOTHUB_CONNECTION_STRING`, else on a local hub inside this
//! program. `--websocket` goes through port 443. The other side: `cargo run --example send_message`.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use iothub::service::{CloudMessage, DeliveryAck};
use iothub::{DeviceClient, ReceivedMessage};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (connection_string, options, hub) = hub::device_from_environment().await?;

    let client = DeviceClient::builder(&connection_string)?
        .options(options)
        .transport(hub::transport())
        .connect()
        .await?;
    let mut messages = client.messages().await?;
    println!("listening for messages");

    let take = async {
        while let Some(message) = messages.next().await {
            let id = message.message_id().unwrap_or_default();
            println!("message {id}: {}", String::from_utf8_lossy(message.body()));
            // A message that could not be settled comes again.
            match settle(message).await {
                Ok(how) => println!("{how} {id}"),
                Err(error) => println!("message {id} comes again: {error}"),
            }
        }
    };
    tokio::select! {
        () = take => {}
        result = service(hub.as_ref()) => result?,
        _ = tokio::signal::ctrl_c() => {}
    }

    client.close().await;
    if let Some(hub) = hub {
        hub.shutdown().await;
    }
    Ok(())
}

/// Nobody else knows of a local hub inside this program.
async fn service(hub: Option<&hub::Hub>) -> iothub::Result<()> {
    let Some(hub) = hub else { return std::future::pending().await };
    let messaging = hub.registry()?.messaging();
    let mut feedback = messaging.feedback().await?;
    messaging.send_to_device("myFirstDevice", CloudMessage::new("hello").ack(DeliveryAck::Full)).await?;
    if let Some(batch) = feedback.next().await {
        println!("the service got {:?}", batch?.records[0].status);
    }
    Ok(())
}

async fn settle(message: ReceivedMessage) -> iothub::Result<&'static str> {
    match message.property("wish") {
        Some("reject") => message.reject().await.map(|()| "rejected"),
        Some("abandon") if message.delivery_count() == 0 => message.abandon().await.map(|()| "abandoned"),
        _ => message.complete().await.map(|()| "completed"),
    }
}
