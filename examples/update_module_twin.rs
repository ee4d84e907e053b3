//! A module: prints its twin, reports, and follows its desired properties until Ctrl-C.
//!
//! ```text
//! IOTHUB_MODULE_CONNECTION_STRING='HostName=…;DeviceId=…;ModuleId=…;SharedAccessKey=…' \
//!     cargo run --example update_module_twin
//! ```
//!
//! Without that variable a module is made on the hub of `IOTHUB_CONNECTION_STRING`, else on a local hub inside
//! this program. `IOTHUB_CA_FILE` and `IOTHUB_AMQPS_PORT` are for a local hub as a separate process.
#![allow(clippy::print_stdout)]

#[path = "support/hub.rs"]
mod hub;

use iothub::ModuleClient;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (connection_string, options, hub) = hub::module_from_environment().await?;

    let client = ModuleClient::connect_with(&connection_string, options).await?;
    println!("client opened");
    let twin = client.twin();
    println!("twin contents:\n{}", twin.get().await?);

    let mut desired = twin.desired().await?;
    let patch = json!({
        "updateTime": "2026-11-25T08:00:00Z",
        "firmwareVersion": "1.2.1",
        "weather": { "temperature": 72, "humidity": 17 },
    });
    let follow = async {
        let mut reported = false;
        while let Some(update) = desired.next().await {
            println!("new desired properties received:\n{}", update.properties());
            if !reported {
                twin.report(&patch).await?;
                println!("twin state reported");
                reported = true;
            }
        }
        Ok::<_, iothub::Error>(())
    };
    tokio::select! {
        result = follow => result?,
        _ = tokio::signal::ctrl_c() => {}
    }

    client.close().await;
    if let Some(hub) = hub {
        hub.shutdown().await;
    }
    Ok(())
}
