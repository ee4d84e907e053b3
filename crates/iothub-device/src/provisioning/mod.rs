//! The Device Provisioning Service: from an ID scope and a registration id to a hub and a device on it (dps.md).

mod answer;
mod assignment;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use iothub_common::{
    ClientCertificate, ClientOptions, Credential, Error, ErrorKind, RawJson, Result, SymmetricKey,
    TokenSource, connection_string::check_host_name, identity::escape_id,
};
use iothub_http::{Answer, Caller, Outgoing, Repeat, Server, Terms, Transport};
use serde::Serialize;
use tokio::time::{Instant, sleep};

pub use assignment::Assignment;

use self::answer::{Assigned, Step, Who};
use crate::http::{CONNECTION_AGE, JSON, authorization, not_built, to_json};

const GLOBAL_HOST: &str = "global.azure-devices-provisioning.net";
const API_VERSION: &str = "2021-10-01";
const HTTPS_PORT: u16 = 443;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two questions where the service does not say; what most SDKs take (dps.md 7).
const DEFAULT_WAIT: Duration = Duration::from_secs(2);
/// However soon the service wants to be asked.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// Characters of a registration id (dps.md 1).
const MAX_ID: usize = 128;

/// Registers a device with the Device Provisioning Service, which assigns it to a hub.
///
/// ```no_run
/// # async fn run(group_key: &str) -> iothub_device::Result<()> {
/// use iothub_device::ProvisioningClient;
///
/// let assignment = ProvisioningClient::with_group_key("0ne00111111", "sensor-01", group_key)?.register().await?;
/// println!("device {} on {}", assignment.device_id(), assignment.hub());
/// let client = assignment.device_client()?.connect().await?;
/// # Ok(())
/// # }
/// ```
///
/// Registering again gives the same device on the same hub, unless the enrollment says otherwise: a device can do so at
/// each start, or keep what it was told.
#[derive(Clone, Debug)]
#[must_use = "nothing happens until register() is awaited"]
pub struct ProvisioningClient {
    id_scope: String,
    registration_id: String,
    proof: Proof,
    host: String,
    options: ClientOptions,
    timeout: Duration,
    /// That it cannot be written as JSON is told when it is sent: setters do not fail.
    payload: Option<Result<RawJson>>,
}

#[derive(Clone, Debug)]
enum Proof {
    Key(SymmetricKey),
    Certificate(ClientCertificate),
}

impl ProvisioningClient {
    /// A device with an enrollment of its own and one of its keys, in base64; or with the key of a group's member that
    /// was derived elsewhere. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput), saying which of the three is wrong and how.
    pub fn with_symmetric_key(id_scope: &str, registration_id: &str, key: &str) -> Result<Self> {
        Self::new(id_scope, registration_id, Proof::Key(SymmetricKey::from_base64(key)?))
    }

    /// A member of an enrollment group, with the group's key in base64, from which its own is derived. The group's key
    /// opens every device of the group: better derive the key where the device is made, with
    /// [`SymmetricKey::derive`], and give the device that one. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput), saying which of the three is wrong and how.
    pub fn with_group_key(id_scope: &str, registration_id: &str, group_key: &str) -> Result<Self> {
        // As the id is given: no SDK lower-cases it (dps.md 2.2).
        let key = SymmetricKey::from_base64(group_key)?.derive(registration_id);
        Self::new(id_scope, registration_id, Proof::Key(key))
    }

    /// A device that shows a certificate, enrolled itself or signed by an authority of a group. Its common name must be
    /// the registration id. Certificate, with its chain, and key in PEM; see [`ClientCertificate::from_pem`]. No I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput), saying which part is wrong and how.
    pub fn with_certificate(
        id_scope: &str,
        registration_id: &str,
        certificate: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self> {
        Self::new(
            id_scope,
            registration_id,
            Proof::Certificate(ClientCertificate::from_pem(certificate, key)?),
        )
    }

    fn new(id_scope: &str, registration_id: &str, proof: Proof) -> Result<Self> {
        check_scope(id_scope)?;
        check_registration_id(registration_id)?;
        Ok(Self {
            id_scope: id_scope.to_owned(),
            registration_id: registration_id.to_owned(),
            proof,
            host: GLOBAL_HOST.to_owned(),
            options: ClientOptions::default(),
            timeout: DEFAULT_TIMEOUT,
            payload: None,
        })
    }

    /// The service's host name; `global.azure-devices-provisioning.net` unless set.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when it is no host name.
    pub fn host_name(mut self, host_name: impl Into<String>) -> Result<Self> {
        self.host = host_name.into();
        check_host_name(&self.host)?;
        Ok(self)
    }

    /// Ports, trust and proxy, for the service and for the client that [`Assignment::device_client`] gives.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// How long [`register`](Self::register) may take in all; 2 minutes by default.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// What the custom allocation of the enrollment, if it has one, is told about this device.
    pub fn payload(mut self, payload: &impl Serialize) -> Self {
        self.payload = Some(RawJson::new(payload));
        self
    }

    /// Registers the device and waits until it is assigned; the service says how often to ask. Over HTTPS.
    ///
    /// Dropping the future may leave the device registered and assigned.
    ///
    /// # Errors
    ///
    /// - [`Unauthorized`](ErrorKind::Unauthorized): wrong key or certificate, no enrollment with this id, no such ID
    ///   scope: the service does not tell these apart by its code, its words are in the source.
    /// - [`Rejected`](ErrorKind::Rejected): the enrollment is disabled, or no hub took the device.
    /// - [`Timeout`](ErrorKind::Timeout): still being assigned when the time was over.
    /// - [`Connect`](ErrorKind::Connect), [`Certificate`](ErrorKind::Certificate): the service cannot be reached, or
    ///   its certificate is not trusted.
    /// - [`Throttled`](ErrorKind::Throttled), [`Unavailable`](ErrorKind::Unavailable): repeated without success.
    pub async fn register(&self) -> Result<Assignment> {
        let end = Instant::now() + self.timeout;
        let session = Session::new(self)?;
        let body = self.body()?;
        let register = format!("{}/register", self.path());
        let mut answer = session.call("register", Method::PUT, &register, body, end).await?;
        loop {
            let operation = match answer::step(&answer, &self.who())? {
                Step::Assigned(assigned) => return Ok(self.assignment(*assigned)),
                Step::Assigning { operation } => operation,
            };
            let wait = answer.retry_after().unwrap_or(DEFAULT_WAIT).max(SHORTEST_WAIT);
            if wait >= end.saturating_duration_since(Instant::now()) {
                return Err(self.still_assigning());
            }
            sleep(wait).await;
            let poll = format!("{}/operations/{}", self.path(), escape_id(&operation));
            let asked = session.call("registration status", Method::GET, &poll, Bytes::new(), end).await;
            answer = asked.map_err(|error| match error.kind() {
                // The time ended in the middle of a question.
                ErrorKind::Timeout | ErrorKind::Connect if Instant::now() >= end => {
                    self.still_assigning().with_source(error)
                }
                _ => error,
            })?;
        }
    }

    fn path(&self) -> String {
        format!("/{}/registrations/{}", escape_id(&self.id_scope), escape_id(&self.registration_id))
    }

    fn body(&self) -> Result<Bytes> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            registration_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            payload: Option<RawJson>,
        }
        let payload = self.payload.clone().transpose()?;
        to_json("register", &Body { registration_id: &self.registration_id, payload })
    }

    fn who(&self) -> Who<'_> {
        Who { id_scope: &self.id_scope, registration_id: &self.registration_id }
    }

    fn assignment(&self, assigned: Assigned) -> Assignment {
        let Assigned { hub, device_id, substatus, payload } = assigned;
        let (proof, options) = (self.proof.clone(), self.options.clone());
        Assignment { hub, device_id, substatus, payload, proof, options }
    }

    fn still_assigning(&self) -> Error {
        let message = format!(
            "{} was still being assigned after {:?}; allow more time, or look at the allocation policy of its enrollment",
            self.who(),
            self.timeout
        );
        Error::new(ErrorKind::Timeout, message).with_may_have_been_applied(true)
    }
}

/// The service, asked by one device.
struct Session<'a> {
    client: &'a ProvisioningClient,
    caller: Caller,
    tokens: Option<TokenSource>,
}

impl<'a> Session<'a> {
    fn new(client: &'a ProvisioningClient) -> Result<Self> {
        let mut options = client.options.clone();
        let tokens = match &client.proof {
            Proof::Key(key) => {
                options.tls = options.tls.without_client_certificate();
                let resource = format!("{}/registrations/{}", client.id_scope, client.registration_id);
                let credential = Credential::SharedAccessKey(key.clone());
                Some(TokenSource::new(credential, resource, Some("registration"))?)
            }
            Proof::Certificate(certificate) => {
                options.tls = options.tls.client_certificate(certificate.clone());
                None
            }
        };
        let port = options.https_port.unwrap_or(HTTPS_PORT);
        let server = Server { what: "the provisioning service", host: &client.host, port };
        let caller = Caller::new(Transport::new(server, &options, CONNECTION_AGE)?);
        Ok(Self { client, caller, tokens })
    }

    /// Asking twice does no more than asking once.
    async fn call(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
        end: Instant,
    ) -> Result<Answer> {
        let limit = end.saturating_duration_since(Instant::now());
        let terms = Terms { what, repeat: Repeat::Safe, limit };
        let request = || self.request(what, &method, path, &body);
        self.caller.call(terms, request, |answer| answer::refusal(answer, &self.client.who())).await
    }

    fn request(&self, what: &str, method: &Method, path: &str, body: &Bytes) -> Result<Outgoing> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}?api-version={API_VERSION}", self.client.host))
            .header(header::USER_AGENT, crate::USER_AGENT)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, JSON);
        if let Some(tokens) = &self.tokens {
            let token = tokens.token(SystemTime::now())?;
            request = request.header(header::AUTHORIZATION, authorization(&token.secret)?);
        }
        request.body(Full::new(body.clone())).map_err(|error| not_built(what, error))
    }
}

fn check_scope(id_scope: &str) -> Result<()> {
    if !id_scope.is_empty() && id_scope.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let text =
        format!("`{id_scope}` is no ID scope; it looks like 0ne00111111, see the overview of the service");
    Err(Error::new(ErrorKind::InvalidInput, text))
}

/// dps.md 1.
fn check_registration_id(id: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
    if id.is_empty() {
        return refuse("the registration id is empty".to_owned());
    }
    if let Some(bad) = id.chars().find(|&c| !c.is_ascii_alphanumeric() && !"-._:".contains(c)) {
        return refuse(format!(
            "the registration id has the character {bad:?}; allowed are A-Z, a-z, 0-9 and - . _ :"
        ));
    }
    if id.len() > MAX_ID {
        return refuse(format!(
            "the registration id has {} characters, at most {MAX_ID} are allowed",
            id.len()
        ));
    }
    if id.ends_with(['.', '_', ':']) {
        return refuse(format!("the registration id `{id}` must end with a letter, a digit or -"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_right_is_refused_and_named() {
        for (scope, id, key, says) in [
            ("", "d", "c2VjcmV0", "ID scope"),
            ("0ne/1", "d", "c2VjcmV0", "`0ne/1` is no ID scope"),
            ("0ne1", "", "c2VjcmV0", "id is empty"),
            ("0ne1", "a b", "c2VjcmV0", "' '"),
            ("0ne1", "a_", "c2VjcmV0", "must end with"),
            ("0ne1", &"a".repeat(129), "c2VjcmV0", "129 characters"),
            ("0ne1", "d", "no key", "not valid base64"),
        ] {
            for result in [
                ProvisioningClient::with_symmetric_key(scope, id, key),
                ProvisioningClient::with_group_key(scope, id, key),
            ] {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(says), "{error} has no {says}");
            }
        }
        let error = ProvisioningClient::with_certificate("0ne1", "d", "", "").unwrap_err();
        assert!(error.to_string().contains("client certificate"), "{error}");
        let client = ProvisioningClient::with_symmetric_key("0ne1", "d", "c2VjcmV0").unwrap();
        assert!(!format!("{client:?}").contains("c2Vj"));
        assert_eq!(client.host_name("https://x").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn bodies_have_the_payload_where_there_is_one() {
        let client = ProvisioningClient::with_symmetric_key("0ne1", "d", "c2VjcmV0").unwrap();
        assert_eq!(client.body().unwrap(), r#"{"registrationId":"d"}"#);
        let client = client.payload(&[1, 2]);
        assert_eq!(client.body().unwrap(), r#"{"registrationId":"d","payload":[1,2]}"#);
    }
}
