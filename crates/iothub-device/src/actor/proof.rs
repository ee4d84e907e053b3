//! What a member shows to the hub, and when a provider is asked for it.

use std::time::SystemTime;

use iothub_amqp::client::{Due, Tokens};
use iothub_amqp::proto::Connection;
use iothub_common::{Backoff, Error, Identity, Result, RetryPolicy, Token, TokenSource};
use tokio::time::Instant;

use super::{asks::Asks, command::Key};
use crate::credentials::{Credentials, SasProvider, SasRequest};

/// The credentials of a member, with what a provider gave.
#[derive(Debug)]
pub(super) struct Proof {
    audience: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Tokens(TokenSource),
    Provider(Box<Provided>),
    Certificate,
}

#[derive(Debug)]
struct Provided {
    provider: SasProvider,
    request: SasRequest,
    held: Option<Held>,
    backoff: Backoff,
    /// A renewal that came to nothing is asked for again then.
    again_at: Option<Instant>,
}

/// A token that a provider gave.
#[derive(Debug)]
struct Held {
    source: TokenSource,
    renew_at: SystemTime,
    /// The hub has taken it at least once.
    accepted: bool,
}

/// What showing came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A token is on its way to the hub, or a question to the provider.
    Asked,
    /// TLS has done it.
    Certificate,
}

impl Proof {
    pub(super) fn new(credentials: Credentials, identity: &Identity, hub: &str) -> Self {
        let way = match credentials {
            Credentials::Tokens(source) => Way::Tokens(source),
            Credentials::Certificate => Way::Certificate,
            Credentials::Provider(provider) => Way::Provider(Box::new(Provided {
                provider,
                request: SasRequest::new(identity.clone(), hub),
                held: None,
                // It never gives up: while it waits the session works on with the token it has.
                backoff: RetryPolicy::default().backoff(),
                again_at: None,
            })),
        };
        Self { audience: identity.audience(hub), way }
    }

    /// Shows what there is to show, for the first time on a connection or anew.
    pub(super) fn show(
        &mut self,
        key: Key,
        connection: &mut Connection,
        tokens: &mut Tokens,
        asks: &mut Asks,
    ) -> Result<Shown> {
        let source = match &mut self.way {
            Way::Certificate => return Ok(Shown::Certificate),
            Way::Tokens(source) => source,
            Way::Provider(provided) => match provided.good(key, asks) {
                Some(source) => source,
                None => return Ok(Shown::Asked),
            },
        };
        tokens.put(connection, key, source, &self.audience)?;
        Ok(Shown::Asked)
    }

    /// The hub's time for a token has come, or it did not answer to one.
    pub(super) fn renew(
        &mut self,
        due: Due,
        connection: &mut Connection,
        tokens: &mut Tokens,
        asks: &mut Asks,
    ) -> Result<()> {
        let source = match &mut self.way {
            Way::Certificate => return Ok(()),
            Way::Tokens(source) => source,
            Way::Provider(provided) => {
                let asked = !provided.is_fresh();
                match provided.good(due.key, asks) {
                    // The hub has this one; the next one follows.
                    Some(_) if asked && !due.is_second_try() => return Ok(()),
                    Some(source) => source,
                    None => return Ok(()),
                }
            }
        };
        tokens.send(connection, due, source, &self.audience)
    }

    /// Whether there is a token that the hub would take now.
    pub(super) fn has_token(&self) -> bool {
        match &self.way {
            Way::Provider(provided) => provided.held.as_ref().is_some_and(Held::is_good),
            _ => true,
        }
    }

    /// Keeps what the provider gave. An error is returned with the next question planned.
    pub(super) fn provided(&mut self, answer: Result<Token>) -> Result<()> {
        let Way::Provider(provided) = &mut self.way else { return Ok(()) };
        let token = answer.inspect_err(|_| {
            provided.again_at = provided.backoff.next().map(|wait| Instant::now() + wait);
        })?;
        provided.backoff.reset();
        let renew_at = token.renew_at;
        provided.held = Some(Held { source: TokenSource::of_token(token), renew_at, accepted: false });
        Ok(())
    }

    /// The hub has taken the token.
    pub(super) fn accepted(&mut self) {
        if let Way::Provider(provided) = &mut self.way
            && let Some(held) = &mut provided.held
        {
            held.accepted = true;
        }
    }

    /// The hub has not taken it. True when the provider may do better: the token was an old one.
    pub(super) fn refused(&mut self) -> bool {
        match &mut self.way {
            Way::Provider(provided) => provided.held.take().is_some_and(|held| held.accepted),
            _ => false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.way {
            Way::Provider(provided) => provided.again_at,
            _ => None,
        }
    }

    /// Asks again where that is due.
    pub(super) fn on_timer(&mut self, key: Key, asks: &mut Asks, now: Instant) {
        if let Way::Provider(provided) = &mut self.way
            && provided.again_at.is_some_and(|at| at <= now)
        {
            provided.ask(key, asks);
        }
    }

    /// Words for a refusal.
    pub(super) fn explain(&self, error: Error, identity: &Identity) -> Error {
        match (&self.way, error.kind()) {
            (Way::Certificate, iothub_common::ErrorKind::Unauthorized) => error.context(format!(
                "the hub does not accept the client certificate for {identity}: its thumbprint, or the authority \
                 that signed it, must be registered there"
            )),
            _ => error,
        }
    }
}

impl Held {
    fn is_good(&self) -> bool {
        self.source.token(SystemTime::now()).is_ok()
    }
}

impl Provided {
    fn is_fresh(&self) -> bool {
        self.held.as_ref().is_some_and(|held| SystemTime::now() < held.renew_at)
    }

    /// The held token, as long as it is good. When it will not be for long the provider is asked.
    fn good(&mut self, key: Key, asks: &mut Asks) -> Option<&TokenSource> {
        if !self.is_fresh() {
            self.ask(key, asks);
        }
        self.held.as_ref().filter(|held| held.is_good()).map(|held| &held.source)
    }

    fn ask(&mut self, key: Key, asks: &mut Asks) {
        self.again_at = None;
        asks.ask(key, &self.provider, &self.request);
    }
}
