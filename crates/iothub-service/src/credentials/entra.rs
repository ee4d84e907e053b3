//! Tokens of Microsoft Entra ID: fetched through a credential of `azure_core`, kept, fetched anew before they end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_core::credentials::TokenCredential;
use iothub_common::{Error, ErrorKind, Result, Secret, Token};
use tokio::sync::Mutex;

/// What the tokens are for: every hub of the public cloud (rest.md 1.4).
const SCOPE: &str = "https://iothubs.azure.net/.default";
/// A token is fetched anew this long before its end, but not before half of its life.
const EARLY: Duration = Duration::from_secs(5 * 60);

pub(crate) struct EntraTokens {
    credential: Arc<dyn TokenCredential>,
    /// Held while a token is fetched: who comes meanwhile waits for that one.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: Token,
    fetched_at: SystemTime,
}

impl EntraTokens {
    pub(super) fn new(credential: Arc<dyn TokenCredential>) -> Self {
        Self { credential, kept: Mutex::new(None) }
    }

    /// A token that can be used now: its text is the value of the header `Authorization`.
    pub(super) async fn token(&self, now: SystemTime) -> Result<Token> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.fetched_at <= now && now < kept.token.renew_at) {
            return Ok(kept.token.clone());
        }
        match self.fetch(now).await {
            Ok(fetched) => Ok(kept.insert(fetched).token.clone()),
            Err(error) => match kept.as_ref().filter(|kept| now < kept.token.expires_at) {
                // The one we have still opens the door.
                Some(kept) => {
                    tracing::warn!(%error, "no new token; the one in use is used on until it expires");
                    Ok(kept.token.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn fetch(&self, now: SystemTime) -> Result<Kept> {
        let token = self.credential.get_token(&[SCOPE], None).await.map_err(no_token)?;
        let expires_at = SystemTime::from(token.expires_on);
        let life = expires_at.duration_since(now).map_err(|_| {
            let message = "the token of the credential has expired already; check this machine's clock";
            Error::new(ErrorKind::Unauthorized, message)
        })?;
        let token = Token {
            secret: Secret::from(format!("Bearer {}", token.token.secret())),
            expires_at,
            renew_at: now + life.saturating_sub(EARLY).max(life / 2),
        };
        Ok(Kept { token, fetched_at: now })
    }
}

fn no_token(error: azure_core::Error) -> Error {
    use azure_core::error::ErrorKind as Azure;
    let kind = match error.kind() {
        Azure::Connection | Azure::Io => ErrorKind::Connect,
        _ => ErrorKind::Unauthorized,
    };
    Error::new(kind, "the credential gave no token for the hub; see its own error").with_source(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex as StdMutex;

    use azure_core::credentials::{AccessToken, TokenRequestOptions};

    use super::*;

    /// Gives tokens from a list: text and life in seconds after 2023-11-14 22:13:20 UTC; errors after that.
    #[derive(Debug)]
    struct Listed(StdMutex<VecDeque<(&'static str, u64)>>);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[async_trait::async_trait]
    impl TokenCredential for Listed {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, ["https://iothubs.azure.net/.default"]);
            let next = self.0.lock().unwrap().pop_front();
            let (text, expiry) = next.ok_or_else(|| {
                azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "no more")
            })?;
            Ok(AccessToken::new(text, at(expiry).into()))
        }
    }

    fn tokens<const N: usize>(list: [(&'static str, u64); N]) -> EntraTokens {
        EntraTokens::new(Arc::new(Listed(StdMutex::new(list.into()))))
    }

    #[tokio::test]
    async fn a_token_is_kept_until_shortly_before_its_end() {
        let tokens = tokens([("one", 3600), ("two", 7200)]);
        for (now, header) in
            [(0, "Bearer one"), (3299, "Bearer one"), (3300, "Bearer two"), (6899, "Bearer two")]
        {
            assert_eq!(tokens.token(at(now)).await.unwrap().secret.reveal(), header, "{now}");
        }
    }

    #[tokio::test]
    async fn a_short_token_is_used_for_half_of_its_life() {
        let tokens = tokens([("one", 60), ("two", 120)]);
        assert_eq!(tokens.token(at(0)).await.unwrap().secret.reveal(), "Bearer one");
        assert_eq!(tokens.token(at(29)).await.unwrap().secret.reveal(), "Bearer one");
        assert_eq!(tokens.token(at(30)).await.unwrap().secret.reveal(), "Bearer two");
    }

    #[tokio::test]
    async fn a_clock_set_back_gets_a_new_token() {
        let tokens = tokens([("one", 3600), ("two", 3600)]);
        assert_eq!(tokens.token(at(100)).await.unwrap().secret.reveal(), "Bearer one");
        assert_eq!(tokens.token(at(99)).await.unwrap().secret.reveal(), "Bearer two");
    }

    #[tokio::test]
    async fn without_a_new_token_the_old_one_is_used_to_its_end() {
        let tokens = tokens([("one", 3600)]);
        assert_eq!(tokens.token(at(0)).await.unwrap().secret.reveal(), "Bearer one");
        assert_eq!(tokens.token(at(3599)).await.unwrap().secret.reveal(), "Bearer one");
        let error = tokens.token(at(3600)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(!format!("{error:?}").contains("Bearer"));
    }

    #[tokio::test]
    async fn a_token_that_has_expired_when_it_comes_is_no_token() {
        let error = tokens([("one", 5)]).token(at(5 + 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains("clock"), "{error}");
    }
}
