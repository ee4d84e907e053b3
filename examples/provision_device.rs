//! A device that knows no hub: it asks the Device Provisioning Service for one, connects to it and reports.
//!
//! ```text
//! IOTHUB_ID_SCOPE=0ne00111111 IOTHUB_GROUP_KEY='…' cargo run --example provision_device -- --registration-id sensor-01
//! ```
//!
//! `IOTHUB_GROUP_KEY` is the key of an enrollment group; `IOTHUB_DEVICE_KEY` in its place is that of an individual
//! enrollment. Without `IOTHUB_ID_SCOPE` a group is enrolled in a local hub inside this program.
#![allow(clippy::print_stdout)]

use iothub::{
    ClientOptions, SymmetricKey,
    device::{ProvisioningClient, Result},
};
use iothub_emulator::{
    LocalHub,
    provisioning::{Attestation, Enrollment},
};
use serde_json::json;

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip_while(|arg| arg != "--registration-id");
    let registration_id = arguments.nth(1).unwrap_or_else(|| "sensor-01".into());

    let (registration, hub) = match std::env::var("IOTHUB_ID_SCOPE") {
        Ok(id_scope) => (from_environment(&id_scope, &registration_id)?, None),
        Err(_) => {
            let hub = LocalHub::start().await?;
            (on_local_hub(&hub, &registration_id)?, Some(hub))
        }
    };
    let assignment = registration.register().await?;
    println!("assigned to {} as {}", assignment.hub(), assignment.device_id());

    let client = assignment.device_client()?.connect().await?;
    println!("client opened");
    let version = client.twin().report(&json!({ "firmwareVersion": "1.2.1" })).await?;
    println!("twin state reported, version {version}");
    client.close().await;
    if let Some(hub) = hub {
        hub.shutdown().await;
    }
    Ok(())
}

fn from_environment(
    id_scope: &str,
    registration_id: &str,
) -> std::result::Result<ProvisioningClient, Box<dyn std::error::Error>> {
    let client = match std::env::var("IOTHUB_GROUP_KEY") {
        Ok(key) => ProvisioningClient::with_group_key(id_scope, registration_id, &key)?,
        Err(_) => {
            let key = std::env::var("IOTHUB_DEVICE_KEY")
                .map_err(|_| "set IOTHUB_GROUP_KEY or IOTHUB_DEVICE_KEY")?;
            ProvisioningClient::with_symmetric_key(id_scope, registration_id, &key)?
        }
    };
    Ok(client.options(ClientOptions::from_env()?))
}

/// Enrolls a group, as the owner of the service would, and gives its key to the device.
fn on_local_hub(hub: &LocalHub, registration_id: &str) -> Result<ProvisioningClient> {
    let key = SymmetricKey::generate()?;
    let attestation = Attestation::keys(key.clone(), SymmetricKey::generate()?);
    hub.provisioning().enroll(Enrollment::group("production-line", attestation));
    let scope = hub.provisioning().id_scope();
    let client = ProvisioningClient::with_group_key(scope, registration_id, key.to_base64().reveal())?;
    Ok(client.host_name(hub.host_name())?.options(hub.client_options()))
}
