//! Tokens over time: made once, used until shortly before their end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{SasToken, sign};
use crate::connection_string::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{Secret, SymmetricKey};

/// How long a token lives.
const LIFE: Duration = Duration::from_secs(3600);

/// A token and how long it can be used.
#[derive(Clone, Debug)]
pub struct Token {
    /// The whole text, `SharedAccessSignature sr=…`.
    pub secret: Secret,
    /// When the hub stops accepting it.
    pub expires_at: SystemTime,
    /// When to ask for the next one: at 80 % of its life. A ready-made token cannot be renewed, there it is
    /// the same as `expires_at`.
    pub renew_at: SystemTime,
}

impl Token {
    /// A token that somebody else made, to be used from `now` on. It is to be replaced at 80 % of what is left of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it is malformed, [`ErrorKind::Unauthorized`] when it has expired. Neither
    /// message repeats the token.
    pub fn given(secret: Secret, now: SystemTime) -> Result<Self> {
        let expires_at = SasToken::parse(secret.reveal())?.expires_at;
        match expires_at.duration_since(now) {
            Ok(left) if !left.is_zero() => Ok(Self { secret, expires_at, renew_at: now + left / 5 * 4 }),
            _ => Err(expired("the token", now.duration_since(expires_at).unwrap_or_default())),
        }
    }
}

/// Gives tokens for one resource. Clones share the cached token.
///
/// With a key, tokens live one hour and a new one is made once 80 % of that are over. A ready-made token is
/// passed on until it expires.
#[derive(Clone)]
pub struct TokenSource(Arc<Source>);

enum Source {
    Key { key: SymmetricKey, resource: String, policy: Option<String>, cached: Mutex<Option<Issued>> },
    ReadyMade(Token),
}

struct Issued {
    at: SystemTime,
    token: Token,
}

impl TokenSource {
    /// Tokens for `resource`, given in plain as for [`sign`]. A ready-made token keeps its own resource.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for [`Credential::X509`], which has no tokens, and for a ready-made token
    /// that is malformed. Whether that one has expired is checked in [`token`](Self::token).
    pub fn new(credential: Credential, resource: impl Into<String>, policy: Option<&str>) -> Result<Self> {
        let source = match credential {
            Credential::SharedAccessKey(key) => Source::Key {
                key,
                resource: resource.into(),
                policy: policy.map(str::to_owned),
                cached: Mutex::new(None),
            },
            Credential::SharedAccessSignature(secret) => {
                let expires_at = SasToken::parse(secret.reveal())?.expires_at;
                Source::ReadyMade(Token { secret, expires_at, renew_at: expires_at })
            }
            Credential::X509 => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "x509=true has no token; use a connection string with SharedAccessKey",
                ));
            }
        };
        Ok(Self(Arc::new(source)))
    }

    /// Passes on a token that was made elsewhere until it expires, whatever it is a token of.
    #[must_use]
    pub fn of_token(token: Token) -> Self {
        Self(Arc::new(Source::ReadyMade(token)))
    }

    /// Tokens of the same key for an event hub, which takes [its text](SymmetricKey::for_event_hub) as the key. A
    /// ready-made token is for what it is for and stays the same.
    #[must_use]
    pub fn for_event_hub(&self, resource: impl Into<String>) -> Self {
        let source = match &*self.0 {
            Source::Key { key, policy, .. } => Source::Key {
                key: key.for_event_hub(),
                resource: resource.into(),
                policy: policy.clone(),
                cached: Mutex::new(None),
            },
            Source::ReadyMade(token) => Source::ReadyMade(token.clone()),
        };
        Self(Arc::new(source))
    }

    /// A token that can be used at `now`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthorized`] when a ready-made token has expired.
    pub fn token(&self, now: SystemTime) -> Result<Token> {
        match &*self.0 {
            Source::Key { key, resource, policy, cached } => {
                // A poisoned lock still holds a whole token or none.
                let mut cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
                let issued = match cached.take() {
                    Some(issued) if issued.is_fresh(now) => issued,
                    _ => Issued { at: now, token: issue(key, resource, policy.as_deref(), now) },
                };
                let token = issued.token.clone();
                *cached = Some(issued);
                Ok(token)
            }
            Source::ReadyMade(token) => match now.duration_since(token.expires_at) {
                Err(_) => Ok(token.clone()),
                Ok(ago) => Err(expired("the SharedAccessSignature of the connection string", ago)),
            },
        }
    }
}

impl Issued {
    /// A clock set back must not keep a token that now ends far in the future.
    fn is_fresh(&self, now: SystemTime) -> bool {
        self.at <= now && now < self.token.renew_at
    }
}

fn issue(key: &SymmetricKey, resource: &str, policy: Option<&str>, now: SystemTime) -> Token {
    let expires_at = now + LIFE;
    let secret = sign(key, resource, policy, expires_at);
    Token { secret, expires_at, renew_at: now + LIFE * 4 / 5 }
}

fn expired(what: &str, ago: Duration) -> Error {
    let ago = words(ago);
    Error::new(
        ErrorKind::Unauthorized,
        format!("{what} expired {ago} ago; make a new one, or check this machine's clock"),
    )
}

fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TokenSource");
        match &*self.0 {
            Source::Key { resource, policy, .. } => out.field("resource", resource).field("policy", policy),
            Source::ReadyMade(token) => out.field("ready_made", token),
        };
        out.finish_non_exhaustive()
    }
}
