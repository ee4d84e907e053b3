//! A client of another make, the stock fe2o3-amqp one, that speaks to a local hub over TLS.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs, missing_debug_implementations)]

pub mod messages;

use std::net::{IpAddr, Ipv4Addr};

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::link::{
    DetachError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{Error as AmqpError, ErrorCondition, Fields, SenderSettleMode};
use fe2o3_amqp::types::messaging::annotations::OwnedKey;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Body, Data, Message, MessageAnnotations, MessageId, Outcome, Properties,
};
use fe2o3_amqp::types::primitives::{SimpleValue, Symbol, Value};
use fe2o3_amqp::{Connection, Receiver, Sendable, Sender, Session};
use iothub_common::{Identity, SymmetricKey};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{connect_to, owner_key, soon, token};

/// The key of everything the tests create.
pub const KEY: &str = "c29tZSBrZXkgZm9yIHRlc3RzIG9ubHk=";
/// A key of nothing.
pub const OTHER_KEY: &str = "bm90IHRoZSBrZXkgeW91IHdhbnQgaGVyZQ==";

pub fn key() -> SymmetricKey {
    SymmetricKey::from_base64(KEY).unwrap()
}

pub fn device(id: &str) -> Identity {
    Identity::device(id).unwrap()
}

/// Creates a device whose keys are [`KEY`].
pub fn create_device(hub: &LocalHub, id: &str) -> Identity {
    let keys = json!({ "primaryKey": KEY, "secondaryKey": KEY });
    let body = json!({ "deviceId": id, "authentication": { "type": "sas", "symmetricKey": keys } });
    hub.hub().put_device(id, &body, Precondition::None).unwrap();
    device(id)
}

/// Creates a module whose keys are [`KEY`] on a device that is there.
pub fn create_module(hub: &LocalHub, device_id: &str, id: &str) -> Identity {
    let keys = json!({ "primaryKey": KEY, "secondaryKey": KEY });
    let authentication = json!({ "type": "sas", "symmetricKey": keys });
    let body = json!({ "deviceId": device_id, "moduleId": id, "authentication": authentication });
    hub.hub().put_module(device_id, id, &body, Precondition::None).unwrap();
    Identity::module(device_id, id).unwrap()
}

pub fn token_for(hub: &LocalHub, identity: &Identity, seconds: i64) -> String {
    token(&key(), &identity.resource_uri(hub.host_name()), None, seconds)
}

/// `Connected` or `Disconnected`, as the service sees a device.
pub fn connection_state(hub: &LocalHub, id: &str) -> String {
    hub.hub().get_device(id).unwrap()["connectionState"].as_str().unwrap().to_owned()
}

pub async fn tls(hub: &LocalHub) -> TlsStream<TcpStream> {
    let stream = connect_to(hub, IpAddr::V4(Ipv4Addr::LOCALHOST), hub.amqps_port()).await.unwrap();
    // The stock client writes many small frames, which would wait for each other.
    stream.get_ref().0.set_nodelay(true).unwrap();
    stream
}

/// A connection with one session.
pub struct Client {
    pub connection: ConnectionHandle<()>,
    pub session: SessionHandle<()>,
    cbs: Option<(Sender, Receiver)>,
    names: u32,
}

impl Client {
    /// Without SASL, as Node and C# do.
    pub async fn open(hub: &LocalHub) -> Self {
        Self::open_with(hub, None).await.unwrap()
    }

    pub async fn open_with(
        hub: &LocalHub,
        sasl: Option<SaslProfile>,
    ) -> Result<Self, fe2o3_amqp::connection::OpenError> {
        let mut builder = Connection::builder().container_id("stock").hostname(hub.host_name());
        if let Some(sasl) = sasl {
            builder = builder.sasl_profile(sasl);
        }
        let mut connection = soon(Box::pin(builder.open_with_stream(tls(hub).await))).await?;
        let session = soon(Session::begin(&mut connection)).await.unwrap();
        Ok(Self { connection, session, cbs: None, names: 0 })
    }

    /// Opens a connection that has shown a good token of each identity.
    pub async fn authenticated(hub: &LocalHub, identities: &[&Identity]) -> Self {
        let mut client = Self::open(hub).await;
        for identity in identities {
            assert_eq!(client.put_token(&token_for(hub, identity, 3600)).await.1, 200);
        }
        client
    }

    /// Opens a connection that has shown a token of the policy `iothubowner`, which may act as anybody.
    pub async fn owner(hub: &LocalHub) -> Self {
        let mut client = Self::open(hub).await;
        let token = token(&owner_key(hub), hub.host_name(), Some("iothubowner"), 3600);
        assert_eq!(client.put_token(&token).await.1, 200);
        client
    }

    pub fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}-{}", self.names)
    }

    pub async fn sender(&mut self, address: &str) -> Result<Sender, SenderAttachError> {
        let name = self.name("sender");
        soon(Sender::attach(&mut self.session, name, address)).await
    }

    pub async fn receiver(&mut self, address: &str) -> Result<Receiver, ReceiverAttachError> {
        let name = self.name("receiver");
        soon(Receiver::attach(&mut self.session, name, address)).await
    }

    /// How a link that the client would send on is refused.
    ///
    /// Each try has a session of its own: the stock client answers the detach twice, and mixes up the second with
    /// its next link. And when it answers before its attach looks, the reason is lost: then once more.
    pub async fn sender_refused(&mut self, address: &str) -> Refusal {
        loop {
            let mut session = soon(Session::begin(&mut self.connection)).await.unwrap();
            match soon(Sender::attach(&mut session, "refused", address)).await {
                Err(SenderAttachError::RemoteClosedWithError(error)) => return error.into(),
                Err(SenderAttachError::IllegalState) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// How a link that the client would receive on is refused.
    pub async fn receiver_refused(&mut self, address: &str) -> Refusal {
        loop {
            let mut session = soon(Session::begin(&mut self.connection)).await.unwrap();
            match soon(Receiver::attach(&mut session, "refused", address)).await {
                Err(ReceiverAttachError::RemoteClosedWithError(error)) => return error.into(),
                Err(ReceiverAttachError::IllegalState) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Shows a token: message-id, status and text of the answer.
    pub async fn put_token(&mut self, token: &str) -> (MessageId, i32, String) {
        let message = put_token_message(MessageId::String("an id".into()), Value::String(token.into()));
        self.ask_cbs(message).await
    }

    pub async fn ask_cbs(&mut self, message: Message<Body<Value>>) -> (MessageId, i32, String) {
        if self.cbs.is_none() {
            let sender = self.sender("$cbs").await.unwrap();
            self.cbs = Some((sender, self.receiver("$cbs").await.unwrap()));
        }
        let (sender, receiver) = self.cbs.as_mut().unwrap();
        let outcome = soon(sender.send(message)).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        let delivery = soon(receiver.recv::<Body<Value>>()).await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        assert_eq!(delivery.delivery_tag().len(), 4);
        let message = delivery.into_message();
        let id = message.properties.unwrap().correlation_id.unwrap();
        let properties = message.application_properties.unwrap();
        let property = |name: &str| properties.get(name).cloned();
        let Some(SimpleValue::Int(status)) = property("status-code") else { panic!("{properties:?}") };
        let Some(SimpleValue::String(text)) = property("status-description") else {
            panic!("{properties:?}")
        };
        (id, status, text)
    }

    /// Attaches a twin pair under a channel-correlation-id of its own.
    pub async fn twin(&mut self, identity: &Identity) -> Twin {
        let unique = self.name("pair");
        let sender = self.twin_sender(identity, &unique).await.unwrap();
        let receiver = self.twin_receiver(identity, &unique, CreditMode::Auto(200)).await.unwrap();
        Twin { sender, receiver }
    }

    pub async fn twin_sender(
        &mut self,
        identity: &Identity,
        unique: &str,
    ) -> Result<Sender, SenderAttachError> {
        let builder = Sender::builder()
            .name(self.name("twin-sender"))
            .target(identity.amqp_path("twin"))
            .sender_settle_mode(SenderSettleMode::Mixed)
            .properties(correlation(unique));
        soon(builder.attach(&mut self.session)).await
    }

    pub async fn twin_receiver(
        &mut self,
        identity: &Identity,
        unique: &str,
        credit: CreditMode,
    ) -> Result<Receiver, ReceiverAttachError> {
        let builder = Receiver::builder()
            .name(self.name("twin-receiver"))
            .source(identity.amqp_path("twin"))
            .credit_mode(credit)
            .properties(correlation(unique));
        soon(builder.attach(&mut self.session)).await
    }
}

fn correlation(unique: &str) -> Fields {
    let mut properties = Fields::new();
    properties.insert(
        Symbol::from("com.microsoft:channel-correlation-id"),
        Value::String(format!("twin:{unique}")),
    );
    properties
}

pub fn put_token_message(id: MessageId, body: Value) -> Message<Body<Value>> {
    let text = |text: &str| SimpleValue::String(text.to_owned());
    let mut properties = ApplicationProperties::default();
    properties.insert("operation".into(), text("put-token"));
    properties.insert("type".into(), text("servicebus.windows.net:sastoken"));
    properties.insert("name".into(), text("localhost%2Fdevices%2Fd"));
    Message {
        properties: Some(Properties::builder().message_id(id).to("$cbs".to_owned()).build()),
        application_properties: Some(properties),
        ..message(Body::Value(fe2o3_amqp::types::messaging::AmqpValue(body)))
    }
}

pub fn message(body: Body<Value>) -> Message<Body<Value>> {
    Message {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: None,
        application_properties: None,
        body,
        footer: None,
    }
}

pub fn data(bytes: &[u8]) -> Body<Value> {
    Body::Data(vec![Data(bytes.to_vec().into())].into())
}

/// Two twin links.
pub struct Twin {
    pub sender: Sender,
    pub receiver: Receiver,
}

/// What came on the receiving link.
#[derive(Debug)]
pub struct Received {
    pub id: Option<MessageId>,
    pub annotations: Vec<(String, Value)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn annotation(&self, name: &str) -> Option<&Value> {
        self.annotations.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub fn status(&self) -> i32 {
        match self.annotation("status") {
            Some(Value::Int(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub fn version(&self) -> i64 {
        match self.annotation("version") {
            Some(Value::Long(version)) => *version,
            other => panic!("{other:?}"),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl From<Delivery<Body<Value>>> for Received {
    fn from(delivery: Delivery<Body<Value>>) -> Self {
        assert_eq!(delivery.delivery_tag().len(), 16, "a GUID");
        let message = delivery.into_message();
        let annotations = message.message_annotations.unwrap_or_default().0;
        let name = |key: OwnedKey| match key {
            OwnedKey::Symbol(symbol) => symbol.into_inner(),
            other => panic!("{other:?}"),
        };
        let Body::Data(parts) = message.body else { panic!("not a data section: {:?}", message.body) };
        Self {
            id: message.properties.and_then(|properties| properties.correlation_id),
            annotations: annotations.into_iter().map(|(key, value)| (name(key), value)).collect(),
            body: parts.iter().flat_map(|Data(part)| part.to_vec()).collect(),
        }
    }
}

pub const REPORTED: &str = "/properties/reported";
pub const NOTIFICATIONS: &str = "/notifications/twin/properties/desired";

impl Twin {
    pub async fn send(
        &mut self,
        id: Option<MessageId>,
        operation: &str,
        resource: Option<&str>,
        body: Body<Value>,
        settled: bool,
    ) -> Result<Outcome, SendError> {
        let sendable = Sendable::builder().message(request(id, operation, resource, body)).settled(settled);
        soon(self.sender.send(sendable.build())).await
    }

    /// Sends a settled request and takes the next message, which is to have its id.
    pub async fn ask(&mut self, operation: &str, resource: Option<&str>, body: &[u8]) -> Received {
        let id = MessageId::String(format!("{operation} 1"));
        self.send(Some(id.clone()), operation, resource, data(body), true).await.unwrap();
        let received = self.next().await;
        assert_eq!(received.id, Some(id), "{received:?}");
        received
    }

    pub async fn get(&mut self) -> Received {
        self.ask("GET", None, b" ").await
    }

    pub async fn patch(&mut self, body: &str) -> Received {
        self.ask("PATCH", Some(REPORTED), body.as_bytes()).await
    }

    pub async fn subscribe(&mut self) {
        assert_eq!(self.ask("PUT", Some(NOTIFICATIONS), b" ").await.status(), 200);
    }

    pub async fn next(&mut self) -> Received {
        receive(&mut self.receiver).await.unwrap()
    }

    /// How the hub detached both links.
    pub async fn detached(&mut self) -> Refusal {
        let sender = soon(self.sender.on_detach()).await;
        let receiver = loop {
            match soon(self.receiver.recv::<Body<Value>>()).await {
                Ok(_) => {}
                Err(RecvError::LinkStateError(LinkStateError::RemoteClosedWithError(error))) => break error,
                Err(other) => panic!("{other:?}"),
            }
        };
        let refusal = Refusal::from(sender);
        assert_eq!(refusal.condition, condition(&receiver.condition));
        refusal
    }
}

pub async fn receive(receiver: &mut Receiver) -> Result<Received, RecvError> {
    let delivery = soon(receiver.recv::<Body<Value>>()).await?;
    // The stock client gives new credit only for what was disposed of, settled or not.
    receiver.accept(&delivery).await.unwrap();
    Ok(delivery.into())
}

pub fn request(
    id: Option<MessageId>,
    operation: &str,
    resource: Option<&str>,
    body: Body<Value>,
) -> Message<Body<Value>> {
    let mut annotations = MessageAnnotations::default();
    annotations.insert("operation".into(), Value::String(operation.to_owned()));
    if let Some(resource) = resource {
        annotations.insert("resource".into(), Value::String(resource.to_owned()));
    }
    let properties = id.map(|id| Properties { correlation_id: Some(id), ..Properties::default() });
    Message { properties, message_annotations: Some(annotations), ..message(body) }
}

/// An error the hub sent: condition, and the code and text of the JSON in its description.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub condition: String,
    pub code: u64,
    pub text: String,
}

impl From<AmqpError> for Refusal {
    fn from(error: AmqpError) -> Self {
        let body: serde_json::Value = serde_json::from_str(&error.description.unwrap()).unwrap();
        assert!(body["trackingId"].is_string() && body["timestampUtc"].is_string(), "{body}");
        Self {
            condition: condition(&error.condition),
            code: body["errorCode"].as_u64().unwrap(),
            text: body["message"].as_str().unwrap().to_owned(),
        }
    }
}

impl From<DetachError> for Refusal {
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::RemoteClosedWithError(error) => error.into(),
            other => panic!("{other:?}"),
        }
    }
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Rejected(rejected) => rejected.error.unwrap().into(),
            other => panic!("{other:?}"),
        }
    }
}

pub fn condition(condition: &ErrorCondition) -> String {
    match condition {
        ErrorCondition::AmqpError(error) => Symbol::from(error),
        ErrorCondition::ConnectionError(error) => Symbol::from(error),
        ErrorCondition::SessionError(error) => Symbol::from(error),
        ErrorCondition::LinkError(error) => Symbol::from(error),
        ErrorCondition::Custom(symbol) => symbol.clone(),
    }
    .into_inner()
}
