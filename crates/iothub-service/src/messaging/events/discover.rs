//! Asking the hub where its events are read (amqp.md 5.6).

use std::time::SystemTime;

use iothub_amqp::client::{Endpoint, close_error, link_error};
use iothub_amqp::proto::{AttachOptions, Credit, Event};
use iothub_amqp::sasl::Plain;
use iothub_common::{ClientOptions, Error, ErrorKind, Result, SasToken, Subject, TokenSource};
use tokio::time::timeout;
use uuid::Uuid;

use super::redirect::BuiltInEndpoint;
use crate::credentials::Credentials;
use crate::messaging::Setup;
use crate::messaging::connection::Settings;

/// Follows the hub's redirect: what is there, and how to connect to it.
pub(super) async fn built_in_endpoint(setup: &Setup) -> Result<(BuiltInEndpoint, Settings)> {
    let tokens = policy_tokens(&setup.credentials)?;
    let hub = setup.endpoint(&setup.host, &setup.options)?;
    let place = ask(&hub, tokens, setup).await?;
    tracing::debug!(host = place.host, port = place.port, entity = place.entity, "the events are there");
    let options = ClientOptions { amqps_port: Some(place.port), ..setup.options.clone() };
    let endpoint = setup.endpoint(&place.host, &options)?;
    let resource = place.resource();
    // The policies of the hub are those of its event hub, key and all (amqp.md 5.5).
    let credentials = Credentials::Sas(tokens.for_event_hub(resource.clone()));
    Ok((place, setup.settings(endpoint, credentials, resource)))
}

fn policy_tokens(credentials: &Credentials) -> Result<&TokenSource> {
    match credentials {
        Credentials::Sas(tokens) => Ok(tokens),
        #[cfg(feature = "entra-id")]
        Credentials::Entra(_) => Err(Error::new(
            ErrorKind::InvalidInput,
            "events are read with the key of a policy: open the registry with a connection string",
        )),
    }
}

/// Asks, and asks again while the hub cannot be reached.
async fn ask(hub: &Endpoint, tokens: &TokenSource, setup: &Setup) -> Result<BuiltInEndpoint> {
    let mut trouble = None;
    let mut backoff = setup.retry.backoff();
    let mut attempts = 0;
    let asking = async {
        loop {
            let error = match Box::pin(attempt(hub, tokens, setup)).await {
                Ok(place) => return Ok(place),
                Err(error) => error,
            };
            attempts += 1;
            if !error.is_retryable() || attempts >= crate::messaging::connection::FIRST_ATTEMPTS {
                return Err(error);
            }
            let Some(wait) = backoff.next() else { return Err(error) };
            tracing::debug!(%error, ?wait, "not redirected, asking again");
            trouble = Some(error);
            tokio::time::sleep(wait).await;
        }
    };
    timeout(setup.call_timeout, asking).await.unwrap_or_else(|_| {
        let message = "the hub did not say within the time of the call where its events are";
        let error = Error::new(ErrorKind::Timeout, message);
        Err(match trouble {
            Some(trouble) => error.with_source(trouble),
            None => error,
        })
    })
}

async fn attempt(hub: &Endpoint, tokens: &TokenSource, setup: &Setup) -> Result<BuiltInEndpoint> {
    // SASL PLAIN: no client is known that is redirected after a token on `$cbs` (amqp.md 5.6).
    let login = login(tokens, &setup.host)?;
    let mut driver = hub.open_with_login(&login, setup.call_timeout).await?;
    let no_session = || Error::new(ErrorKind::Protocol, "the hub allows no session");
    let session = driver.connection().begin().ok_or_else(no_session)?;
    let address = format!("amqps://{}/messages/events/$management", setup.host);
    let link = AttachOptions::receiver(format!("events-{}", Uuid::new_v4()), address, Credit::Manual);
    driver.connection().attach(session, link);
    let subject = Subject::Hub(&setup.host);
    let place = loop {
        match driver.next().await {
            Event::Detached { error, .. } => {
                let redirect = error.as_ref().and_then(BuiltInEndpoint::from_redirect);
                break redirect.unwrap_or_else(|| Err(link_error(error.as_ref(), &subject)));
            }
            Event::Ended { error, .. } => break Err(link_error(error.as_ref(), &subject)),
            Event::Closed(cause) => return Err(close_error(cause, hub, &subject)),
            _ => {}
        }
    };
    // Whether the hub agrees to the end is of no interest any more.
    driver.close(std::time::Duration::from_secs(1)).await;
    place
}

/// `{policy}@sas.root.{hub}` and a token for the hub (amqp.md 1.3).
fn login(tokens: &TokenSource, host: &str) -> Result<Plain> {
    let token = tokens.token(SystemTime::now())?;
    let policy = SasToken::parse(token.secret.reveal())?.policy.ok_or_else(|| {
        let message = "events are read with a policy of the hub, and this signature names none (`skn`)";
        Error::new(ErrorKind::InvalidInput, message)
    })?;
    let hub = host.split('.').next().unwrap_or_default();
    Ok(Plain { name: format!("{policy}@sas.root.{hub}"), password: token.secret })
}
