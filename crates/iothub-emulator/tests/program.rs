//! The program: its ready line, `hub.env`, signals, exit codes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_rustls::TlsConnector;

use support::{soon, trusting};

struct Program {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    ready: HashMap<String, String>,
}

impl Program {
    async fn start(state_dir: &Path) -> Self {
        Self::spawn(command(&["--https-port", "0", "--amqps-port", "0"], state_dir)).await
    }

    async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon(stdout.next_line()).await.unwrap().unwrap();
        let rest = line.strip_prefix("ready ").unwrap();
        // The last one is a path, which may hold anything.
        let ready = rest
            .splitn(4, ' ')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { child, stdout, ready }
    }

    fn port(&self, name: &str) -> u16 {
        self.ready[name].parse().unwrap()
    }

    /// Sends a signal and gives the exit status and what came after the ready line on stdout and stderr.
    async fn end(mut self, signal: &str) -> (ExitStatus, String, String) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        let status = soon(self.child.wait()).await.unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.into_inner().read_to_string(&mut stdout).await.unwrap();
        self.child.stderr.unwrap().read_to_string(&mut stderr).await.unwrap();
        (status, stdout, stderr)
    }
}

fn command(args: &[&str], state_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iothub-emulator"));
    command.args(args).arg("--state-dir").arg(state_dir);
    command.env("RUST_LOG", "trace").env_remove("XDG_STATE_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a program that is expected to fail; gives what it said.
async fn failure(args: &[&str], state_dir: &Path) -> String {
    let output = soon(command(args, state_dir).env("RUST_LOG", "off").output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// The variables of `hub.env` as a shell sees them.
async fn sourced(file: &Path) -> HashMap<String, String> {
    let script = r#"set -a; . "$1"; env"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(file).env_clear().output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.contains("HUB_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn serves_and_tells_how_to_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("it's here");
    let program = Program::start(&state).await;
    let (https, amqps) = (program.port("https-port"), program.port("amqps-port"));
    assert_eq!(program.ready["host"], "localhost");
    for port in [https, amqps] {
        soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    }

    let env = sourced(&state.join("hub.env")).await;
    let ca_file = PathBuf::from(&env["IOTHUB_CA_FILE"]);
    assert!(ca_file.is_absolute());
    assert!(std::fs::read_to_string(&ca_file).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(env["IOTHUB_HTTPS_PORT"], https.to_string());
    assert_eq!(env["IOTHUB_AMQPS_PORT"], amqps.to_string());
    let connection_string = &env["IOTHUB_CONNECTION_STRING"];
    let prefix = "HostName=localhost;SharedAccessKeyName=iothubowner;SharedAccessKey=";
    let key = connection_string.strip_prefix(prefix).unwrap();
    assert_eq!(key.len(), 44);
    let events = &env["EVENTHUB_CONNECTION_STRING"];
    let prefix = format!("Endpoint=sb://localhost:{amqps}/;SharedAccessKeyName=service;SharedAccessKey=");
    let (events_key, entity) = events.strip_prefix(&prefix).unwrap().split_once(';').unwrap();
    assert_eq!((events_key.len(), entity), (44, "EntityPath=localhost"));

    for name in ["hub.env", "authority.pem", "policies.json"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&state), 0o700);

    let (status, stdout, stderr) = program.end("-TERM").await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(stdout, "", "one line only");
    assert!(stderr.contains("hub started"), "{stderr}");
    assert!(!stderr.contains(key), "no key in the log");
}

#[tokio::test]
async fn ends_on_ctrl_c_with_connections_open() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let mut open = Vec::new();
    for port in [program.port("https-port"), program.port("amqps-port")] {
        open.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let (status, ..) = program.end("-INT").await;
    assert_eq!(status.code(), Some(0));
    drop(open);
}

#[tokio::test]
async fn serves_again_after_running_out_of_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"ulimit -n 40; exec "$0" "$@""#, env!("CARGO_BIN_EXE_iothub-emulator")]);
    limited.args(["--https-port", "0", "--amqps-port", "0", "--state-dir"]).arg(dir.path());
    limited.env("RUST_LOG", "info").stdin(Stdio::null());
    limited.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut program = Program::spawn(limited).await;
    let port = program.port("https-port");

    let mut many = Vec::new();
    for _ in 0..60 {
        many.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let mut log = BufReader::new(program.child.stderr.take().unwrap()).lines();
    soon(async { while !log.next_line().await.unwrap().unwrap().contains("cannot accept connections") {} })
        .await;
    drop(many);

    let ca = std::fs::read_to_string(dir.path().join("ca.pem")).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connecting = TlsConnector::from(trusting(&ca)).connect("localhost".try_into().unwrap(), stream);
    soon(connecting).await.unwrap();
}

#[tokio::test]
async fn second_run_has_the_same_authority_and_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let program = Program::start(dir.path()).await;
        let env = sourced(&dir.path().join("hub.env")).await;
        let ca = std::fs::read_to_string(&env["IOTHUB_CA_FILE"]).unwrap();
        runs.push((ca, env["IOTHUB_CONNECTION_STRING"].clone()));
        assert_eq!(program.end("-TERM").await.0.code(), Some(0));
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn port_in_use_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = failure(&["--https-port", "0", "--amqps-port", &port], dir.path()).await;
    assert!(text.contains(&format!("cannot listen on port {port}")), "{text}");
    assert!(!dir.path().join("hub.env").exists());
}

#[tokio::test]
async fn state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let state = file.join("state");
    let text = failure(&["--https-port", "0", "--amqps-port", "0"], &state).await;
    assert!(text.contains(&format!("cannot create the state directory {}", state.display())), "{text}");
}

#[tokio::test]
async fn damaged_state_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policies.json"), "{").unwrap();
    let text = failure(&["--https-port", "0", "--amqps-port", "0"], dir.path()).await;
    assert!(text.contains("policies.json is damaged"), "{text}");
}

#[tokio::test]
async fn host_name_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--hostname", "a b", "--https-port", "0", "--amqps-port", "0"];
    let text = failure(&args, dir.path()).await;
    assert!(text.contains("host name `a b`"), "{text}");
}
