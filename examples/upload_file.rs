//! A device uploads a file to the storage account of its hub and shows how far it is.
//!
//! ```text
//! cargo run --example upload_file -- --file /var/log/syslog --name logs/syslog.txt
//! ```
//!
//! Without `--file` some lines are made up and uploaded as a stream. The device is that of
//! `IOTHUB_DEVICE_CONNECTION_STRING`, else one on the hub of `IOTHUB_CONNECTION_STRING`, else one on a local hub inside
//! this program. A hub in the cloud needs a storage account: *File upload* in the portal.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use std::convert::Infallible;

use futures_util::stream;
use iothub::{
    DeviceClient,
    device::{UploadOptions, UploadSource},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (connection_string, options, hub) = hub::device_from_environment().await?;
    let client = DeviceClient::connect_with(&connection_string, options).await?;
    println!("client opened");

    let (source, content_type) = match hub::argument("--file") {
        Some(path) => (UploadSource::file(path), "application/octet-stream"),
        None => (measurements(), "text/csv"),
    };
    let name = hub::argument("--name").unwrap_or_else(|| "measurements.csv".into());
    let options =
        UploadOptions::default().content_type(content_type).block_size(256 * 1024).on_progress(|progress| {
            match progress.total {
                Some(total) => println!("{} of {total} bytes", progress.sent),
                None => println!("{} bytes", progress.sent),
            }
        });
    let file = client.upload_file_with(&name, source, &options).await?;
    println!("uploaded {} bytes to {}", file.size, file.blob_uri);

    client.close().await;
    if let Some(hub) = hub {
        hub.shutdown().await;
    }
    Ok(())
}

/// 50,000 lines; none of them is in memory before it is its turn.
fn measurements() -> UploadSource {
    let lines = (0..50_000).map(|n| Ok::<_, Infallible>(format!("{n},{}\n", 20 + n % 7)));
    UploadSource::stream(stream::iter(lines))
}
