//! Every public call of the registry, made against the local hub. A call that is missing here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use iothub::{ErrorKind, Registry};
use iothub_emulator::LocalHub;

struct Drive {
    hub: LocalHub,
    registry: Registry,
    made: BTreeSet<&'static str>,
}

/// Makes a call and notes that it was made.
macro_rules! call {
    ($drive:ident.$name:ident($($argument:expr),* $(,)?)) => {{
        $drive.made.insert(stringify!($name));
        within($drive.registry.$name($($argument),*)).await
    }};
}

/// The same for a call that gives something to be polled later.
macro_rules! begin {
    ($drive:ident.$name:ident($($argument:expr),* $(,)?)) => {{
        $drive.made.insert(stringify!($name));
        $drive.registry.$name($($argument),*)
    }};
}

mod identities;
mod operations;

#[tokio::test]
async fn every_public_call_is_driven() {
    let hub = LocalHub::start().await.unwrap();
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    let mut drive = Drive { hub, registry, made: BTreeSet::new() };
    constructors(&mut drive);
    identities::devices(&mut drive).await;
    identities::modules(&mut drive).await;
    identities::changes(&mut drive).await;
    identities::twins(&mut drive).await;
    identities::bulks_and_queries(&mut drive).await;
    operations::methods(&mut drive).await;
    operations::jobs(&mut drive).await;
    operations::configurations(&mut drive).await;
    operations::numbers(&mut drive).await;
    operations::digital_twins(&mut drive).await;
    operations::transfer_jobs(&mut drive).await;

    let made: BTreeSet<String> = drive.made.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = public_calls().difference(&made).cloned().collect();
    assert!(missing.is_empty(), "never called: {missing:?}");
}

fn constructors(drive: &mut Drive) {
    let string = drive.hub.connection_string();
    assert_eq!(
        Registry::builder(&string).unwrap().options(drive.hub.client_options()).build().unwrap().host_name(),
        "localhost"
    );
    // Whether this machine trusts anybody decides whether it works; that it is parsed is seen either way.
    if let Err(error) = Registry::from_connection_string(&string) {
        assert_eq!(error.kind(), ErrorKind::Certificate);
    }
    drive.made.extend(["builder", "from_connection_string", "from_connection_string_with", "host_name"]);
}

/// The calls that the source has: `pub fn` and `pub async fn` in `impl Registry` below `registry/`.
fn public_calls() -> BTreeSet<String> {
    /// Tested with their feature, and with the messages.
    const ELSEWHERE: [&str; 3] = ["with_token_credential", "builder_with_token_credential", "messaging"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/iothub-service/src/registry");
    let mut calls = BTreeSet::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            let mut inside = false;
            for line in text.lines() {
                match line {
                    "impl Registry {" => inside = true,
                    "}" => inside = false,
                    _ if !inside => {}
                    _ => {
                        let start =
                            ["    pub async fn ", "    pub fn "].iter().find_map(|s| line.strip_prefix(s));
                        let name = start.and_then(|rest| rest.split(['(', '<']).next());
                        calls.extend(name.filter(|name| !ELSEWHERE.contains(name)).map(str::to_owned));
                    }
                }
            }
        }
    }
    assert!(calls.len() > 60, "{calls:?}");
    calls
}
