//! What the hub is told about who we are, with every call.

#[cfg(feature = "entra-id")]
mod entra;

use std::fmt;
use std::time::SystemTime;

use iothub_common::{Result, Secret, ServiceConnectionString, Token, TokenSource};

/// Makes or fetches tokens, and keeps them while they can be used. Clones share what is kept.
#[derive(Clone)]
pub(crate) enum Credentials {
    /// Signatures of a shared access policy, or one that the caller gave.
    Sas(TokenSource),
    /// Tokens of Microsoft Entra ID.
    #[cfg(feature = "entra-id")]
    Entra(std::sync::Arc<entra::EntraTokens>),
}

/// A token that can be used now.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    /// The value of the header `Authorization`: `SharedAccessSignature …` or `Bearer …`.
    pub(crate) header: Secret,
}

impl Credentials {
    pub(crate) fn of_connection_string(connection: &ServiceConnectionString) -> Result<Self> {
        connection.token_source().map(Self::Sas)
    }

    #[cfg(feature = "entra-id")]
    pub(crate) fn of_token_credential(
        credential: std::sync::Arc<dyn azure_core::credentials::TokenCredential>,
    ) -> Self {
        Self::Entra(std::sync::Arc::new(entra::EntraTokens::new(credential)))
    }

    /// A token to be used at `now`. Only tokens of Entra ID need I/O, and those seldom.
    #[cfg_attr(not(feature = "entra-id"), allow(clippy::unused_async))]
    pub(crate) async fn token(&self, now: SystemTime) -> Result<Token> {
        match self {
            Self::Sas(tokens) => tokens.token(now),
            #[cfg(feature = "entra-id")]
            Self::Entra(tokens) => tokens.token(now).await,
        }
    }

    pub(crate) async fn authorization(&self, now: SystemTime) -> Result<Authorization> {
        Ok(Authorization { header: self.token(now).await?.secret })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sas(tokens) => f.debug_tuple("Sas").field(tokens).finish(),
            #[cfg(feature = "entra-id")]
            Self::Entra(_) => f.write_str("Entra(..)"),
        }
    }
}
