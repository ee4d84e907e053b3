//! A local hub for one test, with a device and a module on it.
#![allow(dead_code, unused_imports)] // Each test file uses its part.
#![allow(clippy::unwrap_used)]

mod cable;
mod proxy;

use std::{future::Future, time::Duration};

use iothub::{ClientOptions, ModuleClient, Registry, RetryPolicy};
use iothub_emulator::LocalHub;

pub(crate) use cable::Cable;
pub(crate) use proxy::ProxyServer;

pub(crate) const DEVICE: &str = "test-device";
pub(crate) const MODULE: &str = "test-module";

/// No step of a test takes longer; a test that hangs fails here instead of stopping the run.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) hub: LocalHub,
    pub(crate) registry: Registry,
    pub(crate) module: String,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let hub = LocalHub::start().await.unwrap();
        let registry =
            Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
        registry.create_device(DEVICE).await.unwrap();
        let module = registry.add_module(DEVICE, MODULE).await.unwrap();
        let module = module.connection_string(registry.host_name()).unwrap();
        Self { hub, registry, module }
    }

    pub(crate) fn options(&self) -> ClientOptions {
        self.hub.client_options()
    }

    pub(crate) async fn connect(&self) -> ModuleClient {
        within(ModuleClient::connect_with(&self.module, self.options())).await.unwrap()
    }

    /// The module's connection string with one part changed.
    pub(crate) fn module_with(&self, part: &str, value: &str) -> String {
        let change = |p: &str| match p.split_once('=') {
            Some((name, _)) if name == part => format!("{name}={value}"),
            _ => p.to_owned(),
        };
        self.module.split(';').map(change).collect::<Vec<_>>().join(";")
    }

    /// One attempt, no second: for errors that would be tried again.
    pub(crate) async fn connect_once(&self, connection_string: &str) -> iothub::Result<ModuleClient> {
        let builder = ModuleClient::builder(connection_string)?;
        within(builder.options(self.options()).retry(RetryPolicy::never()).connect()).await
    }
}

pub(crate) fn within<F: Future>(step: F) -> impl Future<Output = F::Output> {
    // On the heap: some steps are large.
    let step = Box::pin(step);
    async move { tokio::time::timeout(LIMIT, step).await.expect("a step took longer than a minute") }
}
