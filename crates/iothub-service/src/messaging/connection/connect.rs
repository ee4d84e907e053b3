//! From nothing to a connection on which the hub accepted our token.

use std::time::{Duration, SystemTime};

use iothub_amqp::Driver;
use iothub_amqp::client::{Socket, TokenEvent, Tokens, close_error, link_error};
use iothub_amqp::proto::Event;
use iothub_common::{Error, ErrorKind, Result, Secret, Subject, TokenSource};
use tokio::time::timeout;

use super::Settings;
use crate::credentials::Credentials;

/// One attempt, from the name to the accepted token.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
/// Between two tokens at least.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// There is one token on a connection.
pub(super) const KEY: u64 = 0;

/// Where to get the token from, and its text.
pub(super) type Proof = (TokenSource, Secret);

/// A connection with an accepted token.
pub(super) struct Wire {
    pub(super) driver: Driver<Socket>,
    pub(super) tokens: Tokens,
    /// The token that was accepted.
    pub(super) token: Secret,
}

/// Makes one attempt. Cancelling drops the socket.
pub(super) async fn connect(settings: &Settings) -> Result<Wire> {
    timeout(ATTEMPT_LIMIT, attempt(settings)).await.unwrap_or_else(|_| {
        let message =
            format!("{} was reached but did not accept a token within {ATTEMPT_LIMIT:?}", settings.endpoint);
        Err(Error::new(ErrorKind::Timeout, message))
    })
}

async fn attempt(settings: &Settings) -> Result<Wire> {
    let (proof, token) = proof(&settings.credentials).await?;
    let mut driver = settings.endpoint.open(ATTEMPT_LIMIT).await?;
    let no_session = || Error::new(ErrorKind::Protocol, "the hub allows no session");
    let mut tokens = Tokens::new(driver.connection()).ok_or_else(no_session)?;
    tokens.put(driver.connection(), KEY, &proof, &settings.audience)?;
    let subject = Subject::Hub(&settings.endpoint.host);
    loop {
        let event = driver.next().await;
        match tokens.on_event(driver.connection(), &event, &subject).transpose()?.flatten() {
            Some(TokenEvent::Accepted { .. }) => return Ok(Wire { driver, tokens, token }),
            Some(TokenEvent::Refused { status, description, .. }) => {
                return Err(TokenEvent::refusal(status, &description, &subject));
            }
            None => {}
        }
        match event {
            Event::Closed(cause) => return Err(close_error(cause, &settings.endpoint, &subject)),
            Event::Ended { error, .. } => return Err(link_error(error.as_ref(), &subject)),
            _ => {}
        }
    }
}

/// A token that can be used now.
pub(super) async fn proof(credentials: &Credentials) -> Result<Proof> {
    let now = SystemTime::now();
    let mut token = credentials.token(now).await?;
    // One that is past its time but still the best there is must not be shown over and over.
    if token.renew_at < token.expires_at {
        token.renew_at = token.renew_at.max(now + RENEWAL_PAUSE);
    }
    let secret = token.secret.clone();
    Ok((TokenSource::of_token(token), secret))
}
