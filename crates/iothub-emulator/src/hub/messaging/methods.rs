//! Direct methods: from who calls to the connection that listens, and the response back (rest.md 7, amqp.md 3.7).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iothub_common::Identity;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::hub::error::{ErrorCode, HubError};
use crate::hub::live::{Connected, Mailbox, Push};
use crate::hub::{Hub, Inner};

/// Characters of a method's name (rest.md 14).
const MAX_NAME: usize = 100;
/// A payload, either way, bytes (rest.md 14).
const MAX_PAYLOAD: usize = 128 * 1024;
/// Calls to one device or module at a time. The real number is not known (inferred).
const MAX_IN_FLIGHT: usize = 100;
/// Seconds (rest.md 7).
const RESPONSE_TIMEOUT: std::ops::RangeInclusive<u64> = 5..=300;
const CONNECT_TIMEOUT: std::ops::RangeInclusive<u64> = 0..=300;
const DEFAULT_RESPONSE_TIMEOUT: u64 = 30;

/// A call of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodRequest {
    /// Which method.
    pub name: String,
    /// JSON, at most 128 KiB.
    pub payload: Bytes,
    /// How long the device may take, 5 to 300 seconds.
    pub response_timeout: Duration,
    /// How long to wait for the device to be there, at most 300 seconds.
    pub connect_timeout: Duration,
}

/// What the device answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodResponse {
    /// The device's own status, whatever it means by it.
    pub status: i32,
    /// JSON.
    pub payload: Bytes,
}

/// The calls under way.
#[derive(Debug, Default)]
pub(in crate::hub) struct Methods {
    waiting: HashMap<Uuid, Waiting>,
    in_flight: HashMap<Identity, usize>,
}

type Answer = Result<MethodResponse, HubError>;

#[derive(Debug)]
struct Waiting {
    /// Who is to answer.
    mailbox: Arc<Mailbox>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    method_name: Option<String>,
    response_timeout_in_seconds: Option<serde_json::Number>,
    connect_timeout_in_seconds: Option<serde_json::Number>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl MethodRequest {
    /// Reads the body of a request. The payload stays as it is; without one it is `null`.
    ///
    /// # Errors
    ///
    /// 400005 without a body, 400004 when it is no JSON object, a member has the wrong type, the name is
    /// missing or longer than 100 characters, a time limit is out of range, or the payload over 128 KiB.
    pub fn parse(body: &[u8]) -> Result<Self, HubError> {
        if body.is_empty() {
            let text = "the request has no body; a method call is JSON with a methodName";
            return Err(HubError::new(ErrorCode::ArgumentNull, text));
        }
        let body: Body<'_> = serde_json::from_slice(body)
            .map_err(|error| invalid(format!("the body is no method call: {error}")))?;
        let seconds = |given: Option<serde_json::Number>, default| match given {
            None => Ok(default),
            Some(given) => given.as_u64().ok_or_else(|| invalid(format!("{given} is no number of seconds"))),
        };
        let request = Self {
            name: body.method_name.unwrap_or_default(),
            payload: body
                .payload
                .map_or_else(null, |payload| Bytes::copy_from_slice(payload.get().as_bytes())),
            response_timeout: Duration::from_secs(seconds(
                body.response_timeout_in_seconds,
                DEFAULT_RESPONSE_TIMEOUT,
            )?),
            connect_timeout: Duration::from_secs(seconds(body.connect_timeout_in_seconds, 0)?),
        };
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), HubError> {
        if self.name.trim().is_empty() || self.name.chars().count() > MAX_NAME {
            return Err(invalid(format!("methodName must have 1 to {MAX_NAME} characters")));
        }
        let limits = [
            ("responseTimeoutInSeconds", self.response_timeout, RESPONSE_TIMEOUT),
            ("connectTimeoutInSeconds", self.connect_timeout, CONNECT_TIMEOUT),
        ];
        for (name, given, range) in limits {
            if !range.contains(&given.as_secs()) {
                let (from, to) = range.into_inner();
                return Err(invalid(format!("{name} must be {from} to {to}, not {}", given.as_secs())));
            }
        }
        if self.payload.len() > MAX_PAYLOAD {
            return Err(invalid(format!("the payload has more than {MAX_PAYLOAD} bytes")));
        }
        Ok(())
    }
}

impl MethodResponse {
    /// `{"status":…,"payload":…}`, with the payload as the device wrote it.
    pub fn to_json(&self) -> Bytes {
        let mut json = format!(r#"{{"status":{},"payload":"#, self.status).into_bytes();
        json.extend_from_slice(&self.payload);
        json.push(b'}');
        json.into()
    }

    /// Node writes `undefined`, or nothing, for a payload that is not there (amqp.md 3.7).
    fn checked(mut self) -> Result<Self, &'static str> {
        if self.payload.is_empty() || self.payload[..] == *b"undefined" {
            self.payload = null();
        }
        if self.payload.len() > MAX_PAYLOAD {
            return Err("is larger than 128 KiB");
        }
        match serde_json::from_slice::<&RawValue>(&self.payload) {
            Ok(_) => Ok(self),
            Err(_) => Err("is no JSON"),
        }
    }
}

impl Methods {
    fn begin(&mut self, mailbox: &Arc<Mailbox>) -> (Uuid, oneshot::Receiver<Answer>) {
        let (answer, response) = oneshot::channel();
        let id = Uuid::new_v4();
        self.waiting.insert(id, Waiting { mailbox: Arc::clone(mailbox), answer });
        (id, response)
    }

    /// The connection does not listen any more: its calls will not be answered.
    pub(in crate::hub) fn left(&mut self, mailbox: &Arc<Mailbox>) {
        let calls = self.waiting.extract_if(|_, call| Arc::ptr_eq(&call.mailbox, mailbox));
        for (_, call) in calls {
            let error = HubError::new(ErrorCode::DeviceConnectionClosedRemotely, "Device unavailable");
            call.answer.send(Err(error)).ok();
        }
    }

    fn enter(&mut self, identity: &Identity) -> Result<(), HubError> {
        let count = self.in_flight.entry(identity.clone()).or_default();
        if *count >= MAX_IN_FLIGHT {
            let text = format!("{identity} has {MAX_IN_FLIGHT} method calls under way, no more are allowed");
            return Err(HubError::new(ErrorCode::DeviceMaximumInflightMethodExceeded, text));
        }
        *count += 1;
        Ok(())
    }

    fn leave(&mut self, identity: &Identity) {
        let Some(count) = self.in_flight.get_mut(identity) else { return };
        *count -= 1;
        if *count == 0 {
            self.in_flight.remove(identity);
        }
    }
}

/// Counts a call as long as it is under way.
struct Place {
    hub: Hub,
    identity: Identity,
    call: Option<Uuid>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        let methods = &mut inner.messaging.methods;
        methods.leave(&self.identity);
        if let Some(call) = self.call {
            methods.waiting.remove(&call);
        }
    }
}

impl Hub {
    /// Calls a method of a device or module, and waits for its answer. Times are by the hub's clock.
    ///
    /// Dropping the future ends the call; the device may have got it.
    ///
    /// # Errors
    ///
    /// 400004 for the request; 404001 also when the device is disabled, 404010; 404103 when nobody listens
    /// for methods within the connect timeout; 404104 when who listened went away; 504101 without an answer
    /// in time; 403800 for too many calls at once; 502000 for an answer that is none.
    pub async fn invoke_method(
        &self,
        target: &Identity,
        request: MethodRequest,
    ) -> Result<MethodResponse, HubError> {
        request.check()?;
        let mut place = self.enter_method(target)?;
        let response = self.reach(target, &request, &mut place).await?;
        let late = self.clock().reached(self.now() + request.response_timeout);
        tokio::select! {
            biased;
            // The sender is dropped with the call only, and that is this future's.
            response = response => response.unwrap_or_else(|_| Err(no_response())),
            () = late => Err(no_response()),
        }
    }

    /// Calls of a device's or module's methods that are under way, those that wait for it to connect included.
    pub fn method_calls(&self, target: &Identity) -> usize {
        self.lock().messaging.methods.in_flight.get(target).copied().unwrap_or_default()
    }

    fn enter_method(&self, target: &Identity) -> Result<Place, HubError> {
        let mut inner = self.lock();
        inner.state.check_usable(target, self.name())?;
        inner.messaging.methods.enter(target)?;
        Ok(Place { hub: self.clone(), identity: target.clone(), call: None })
    }

    /// Hands the call to who listens, now or within the connect timeout.
    async fn reach(
        &self,
        target: &Identity,
        request: &MethodRequest,
        place: &mut Place,
    ) -> Result<oneshot::Receiver<Answer>, HubError> {
        let late = self.clock().reached(self.now() + request.connect_timeout);
        let mut late = std::pin::pin!(late);
        loop {
            // Before the look, so that nobody who comes in between is missed.
            let change = self.signals().methods.notified();
            let mut change = std::pin::pin!(change);
            change.as_mut().enable();
            if let Some((id, response)) = self.hand_over(target, request)? {
                place.call = Some(id);
                return Ok(response);
            }
            if request.connect_timeout.is_zero() {
                return Err(not_online());
            }
            tokio::select! {
                () = change => {}
                () = late.as_mut() => return Err(not_online()),
            }
        }
    }

    fn hand_over(
        &self,
        target: &Identity,
        request: &MethodRequest,
    ) -> Result<Option<(Uuid, oneshot::Receiver<Answer>)>, HubError> {
        let mut inner = self.lock();
        inner.state.check_usable(target, self.name())?;
        let Inner { live, messaging, .. } = &mut *inner;
        let Some(mailbox) = live.listener(target) else { return Ok(None) };
        let (id, response) = messaging.methods.begin(mailbox);
        mailbox.post(Push::Method { id, name: request.name.clone(), payload: request.payload.clone() });
        Ok(Some((id, response)))
    }
}

impl Connected {
    /// Answers a call that came as [`Push::Method`]. One that is over is passed over.
    ///
    /// # Errors
    ///
    /// 400004 for a payload that is no JSON or over 128 KiB; the caller hears of it too.
    pub fn respond(&self, call: Uuid, response: MethodResponse) -> Result<(), HubError> {
        let response = response.checked();
        let waiting = {
            let mut inner = self.hub().lock();
            let waiting = &mut inner.messaging.methods.waiting;
            let is_ours = |call: &Waiting| Arc::ptr_eq(&call.mailbox, self.mailbox());
            if waiting.get(&call).is_some_and(is_ours) { waiting.remove(&call) } else { None }
        };
        let Some(waiting) = waiting else { return Ok(()) };
        match response {
            Ok(response) => {
                waiting.answer.send(Ok(response)).ok();
                Ok(())
            }
            Err(what) => {
                let text = format!("the payload of the device's answer {what}");
                let (status, code) = (502, 502_000);
                let bad = HubError { status, code, name: "BadDeviceResponse", text: text.clone() };
                waiting.answer.send(Err(bad)).ok();
                Err(invalid(text))
            }
        }
    }
}

fn null() -> Bytes {
    Bytes::from_static(b"null")
}

fn not_online() -> HubError {
    HubError::new(ErrorCode::DeviceNotOnline, "Timed out waiting for device to connect.")
}

fn no_response() -> HubError {
    HubError::new(ErrorCode::GatewayTimeout, "Timed out waiting for the response from device.")
}

fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
