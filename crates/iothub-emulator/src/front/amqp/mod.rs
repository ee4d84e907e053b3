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
use std::time::Duration;

use iothub_amqp::Driver;
use iothub_amqp::proto::{Config, Side};
use iothub_amqp::types::definitions::ConnectionError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::peer::Peer;
use self::refusal::Refusal;
use crate::hub::{ClientCertificate, ErrorCode, Hub};

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
    let mut driver = Driver::new(stream, Side::Server, config());
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
        // Frames last: a client that sends without pause delays neither its own end nor what the hub says.
        step = tokio::select! {
            biased;
            () = shutdown.cancelled() => return driver.connection().close(Some(forced(peer))),
            (identity, push) = peer.presences.next() => {
                peer.on_push(driver.connection(), &identity, push);
                ControlFlow::Continue(())
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

fn forced(peer: &Peer) -> iothub_amqp::types::definitions::Error {
    let text = "The hub is shutting down; connect again later.";
    Refusal::new(ConnectionError::ConnectionForced, ErrorCode::ServiceUnavailable, text)
        .to_amqp(peer.hub.now())
}
