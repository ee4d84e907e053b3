//! How a device or module proves who it is.

mod given;

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use iothub_common::{Error, ErrorKind, Identity, Result, Secret, Token, TokenSource, sas::Unsigned};
use tokio::time::timeout;

pub(crate) use given::Given;

/// How long a SAS provider may take.
const PROVIDER_LIMIT: Duration = Duration::from_secs(30);

/// What an identity shows to the hub.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// Tokens made from a key, or a ready-made one.
    Tokens(TokenSource),
    /// Tokens that the application gives when asked.
    Provider(SasProvider),
    /// The certificate that TLS has shown already.
    Certificate,
}

/// What a SAS provider is asked for: a token of this identity.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SasRequest {
    identity: Identity,
    resource: String,
}

impl SasRequest {
    pub(crate) fn new(identity: Identity, hub: &str) -> Self {
        Self { resource: identity.resource_uri(hub), identity }
    }

    /// The device.
    #[must_use]
    pub fn device_id(&self) -> &str {
        self.identity.device_id()
    }

    /// The module, if it is for one.
    #[must_use]
    pub fn module_id(&self) -> Option<&str> {
        self.identity.module_id()
    }

    /// What the token is to be for, not encoded: `{hub}/devices/{device}[/modules/{module}]`.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// For keys that never leave a security module: what it is to sign with HMAC-SHA256.
    #[must_use]
    pub fn to_sign(&self, expires_at: SystemTime) -> String {
        Unsigned::new(&self.resource, expires_at).to_sign()
    }

    /// The token with the signature, in base64, of what [`to_sign`](Self::to_sign) gave for the same time.
    #[must_use]
    pub fn token(&self, expires_at: SystemTime, signature: &str) -> Secret {
        Unsigned::new(&self.resource, expires_at).with_signature(signature, None)
    }
}

type Provide = dyn Fn(SasRequest) -> BoxFuture<'static, Result<Secret>> + Send + Sync;

/// The application's function that gives tokens.
#[derive(Clone)]
pub(crate) struct SasProvider(Arc<Provide>);

impl SasProvider {
    pub(crate) fn new<F, Fut, T, E>(provide: F) -> Self
    where
        F: Fn(SasRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<T, E>> + Send + 'static,
        T: Into<Secret>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self(Arc::new(move |request| {
            let given = provide(request);
            async move { given.await.map(Into::into).map_err(|error| failed(error.into())) }.boxed()
        }))
    }

    /// Asks once, within the limit. A panic of the application's code is an error like others.
    pub(crate) async fn ask(self, request: SasRequest) -> Result<Token> {
        let asking = async move { (self.0)(request).await };
        let answer = timeout(PROVIDER_LIMIT, AssertUnwindSafe(asking).catch_unwind()).await;
        let secret = match answer {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) => return Err(unavailable("the SAS provider panicked")),
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the SAS provider did not answer within {PROVIDER_LIMIT:?}"),
                ));
            }
        };
        Token::given(secret, SystemTime::now())
    }
}

impl fmt::Debug for SasProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasProvider").finish_non_exhaustive()
    }
}

/// Our own errors keep their kind, others are taken to pass.
fn failed(error: Box<dyn StdError + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error.context("the SAS provider gave no token"),
        Err(error) => unavailable("the SAS provider gave no token").with_source(error),
    }
}

fn unavailable(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn request() -> SasRequest {
        SasRequest::new(Identity::module("d@1", "m").unwrap(), "hub.example.net")
    }

    #[test]
    fn a_request_is_signed_as_our_own_tokens_are() {
        let request = request();
        let key = iothub_common::SymmetricKey::from_base64("b3BlbiBzZXNhbWU=").unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        assert_eq!(request.resource(), "hub.example.net/devices/d@1/modules/m");
        assert_eq!(request.to_sign(at), "hub.example.net%2Fdevices%2Fd%401%2Fmodules%2Fm\n1893456000");
        let own = iothub_common::sas::sign(&key, request.resource(), None, at);
        let (_, signature) = own.reveal().split_once("sig=").unwrap();
        let signature = signature.split('&').next().unwrap().replace("%3D", "=").replace("%2B", "+");
        assert_eq!(request.token(at, &signature.replace("%2F", "/")).reveal(), own.reveal());
    }

    #[tokio::test]
    async fn whatever_a_provider_does_is_an_answer() {
        let foreign = SasProvider::new(|_| async { Err::<String, _>("no network") });
        let error = foreign.ask(request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.source().unwrap().to_string(), "no network");

        let ours =
            SasProvider::new(|_| async { Err::<Secret, _>(Error::new(ErrorKind::Unauthorized, "revoked")) });
        let error = ours.ask(request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains("the SAS provider"), "{error}");

        #[allow(unreachable_code)]
        let panics = SasProvider::new(|_| async { Ok::<Secret, Error>(panic!("a bug of the application")) });
        assert!(panics.ask(request()).await.unwrap_err().to_string().contains("panicked"));
        let panics = SasProvider::new(|request| {
            assert!(request.module_id().is_none(), "a bug before the future");
            async { Ok::<_, Error>(Secret::default()) }
        });
        assert!(panics.ask(request()).await.unwrap_err().to_string().contains("panicked"));

        let nonsense = SasProvider::new(|_| async { Ok::<_, Error>("token".to_owned()) });
        assert_eq!(nonsense.ask(request()).await.unwrap_err().kind(), ErrorKind::InvalidInput);

        let expired = SasProvider::new(|_| async {
            Ok::<_, Error>("SharedAccessSignature sr=h&sig=AA%3D%3D&se=1600000000".to_owned())
        });
        let error = expired.ask(request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains("ago") && error.to_string().contains("clock"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_never_answers_is_given_up() {
        let silent = SasProvider::new(|_| std::future::pending::<Result<Secret>>());
        assert_eq!(silent.ask(request()).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
}
