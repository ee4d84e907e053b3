//! AMQP 1.0 on the hub's AMQPS port (amqp.md).
//!
//! A connection is one task: [`serve`] owns the byte stream and the engine, and waits for frames, for what the
//! hub has to say, and for the end of tokens. `peer` says what these mean, the other files what is special about
//! one kind of link. To add a kind: its address, its options in `attach`, its messages in `peer`.

mod address;
mod alarm;
mod attach;
mod cbs;
mod convert;
mod faults;
mod feed;
mod grants;
mod lanes;
mod login;
mod management;
mod methods;
mod outbox;
mod peer;
mod presence;
mod reader;
mod refusal;
mod service;
mod telemetry;
mod twin;

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use iothub_amqp::Driver;
use iothub_amqp::proto::{Config, Side};
use iothub_amqp::types::definitions::ConnectionError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::peer::Peer;
use self::refusal::Refusal;
use crate::hub::{ClientCertificate, CountedConnection, ErrorCode, Hub, Reception};

/// From the headers to the client's `open`.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// For the last frames of a connection and the client's agreement.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Links of a session. The C SDK has all its devices in one.
const HANDLE_MAX: u32 = 8191;

/// Serves one connection on a byte stream, TLS done, until it ends or `shutdown` is cancelled. `port` is where
/// clients reach the hub's AMQP, `certificate` what TLS was shown.
pub(crate) async fn serve<Io>(
    mut stream: Io,
    hub: Hub,
    port: u16,
    certificate: Option<ClientCertificate>,
    shutdown: CancellationToken,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send,
{
    let _counted = CountedConnection::new(hub.clone());
    if let Some(reception) = hub.faults().reception() {
        if reception == Reception::Silence {
            shutdown.run_until_cancelled(ignore(&mut stream, &hub)).await;
        }
        return;
    }
    let login = tokio::select! {
        biased;
        () = shutdown.cancelled() => return,
        login = login::accept(&mut stream, &hub, certificate.is_some()) => login,
    };
    let login = match login {
        Ok(login) => login,
        Err(error) => {
            tracing::debug!(%error, "no AMQP connection");
            // The client is to see the SASL outcome, not a reset.
            timeout(CLOSE_LIMIT, stream.shutdown()).await.ok();
            return;
        }
    };
    let mut config = config();
    config.omit_next_incoming_id = hub.faults().omits_next_incoming_id();
    let mut driver = Driver::new(stream, Side::Server, config);
    let mut peer = Peer::new(hub, port, certificate, login);
    run(&mut driver, &mut peer, &shutdown).await;
    if peer.hang_up {
        // What was said before is to arrive, then the stream is dropped.
        timeout(CLOSE_LIMIT, driver.flush()).await.ok();
        return;
    }
    // Its devices are disconnected before the client can see that it is.
    drop(peer);
    driver.finish(CLOSE_LIMIT).await;
}

/// What the real hub says of itself (amqp.md 1.4).
fn config() -> Config {
    let mut config = Config::new(format!("DeviceGateway_{}", Uuid::new_v4().simple()));
    config.idle_timeout = Duration::from_secs(240);
    config.channel_max = 8191;
    config.handle_max = HANDLE_MAX;
    config.incoming_window = 5000;
    config
}

async fn run<Io>(driver: &mut Driver<Io>, peer: &mut Peer, shutdown: &CancellationToken)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let opened = tokio::select! {
        biased;
        () = shutdown.cancelled() => return driver.connection().close(Some(forced(peer))),
        opened = timeout(OPEN_LIMIT, driver.next()) => opened,
    };
    let Ok(opened) = opened else { return driver.connection().fail("no open in time") };
    let mut step = peer.on_event(driver.connection(), opened);
    while step.is_continue() {
        if let Some(until) = peer.deaf_until.take() {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return driver.connection().close(Some(forced(peer))),
                () = hearing_again(&peer.hub, until) => {}
            }
        }
        // Frames last: a client that sends without pause delays neither its own end nor what the hub says.
        step = tokio::select! {
            biased;
            () = shutdown.cancelled() => return driver.connection().close(Some(forced(peer))),
            (identity, push) = peer.presences.next() => {
                peer.on_push(driver.connection(), &identity, push)
            }
            () = peer.alarm.rings() => peer.on_alarm(driver.connection()),
            event = driver.next() => peer.on_event(driver.connection(), event),
            () = peer.news.next() => {
                peer.on_news(driver.connection());
                ControlFlow::Continue(())
            }
        };
    }
}

/// Reads until the client gives up, or faults are ended, and says nothing.
async fn ignore<Io: AsyncRead + Unpin>(stream: &mut Io, hub: &Hub) {
    let mut cleared = hub.faults().cleared();
    let mut buffer = [0; 1024];
    let read = async { while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {} };
    tokio::select! {
        () = read => {}
        // Cannot fail: the hub holds the sender.
        _ = cleared.changed() => {}
    }
}

/// Returns when the time has come, or faults are ended.
async fn hearing_again(hub: &Hub, until: SystemTime) {
    let mut cleared = hub.faults().cleared();
    tokio::select! {
        () = hub.clock().reached(until) => {}
        // Cannot fail: the hub holds the sender.
        _ = cleared.changed() => {}
    }
}

fn forced(peer: &Peer) -> iothub_amqp::types::definitions::Error {
    let text = "The hub is shutting down; connect again later.";
    Refusal::new(ConnectionError::ConnectionForced, ErrorCode::ServiceUnavailable, text)
        .to_amqp(peer.hub.now())
}
