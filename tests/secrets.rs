//! No key and no token is ever written to a log, at whatever level.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use iothub::{ClientOptions, ModuleClient, Registry, TwinPatch, service::StartPosition};
use serde_json::json;
use support::{Bench, Cable, DEVICE, MODULE, within};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

/// Everything that is logged in this process: by the SDK, by the local hub, and by the crates that they use.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

// The only test of this file: there is one log in a process.
#[tokio::test]
async fn a_whole_life_at_trace_level_shows_no_key_and_no_token() {
    let log = Log::default();
    let spans = tracing_subscriber::fmt::format::FmtSpan::FULL;
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_span_events(spans)
        .with_writer(log.clone())
        .init();

    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    let client = within(ModuleClient::connect_with(&bench.module, options.clone())).await.unwrap();
    let twin = client.twin();
    let mut desired = within(twin.desired()).await.unwrap();
    within(desired.next()).await.unwrap();
    within(twin.report(&json!({ "a": 1 }))).await.unwrap();
    within(client.send("hello")).await.unwrap();
    let mut changes = client.status_changes();
    cable.cut();
    while within(changes.next()).await.unwrap().is_connected() {}
    cable.mend();
    let patch = TwinPatch::new().desired(&json!({ "b": 2 }));
    within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
    within(desired.next()).await.unwrap();
    within(client.send("again")).await.unwrap();
    let mut events = within(bench.registry.events().start(StartPosition::Earliest).stream()).await.unwrap();
    within(events.next()).await.unwrap().unwrap();
    within(client.close()).await;
    // What goes wrong is not told with the secret either.
    let wrong_key = "bm90LXRoZS1yaWdodC1rZXktZm9yLXRoaXMtbW9kdWxl";
    let wrong = bench.module_with("SharedAccessKey", wrong_key);
    within(Box::pin(bench.connect_once(&wrong))).await.unwrap_err();
    let service = bench.hub.connection_string();
    let unknown = Registry::from_connection_string_with(&service, bench.options()).unwrap();
    within(unknown.get_module(DEVICE, "missing")).await.unwrap_err();
    let debugged =
        format!("{client:?} {:?} {:?} {unknown:?}", bench.registry, ModuleClient::builder(&bench.module));

    let key_of = |connection_string: &str| {
        let part = connection_string.split(';').find_map(|p| p.strip_prefix("SharedAccessKey="));
        part.unwrap().to_owned()
    };
    let log = log.text();
    for target in ["iothub_device", "iothub_amqp", "rustls", "hyper"] {
        assert!(log.contains(&format!(" {target}")), "nothing of {target} at all");
    }
    for expected in ["connection{", "attempt=2", "call{"] {
        assert!(log.contains(expected), "{expected}");
    }
    let secrets = [key_of(&bench.module), key_of(&service), wrong_key.to_owned()];
    let secrets = secrets.iter().map(String::as_str).chain(["sig=", "sig%3D"]);
    for secret in secrets {
        // The key itself would be in the output of a failing test.
        let line = log.lines().chain([debugged.as_str()]).find(|line| line.contains(secret));
        assert!(line.is_none(), "a secret is in a line that begins with {:.120}", line.unwrap());
    }
}
