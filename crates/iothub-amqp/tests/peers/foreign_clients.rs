//! Our engine as the server of rhea and of qpid-proton. The server is `node.rs`; the scripts hold the cases.

use iothub_amqp::proto::CloseCause;
use tokio::net::TcpListener;

use crate::{
    limit,
    node::{self, Report},
    process::Peer,
};

/// Serves the client script until it ends; what was seen of each of its connections.
async fn serve(peer: Peer) -> Vec<Report> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut command = peer.command("client");
    let mut program = command.arg(listener.local_addr().unwrap().port().to_string()).spawn().unwrap();
    let mut connections = Vec::new();
    let status = loop {
        tokio::select! {
            socket = listener.accept() => connections.push(tokio::spawn(node::serve(socket.unwrap().0))),
            status = limit("the end of the script", program.wait()) => break status.unwrap(),
        }
    };
    assert!(status.success(), "the script failed: {status}");
    let mut reports = Vec::new();
    for connection in connections {
        reports.push(limit("a connection", connection).await.unwrap());
    }
    reports
}

/// What only the server can see.
fn check(reports: &[Report]) {
    for report in reports {
        assert!(
            !matches!(report.closed, Some(CloseCause::Protocol(_) | CloseCause::IdleTimeout)),
            "{report:?}"
        );
    }
    let mechanisms: Vec<_> = reports.iter().filter_map(|r| r.mechanism.as_deref()).collect();
    assert_eq!(mechanisms, ["ANONYMOUS", "PLAIN"]);
    assert_eq!(reports.iter().map(|r| r.settled_second).sum::<u32>(), 5, "second dispositions of the sender");
    let most = reports.iter().filter_map(|r| r.taken.get("accept")).max();
    assert_eq!(most, Some(&5_000));
    assert_eq!(reports.iter().filter(|r| r.closed.is_none()).count(), 1, "one stream was cut");
}

#[tokio::test]
#[ignore = "needs rhea: tests/interop/run.sh"]
async fn rhea() {
    check(&serve(Peer::Rhea).await);
}

#[tokio::test]
#[ignore = "needs qpid-proton: tests/interop/run.sh"]
async fn proton() {
    check(&serve(Peer::Proton).await);
}
