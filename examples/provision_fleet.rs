//! Creates a fleet, devices with two modules each, and shows how far it is. Interrupted with Ctrl-C and run again, it
//! goes on: what is there already is left as it is.
//!
//! ```text
//! cargo run --release --example provision_fleet -- --devices 5000
//! ```
//!
//! The hub is the one of `IOTHUB_CONNECTION_STRING`, else a local one inside this program, which ends with it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "support/hub.rs"]
mod hub;

use futures_util::StreamExt;
use iothub::service::BulkItem;
use iothub::{ErrorKind, Registry};

const MODULES: [&str; 2] = ["sensor", "updater"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let devices: usize = argument("--devices").map_or(Ok(5000), |text| text.parse())?;
    let hub = hub::from_environment().await?;
    let registry = Registry::from_connection_string_with(&hub.connection_string, hub.options.clone())?;

    // Nothing is made up in advance: the bulk takes the items as it sends them, a device before its modules.
    let items = (0..devices).flat_map(|n| {
        let id = format!("fleet-{n:06}");
        let modules = MODULES.map(|module| BulkItem::add_module(id.as_str(), module));
        std::iter::once(BulkItem::create_device(id)).chain(modules)
    });
    let mut results = registry.bulk(items).concurrency(8);
    let (total, mut made, mut found, mut failed) = (devices * (1 + MODULES.len()), 0, 0, 0);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let result = tokio::select! {
            result = results.next() => result,
            _ = &mut interrupted => {
                println!("\nstopped; run it again to go on");
                break;
            }
        };
        let Some(item) = result else { break };
        match item.result {
            Ok(()) => made += 1,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => found += 1,
            Err(error) => {
                failed += 1;
                eprintln!("\r{} {}: {error}", item.device_id, item.module_id.unwrap_or_default());
            }
        }
        show(made + found + failed, total);
    }
    println!("\n{made} made, {found} there already, {failed} failed");
    hub.shutdown().await;
    Ok(())
}

/// Draws the bar when there is a percent more.
fn show(done: usize, total: usize) {
    let percent = done * 100 / total;
    if done == 1 || percent != (done - 1) * 100 / total {
        eprint!("\r[{:<50}] {percent:3} % of {total}", "#".repeat(percent / 2));
    }
}

/// The value after a flag.
fn argument(flag: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != flag).nth(1)
}
