//! A device answers direct methods until Ctrl-C: `getStatus`, `setInterval` with a number of seconds, and to every
//! other one that it does not know it.
//!
//! ```text
//! IOTHUB_DEVICE_CONNECTION_STRING='HostName=…;DeviceId=…;SharedAccessKey=…' cargo run --example direct_methods
//! ```
//!
//! Without that variable a device is made on the hub of `IOTHUB_CONNECTION_STRING`, else on a local hub inside this
//! program. `--websocket` goes through port 443. The other side: `cargo run --example invoke_method`.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use std::time::Duration;

use iothub::{DeviceClient, MethodRequest};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (connection_string, options, hub) = hub::device_from_environment().await?;

    let client = DeviceClient::builder(&connection_string)?
        .options(options)
        .transport(hub::transport())
        .connect()
        .await?;
    let mut requests = client.methods().await?;
    println!("listening for methods");

    let mut interval = Duration::from_secs(60);
    let answer = async {
        while let Some(request) = requests.next().await {
            println!("{} called with {}", request.name(), String::from_utf8_lossy(request.payload()));
            // An answer that is too late is no reason to stop.
            if let Err(error) = respond(request, &mut interval).await {
                println!("the answer was not delivered: {error}");
            }
        }
    };
    tokio::select! {
        () = answer => {}
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
    let answer = hub.registry()?.invoke_device_method("myFirstDevice", "getStatus").await?;
    println!("the service got {} {}", answer.status, answer.payload);
    Ok(())
}

async fn respond(request: MethodRequest, interval: &mut Duration) -> iothub::Result<()> {
    match request.name() {
        "getStatus" => request.respond(200, &json!({ "interval": interval.as_secs() })).await,
        "setInterval" => match request.payload_as() {
            Ok(seconds) => {
                *interval = Duration::from_secs(seconds);
                request.respond(200, &()).await
            }
            Err(error) => request.respond(400, &error.to_string()).await,
        },
        name => {
            let text = format!("there is no method {name}");
            request.respond(404, &text).await
        }
    }
}
