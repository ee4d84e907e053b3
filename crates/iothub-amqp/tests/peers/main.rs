//! Our engine against engines that are not ours: the stock fe2o3-amqp client and acceptor in this process,
//! rhea and qpid-proton as programs of their own.
//!
//! Both directions use one set of addresses, written down in `node.rs`. `node.rs` is our server, which the
//! foreign clients are let loose on; `suite.rs` is what our client asks of every foreign server.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod client;
mod foreign_clients;
mod foreign_servers;
mod heartbeat;
mod node;
mod numbered;
mod process;
mod stock_acceptor;
mod stock_client;
mod suite;

use std::{future::Future, time::Duration};

/// Nothing here takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for something that must come, and says what did not.
async fn limit<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: did not happen within {LIMIT:?}"),
    }
}
