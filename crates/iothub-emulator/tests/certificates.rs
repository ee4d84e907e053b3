//! The certificates are good for the TLS libraries people have, in their strictest mode.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::process::Stdio;

use iothub_emulator::LocalHub;
use tokio::process::Command;

/// Starts a hub and runs a foreign client, which gets the authority's file and the port as arguments.
/// Where the program isn't installed the test says so and passes.
async fn accepted_by(program: &str, args: &[&str], names: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let hub = LocalHub::builder().hostname("hub.example.com").state_dir(dir.path()).start().await.unwrap();
    for name in names {
        let mut command = Command::new(program);
        command.args(args).arg(hub.ca_file().unwrap()).arg(hub.https_port().to_string()).arg(name);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = match command.output().await {
            Ok(output) => output,
            Err(error) => {
                eprintln!("skipped: {program} does not run here: {error}");
                return;
            }
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} refuses {name}: {stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok", "{stderr}");
    }
}

const NAMES: [&str; 4] = ["hub.example.com", "localhost", "127.0.0.1", "::1"];

#[tokio::test]
async fn node_accepts() {
    let script = r"
        const [ca, port, name] = process.argv.slice(1);
        const tls = require('tls');
        const options = { host: '127.0.0.1', port, ca: require('fs').readFileSync(ca) };
        if (!require('net').isIP(name)) options.servername = name;
        options.checkServerIdentity = (_, cert) => tls.checkServerIdentity(name, cert);
        const socket = tls.connect(options, () => { console.log('ok'); socket.end(); });
    ";
    accepted_by("node", &["-e", script], &NAMES).await;
}

#[tokio::test]
async fn python_accepts_in_strict_mode() {
    let script = r"
import socket, ssl, sys
ca, port, name = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
with socket.create_connection(('127.0.0.1', int(port))) as raw:
    with context.wrap_socket(raw, server_hostname=name):
        print('ok')
";
    accepted_by("python3", &["-c", script], &NAMES).await;
}

#[tokio::test]
async fn openssl_accepts_for_the_server_purpose() {
    let script = r#"
        openssl s_client -connect "127.0.0.1:$2" -CAfile "$1" -verify_return_error -x509_strict \
            -purpose sslserver -verify_hostname "$3" </dev/null >/dev/null && echo ok
    "#;
    if Command::new("openssl").arg("version").output().await.is_err() {
        eprintln!("skipped: no openssl here");
        return;
    }
    accepted_by("sh", &["-c", script, "sh"], &NAMES[..2]).await;
}
