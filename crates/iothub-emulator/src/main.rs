//! The local hub as a program: flags to builder, signals to shutdown.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use iothub_emulator::LocalHub;
use tracing_subscriber::EnvFilter;

/// A local Azure IoT Hub for development and tests.
///
/// Once it serves it prints one line that starts with `ready`. How to reach it, a key included, is then in the file
/// `hub.env` of the state directory; in a shell: `set -a; . DIR/hub.env; set +a`. Ctrl-C ends it.
/// Identities and twins live as long as the program, the authority and the policy keys as long as the directory.
#[derive(Debug, Parser)]
#[command(name = "iothub-emulator", version)]
struct Flags {
    /// Name of the hub. Give it again for further names in the certificate; the first one is the hub's own
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    hostname: Vec<String>,

    /// Port for REST; 0 picks a free one. Microsoft's clients only know 443
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    https_port: u16,

    /// Port for AMQP; 0 picks a free one. Microsoft's clients only know 5671
    #[arg(long, value_name = "PORT", default_value_t = 5671)]
    amqps_port: u16,

    /// Address to listen on instead of the loopback ones; can be given again. `::` or `0.0.0.0` lets other machines in
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<IpAddr>,

    /// Where the authority, the policy keys and `hub.env` are kept. Default: the user's state directory
    /// (`$XDG_STATE_HOME/iothub-emulator`, else `~/.local/state/iothub-emulator`; on Windows
    /// `%LOCALAPPDATA%\iothub-emulator`), so that the authority is the same from wherever it is started
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// An authority that may sign the certificates of devices, as a PEM file; can be given again
    #[arg(long, value_name = "FILE")]
    device_ca: Vec<PathBuf>,

    /// Play the workload API of an IoT Edge runtime at unix:///path/to/socket or http://127.0.0.1:port. Whoever reaches
    /// it can sign as any module
    #[arg(long, value_name = "URI")]
    edge_workload: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    log_to_stderr();
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "iothub-emulator: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let state_dir = flags.state_dir.or_else(default_state_dir);
    let state_dir =
        state_dir.ok_or("there is no home directory; say where to keep keys with --state-dir DIR")?;

    let mut builder =
        LocalHub::builder().https_port(flags.https_port).amqps_port(flags.amqps_port).state_dir(state_dir);
    for name in flags.hostname {
        builder = builder.hostname(name);
    }
    for address in flags.bind {
        builder = builder.bind(address);
    }
    for file in flags.device_ca {
        let pem = std::fs::read_to_string(&file);
        let pem = pem.map_err(|error| format!("cannot read the authority {}: {error}", file.display()))?;
        builder = builder.device_authority(pem);
    }
    if let Some(uri) = flags.edge_workload {
        builder = builder.edge_workload(uri);
    }
    // Before the ready line: who reads it may send the signal at once.
    let end = Signals::listen()?;
    let hub = builder.start().await?;

    writeln!(
        io::stdout(),
        "ready host={} https-port={} amqps-port={} env={}",
        hub.host_name(),
        hub.https_port(),
        hub.amqps_port(),
        hub.env_file().unwrap_or(".".as_ref()).display(),
    )?;
    end.received().await;
    hub.shutdown().await;
    Ok(())
}

fn log_to_stderr() {
    let given = EnvFilter::try_from_default_env();
    // Unset is the usual case and no mistake.
    let mistake = given.as_ref().err().filter(|_| std::env::var_os(EnvFilter::DEFAULT_ENV).is_some());
    let mistake = mistake.map(ToString::to_string);
    let filter = given.unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).init();
    if let Some(mistake) = mistake {
        tracing::warn!(mistake, "RUST_LOG is not a log filter; logging from info on");
    }
}

/// One directory for a user rather than one in each working directory: its authority is trusted once, and no
/// key gets into a repository.
fn default_state_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let parent = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else {
        // The XDG specification wants relative paths ignored.
        let xdg = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
        xdg.or_else(|| set("HOME").map(|home| home.join(".local/state")))
    };
    Some(parent?.join("iothub-emulator"))
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The signals that ask a program to end.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signals that ask a program to end.
#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    close: tokio::signal::windows::CtrlClose,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_c, ctrl_close};
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_close()? })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.close.recv() => {}
        }
    }
}
