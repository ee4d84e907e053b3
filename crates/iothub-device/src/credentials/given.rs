//! What a builder was given to prove an identity with: one thing, not two.

use iothub_common::{
    ClientCertificate, ClientOptions, Credential, DeviceConnectionString, Error, ErrorKind, Identity, Result,
    SymmetricKey, TokenSource, connection_string::check_host_name,
};

use super::{Credentials, SasProvider};

/// Whom to connect as, where, and all that was said about how to prove it.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) identity: Identity,
    pub(crate) hub: String,
    /// Dialled in place of the hub.
    pub(crate) gateway: Option<String>,
    /// From the connection string, if there is one.
    credential: Option<Credential>,
    pub(crate) provider: Option<SasProvider>,
    pub(crate) certificate: Option<ClientCertificate>,
}

impl Given {
    pub(crate) fn new(hub: impl Into<String>, identity: Identity) -> Result<Self> {
        let hub = hub.into();
        check_host_name(&hub)?;
        Ok(Self { identity, hub, gateway: None, credential: None, provider: None, certificate: None })
    }

    pub(crate) fn with_key(self, key: SymmetricKey) -> Self {
        Self { credential: Some(Credential::SharedAccessKey(key)), ..self }
    }

    pub(crate) fn with_certificate(self, certificate: ClientCertificate) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    pub(crate) fn set_gateway(&mut self, gateway: String) -> Result<()> {
        check_host_name(&gateway)?;
        self.gateway = Some(gateway);
        Ok(())
    }

    /// The host to dial.
    pub(crate) fn host(&self) -> &str {
        self.gateway.as_deref().unwrap_or(&self.hub)
    }

    /// The one way that is left, and the options with the certificate in them.
    pub(crate) fn resolve(self, mut options: ClientOptions) -> Result<(Credentials, ClientOptions)> {
        let in_options = options.tls.has_client_certificate();
        if let Some(certificate) = self.certificate.clone() {
            options.tls = options.tls.client_certificate(certificate);
        }
        let credentials = match (self.credential, self.provider, self.certificate) {
            (Some(Credential::X509), None, None) if in_options => Credentials::Certificate,
            (None | Some(Credential::X509), None, Some(_)) => Credentials::Certificate,
            (Some(Credential::X509), None, None) => {
                return Err(invalid(
                    "the connection string says x509=true: give the certificate and its key with \
                     builder(..).x509(certificate, key)",
                ));
            }
            (Some(credential), None, None) => Credentials::Tokens(TokenSource::new(
                credential,
                self.identity.resource_uri(&self.hub),
                None,
            )?),
            (None, Some(provider), None) => Credentials::Provider(provider),
            (_, Some(_), Some(_)) => {
                return Err(invalid("a SAS provider and a client certificate exclude each other; keep one"));
            }
            (Some(credential), provider, _) => {
                let other = if provider.is_some() { "a SAS provider" } else { "a client certificate" };
                return Err(invalid(format!(
                    "the connection string has {} already, and {other} was given too; keep one, with builder_for in \
                     place of the connection string",
                    name(&credential),
                )));
            }
            (None, None, None) => {
                return Err(invalid(
                    "nothing was given to prove who connects: use sas_provider or x509, or a connection string",
                ));
            }
        };
        Ok((credentials, options))
    }
}

impl From<DeviceConnectionString> for Given {
    fn from(from: DeviceConnectionString) -> Self {
        Self {
            identity: from.identity().clone(),
            hub: from.host_name().to_owned(),
            gateway: from.gateway_host_name().map(str::to_owned),
            credential: Some(from.credential().clone()),
            provider: None,
            certificate: None,
        }
    }
}

fn name(credential: &Credential) -> &'static str {
    match credential {
        Credential::SharedAccessSignature(_) => "a SharedAccessSignature",
        Credential::X509 => "x509=true",
        _ => "a SharedAccessKey",
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_common::Secret;

    use super::*;

    fn certificate() -> ClientCertificate {
        let made = rcgen::generate_simple_self_signed(vec!["d".to_owned()]).unwrap();
        ClientCertificate::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap()
    }

    fn given(string: Option<&str>, provider: bool, certificate_too: bool) -> Result<Credentials> {
        let mut given = match string {
            Some(proof) => {
                let string = format!("HostName=h;DeviceId=d;{proof}");
                Given::from(string.parse::<DeviceConnectionString>().unwrap())
            }
            None => Given::new("h", Identity::device("d").unwrap()).unwrap(),
        };
        given.provider = provider.then(|| SasProvider::new(|_| async { Ok::<_, Error>(Secret::default()) }));
        given.certificate = certificate_too.then(certificate);
        given.resolve(ClientOptions::default()).map(|(credentials, _)| credentials)
    }

    const KEY: &str = "SharedAccessKey=b3BlbiBzZXNhbWU=";
    const SIGNATURE: &str = "SharedAccessSignature=SharedAccessSignature sr=h&sig=AA%3D%3D&se=1";

    #[test]
    fn one_way_to_prove_it_is_taken() {
        use Credentials as C;
        assert!(matches!(given(Some(KEY), false, false), Ok(C::Tokens(_))));
        // Whether it has expired is seen when it is shown.
        assert!(matches!(given(Some(SIGNATURE), false, false), Ok(C::Tokens(_))));
        assert!(matches!(given(Some("x509=true"), false, true), Ok(C::Certificate)));
        assert!(matches!(given(None, false, true), Ok(C::Certificate)));
        assert!(matches!(given(None, true, false), Ok(C::Provider(_))));
    }

    #[test]
    fn none_or_two_are_told_apart() {
        for (string, provider, certificate, says) in [
            (None, false, false, "sas_provider or x509"),
            (Some("x509=true"), false, false, ".x509(certificate, key)"),
            (Some("x509=true"), true, false, "has x509=true already, and a SAS provider"),
            (Some(KEY), true, false, "has a SharedAccessKey already, and a SAS provider"),
            (Some(KEY), false, true, "has a SharedAccessKey already, and a client certificate"),
            (Some(SIGNATURE), false, true, "has a SharedAccessSignature already, and a client certificate"),
            (None, true, true, "exclude each other"),
        ] {
            let error = given(string, provider, certificate).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(says), "{error} has no `{says}`");
        }
    }

    #[test]
    fn a_certificate_in_the_options_goes_with_x509() {
        let string: DeviceConnectionString = "HostName=h;DeviceId=d;x509=true".parse().unwrap();
        let mut options = ClientOptions::default();
        options.tls = options.tls.client_certificate(certificate());
        let (credentials, options) = Given::from(string).resolve(options).unwrap();
        assert!(matches!(credentials, Credentials::Certificate));
        assert!(options.tls.has_client_certificate());
    }
}
