//! The examples as a user runs them: as programs, on an embedded hub and on a hub in another process.
#![allow(clippy::unwrap_used)]

mod support;

use std::{path::PathBuf, process::Stdio};

use iothub::{Registry, TwinPatch};
use iothub_emulator::LocalHub;
use serde_json::json;
use support::{Bench, DEVICE, MODULE, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
};

/// `cargo test` builds the examples next to the tests.
fn example(name: &str) -> Command {
    let deps = std::env::current_exe().unwrap();
    let program: PathBuf = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: run the tests with cargo test", program.display());
    let mut command = Command::new(program);
    for name in
        ["CONNECTION_STRING", "MODULE_CONNECTION_STRING", "DEVICE_CONNECTION_STRING", "CA_FILE", "ID_SCOPE"]
    {
        command.env_remove(format!("IOTHUB_{name}"));
    }
    command.env_remove("IOTHUB_HTTPS_PORT").env_remove("IOTHUB_AMQPS_PORT").kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> String {
    let output = within(command.output()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

/// Each of `lines` begins a line of `text`, in this order.
fn assert_in_order(text: &str, lines: &[&str]) {
    let mut rest = text.lines();
    for line in lines {
        assert!(rest.any(|l| l.starts_with(line)), "{line:?} is missing, or out of order, in:\n{text}");
    }
}

#[tokio::test]
async fn the_tutorial_prints_its_lines_in_order() {
    let text = output(&mut example("module_twin_tutorial")).await;
    assert_in_order(
        &text,
        &[
            "device connection string = \"HostName=localhost;DeviceId=myFirstDevice;SharedAccessKey=",
            "module connection string = \"HostName=localhost;DeviceId=myFirstDevice;ModuleId=myFirstModule;",
            "client opened",
            "twin contents:",
            r#"{"desired":{"$version":1},"reported":{"$version":1}}"#,
            "new desired properties received:",
            r#"{"$version":1}"#,
            "twin state reported",
            "new desired properties received:",
            r#"{"telemetryInterval":30,"$version":2}"#,
            "reported properties as the service sees them:",
        ],
    );
    assert!(text.contains(r#""firmwareVersion":"1.2.1""#));
}

#[tokio::test]
async fn create_identities_runs_alone_on_an_embedded_hub() {
    let mut command = example("create_identities");
    let text = output(command.args(["--device-id", "D", "--module-id", "M"])).await;
    assert_in_order(&text, &["device connection string = \"", "module connection string = \""]);
    assert!(text.contains("DeviceId=D;ModuleId=M;"));
    assert!(!text.contains("exists"));
}

#[tokio::test]
async fn create_identities_run_twice_prints_the_existing_ones() {
    let dir = tempfile::tempdir().unwrap();
    let hub = LocalHub::builder().state_dir(dir.path()).start().await.unwrap();
    let create = || {
        let mut command = example("create_identities");
        command.args(["--device-id", "D", "--module-id", "M"]).envs(hub_env(&hub));
        command
    };
    let first = output(&mut create()).await;
    let second = output(&mut create()).await;
    assert_in_order(&second, &["device D exists", "module M exists", "device connection string"]);
    let strings = |text: &str| {
        let is_string = |l: &&str| l.contains("connection string");
        text.lines().filter(is_string).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(strings(&first), strings(&second));
    within(hub.shutdown()).await;
}

#[tokio::test]
async fn update_module_twin_follows_desired_properties_until_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let hub = LocalHub::builder().state_dir(dir.path()).start().await.unwrap();
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    registry.create_device(DEVICE).await.unwrap();
    let module = registry.add_module(DEVICE, MODULE).await.unwrap();
    let module = module.connection_string(registry.host_name()).unwrap();

    let mut command = example("update_module_twin");
    command.envs(hub_env(&hub)).env("IOTHUB_MODULE_CONNECTION_STRING", module).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in [
        "client opened",
        "twin contents:",
        r#"{"desired":{"$version":1},"reported":{"$version":1}}"#,
        "new desired properties received:",
        r#"{"$version":1}"#,
        "twin state reported",
    ] {
        assert_eq!(next(&mut lines).await, line);
    }
    let patch = TwinPatch::new().desired(&json!({ "n": 1 }));
    registry.update_module_twin(DEVICE, MODULE, &patch).await.unwrap();
    assert_eq!(next(&mut lines).await, "new desired properties received:");
    assert_eq!(next(&mut lines).await, r#"{"n":1,"$version":2}"#);
    let twin = registry.get_module_twin(DEVICE, MODULE).await.unwrap();
    assert_eq!(twin.properties.reported.get::<String>("firmwareVersion").unwrap().as_deref(), Some("1.2.1"));

    // Ctrl-C.
    let pid = child.id().unwrap().to_string();
    assert!(within(Command::new("kill").args(["-INT", &pid]).status()).await.unwrap().success());
    assert!(within(child.wait()).await.unwrap().success());
    within(hub.shutdown()).await;
}

#[tokio::test]
async fn upload_file_shows_its_progress_and_where_the_file_is() {
    let text = output(&mut example("upload_file")).await;
    assert_in_order(&text, &["client opened", "0 bytes", "438890 bytes", "uploaded 438890 bytes to "]);
    assert!(text.contains("/myFirstDevice/measurements.csv"));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hello").unwrap();
    let mut command = example("upload_file");
    let text = output(command.args(["--name", "a/b"]).arg("--file").arg(file.path())).await;
    assert_in_order(&text, &["0 of 5 bytes", "5 of 5 bytes", "uploaded 5 bytes to "]);
}

#[tokio::test]
async fn provision_device_gets_a_hub_and_uses_it() {
    let mut command = example("provision_device");
    let text = output(command.args(["--registration-id", "Line:7"])).await;
    assert_in_order(
        &text,
        &["assigned to localhost as Line:7", "client opened", "twin state reported, version 2"],
    );
}

#[tokio::test]
async fn a_query_goes_on_in_a_new_process_from_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let hub = LocalHub::builder().state_dir(dir.path()).start().await.unwrap();
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    let ids: Vec<_> = (0..250).map(|n| format!("device-{n:03}")).collect();
    let report = within(registry.create_devices(ids.clone()).report()).await;
    assert!(report.failed.is_empty());

    let (mut seen, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut command = example("page_through");
        let text = output(command.args(token.take()).envs(hub_env(&hub))).await;
        for line in text.lines() {
            match line.strip_prefix("token ") {
                Some(next) => token = Some(next.to_owned()),
                None => seen.push(line.to_owned()),
            }
        }
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids, "each once, none missing");
    within(hub.shutdown()).await;
}

#[tokio::test]
async fn examples_say_what_is_wrong_with_their_environment() {
    let bench = Bench::start().await;
    let mut command = example("create_identities");
    command.env("IOTHUB_CONNECTION_STRING", &bench.module);
    let output = within(command.output()).await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("InvalidInput"), "{text}");
    assert!(!text.contains(bench.module.split_once("SharedAccessKey=").unwrap().1));
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    within(lines.next_line()).await.unwrap().expect("the program ended early")
}

/// What `hub.env` of the state directory sets.
fn hub_env(hub: &LocalHub) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(hub.env_file().unwrap()).unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    };
    text.lines().map(pair).collect()
}
