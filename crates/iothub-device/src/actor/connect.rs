//! From nothing to a connection on which the hub accepted our token.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use iothub_amqp::{
    Driver, cbs,
    dial::Dial,
    message::Message,
    proto::{CloseCause, Config, Event, SessionId, Side},
    sasl,
    types::{definitions::Error as AmqpError, messaging::MessageId},
};
use iothub_common::{
    Error, ErrorKind, Identity, Result, RetryPolicy, Subject, TokenSource, connect_error,
    error::{error_from_amqp, error_from_twin_status},
};
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use super::pair::{Change, Pair};

/// One attempt, from the name to the accepted token.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// What a connection is made of.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) identity: Identity,
    /// Host to dial: the gateway, if there is one.
    pub(crate) host: String,
    /// The hub, for which tokens are signed.
    pub(crate) hub: String,
    pub(crate) port: u16,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) tokens: TokenSource,
    pub(crate) call_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retry: RetryPolicy,
}

/// A connection with an accepted token.
pub(super) struct Wire {
    pub(super) driver: Driver<TlsStream<TcpStream>>,
    pub(super) session: SessionId,
    pub(super) cbs: Pair,
    pub(super) renew_at: Instant,
}

/// Makes one attempt. Cancelling drops the socket.
pub(super) async fn connect(settings: &Settings) -> Result<Wire> {
    timeout(ATTEMPT_LIMIT, attempt(settings)).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!(
                "{}:{} was reached but did not let {} in within {ATTEMPT_LIMIT:?}",
                settings.host, settings.port, settings.identity
            ),
        ))
    })
}

async fn attempt(settings: &Settings) -> Result<Wire> {
    let dial = Dial { host: settings.host.clone(), port: settings.port, limit: ATTEMPT_LIMIT };
    let mut stream = dial.tls(settings.tls.clone()).await?;
    // No SASL layer, as Node and C# do (amqp.md 1.2).
    sasl::client(&mut stream).await.map_err(|e| connect_error(&settings.host, settings.port, e))?;
    let config = Config {
        hostname: Some(settings.host.clone()),
        idle_timeout: settings.idle_timeout,
        ..Config::new(uuid::Uuid::new_v4().to_string())
    };
    let mut driver = Driver::new(stream, Side::Client, config);
    loop {
        match driver.next().await {
            Event::Opened(_) => break,
            Event::Closed(cause) => return Err(closed(cause, settings)),
            _ => {}
        }
    }
    let no_session = || Error::new(ErrorKind::Protocol, "the hub allows no session");
    let session = driver.connection().begin().ok_or_else(no_session)?;
    let mut cbs = Pair::new(cbs::ADDRESS);
    cbs.attach(driver.connection(), session, false, None);
    let mut wire = Wire { driver, session, cbs, renew_at: Instant::now() };
    let renew_after = put_token(&mut wire, settings, 0)?;
    loop {
        let event = wire.driver.next().await;
        match wire.cbs.on_event(wire.driver.connection(), &event) {
            Change::Message(reply) if token_number(&reply) == Some(0) => {
                check_token_reply(&reply, settings)?;
                wire.renew_at = Instant::now() + renew_after;
                return Ok(wire);
            }
            Change::Lost(error) => return Err(link_lost(error, settings)),
            _ => {}
        }
        match event {
            Event::Closed(cause) => return Err(closed(cause, settings)),
            Event::Ended { error, .. } => return Err(link_lost(error, settings)),
            _ => {}
        }
    }
}

/// Sends a token; returns after how long the next one is due.
pub(super) fn put_token(wire: &mut Wire, settings: &Settings, number: u64) -> Result<Duration> {
    let now = SystemTime::now();
    let token = settings.tokens.token(now)?;
    let audience = settings.identity.audience(&settings.hub);
    let request = cbs::put_token(&format!("token-{number}"), &audience, token.secret.reveal());
    wire.cbs.send(wire.driver.connection(), request.encode(), false);
    Ok(token.renew_at.duration_since(now).unwrap_or_default())
}

/// Which token an answer is about.
pub(super) fn token_number(reply: &Message) -> Option<u64> {
    match reply.correlation_id()? {
        MessageId::String(id) => id.strip_prefix("token-")?.parse().ok(),
        _ => None,
    }
}

pub(super) fn check_token_reply(reply: &Message, settings: &Settings) -> Result<()> {
    let (status, description) = cbs::status(reply);
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(error_from_twin_status(status, description.as_bytes(), &Subject::from(&settings.identity)))
}

/// The error for a connection that ended.
pub(super) fn closed(cause: CloseCause, settings: &Settings) -> Error {
    let address = format!("{}:{}", settings.host, settings.port);
    let lost = |what: &str| Error::new(ErrorKind::Unavailable, format!("the connection to {address} {what}"));
    match cause {
        CloseCause::Requested => lost("was closed"),
        CloseCause::Remote(None) => lost("was closed by the hub"),
        CloseCause::Remote(Some(error)) => amqp_error(&error, settings),
        CloseCause::IdleTimeout => lost("is dead: nothing was heard for twice the idle time-out"),
        CloseCause::Io(error) => lost("was lost").with_source(error),
        CloseCause::Protocol(what) => {
            Error::new(ErrorKind::Protocol, format!("{address} broke the AMQP protocol: {what}"))
        }
    }
}

/// The error for a link or session that the hub ended.
pub(super) fn link_lost(error: Option<AmqpError>, settings: &Settings) -> Error {
    match error {
        Some(error) => amqp_error(&error, settings),
        None => Error::new(ErrorKind::Unavailable, "the hub detached a link without saying why"),
    }
}

fn amqp_error(error: &AmqpError, settings: &Settings) -> Error {
    let condition = iothub_amqp::condition(error);
    error_from_amqp(&condition, error.description.as_deref(), &Subject::from(&settings.identity))
}
