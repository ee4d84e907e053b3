//! The hub through its handle: tokens, connections, the clock.

#![allow(clippy::unwrap_used)]

mod device_bound;
mod events;
mod files;
mod live;
mod methods;
mod snapshot;
mod tokens;

use serde_json::json;

use super::*;

const HOST: &str = "myhub.azure-devices.net";

fn hub() -> Hub {
    Hub::new(HubConfig::new(HOST).unwrap())
}

/// A hub with device `d` and module `m` on it.
fn hub_with_module() -> (Hub, Identity, Identity) {
    let hub = hub();
    hub.put_device("d", &json!({}), Precondition::None).unwrap();
    hub.put_module("d", "m", &json!({}), Precondition::None).unwrap();
    (hub, Identity::device("d").unwrap(), Identity::module("d", "m").unwrap())
}
