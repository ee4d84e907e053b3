//! Foreign peers as programs: found in `tests/interop`, which `tests/interop/run.sh` prepares.

use std::{env, path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::limit;

/// A peer of the table in `tests/interop/README.md`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Rhea,
    Proton,
}

impl Peer {
    /// The program that runs `script`, `client` or `server`. Killed when its handle is dropped.
    pub(crate) fn command(self, script: &str) -> Command {
        let home = env::var_os("IOTHUB_INTEROP_DIR").map(PathBuf::from);
        let home = home.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop").into());
        let mut command = match self {
            Self::Rhea => Command::new("node"),
            Self::Proton => {
                // A Python that has the package: the folder's own, or what the caller found elsewhere.
                let python = env::var_os("IOTHUB_INTEROP_PYTHON").map(PathBuf::from);
                Command::new(python.unwrap_or_else(|| home.join(".venv/bin/python")))
            }
        };
        let path = match self {
            Self::Rhea => format!("node/peer_{script}.js"),
            Self::Proton => format!("python/peer_{script}.py"),
        };
        command.arg(home.join(path)).kill_on_drop(true);
        command
    }
}

/// Starts a program that prints the port it listens on, and ends with its standard input.
pub(crate) async fn listening(mut command: Command) -> (Child, u16) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; see tests/interop/run.sh"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = limit("the port of the peer", lines.next_line()).await.unwrap();
    let line = line.unwrap_or_else(|| panic!("{command:?} ended without a port"));
    (child, line.trim().parse().unwrap())
}
