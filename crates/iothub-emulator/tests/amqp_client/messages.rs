//! Messages as the stock client sees them, and links that services use.

use std::collections::BTreeMap;

use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::link::{LinkStateError, RecvError};
use fe2o3_amqp::types::definitions::Fields;
use fe2o3_amqp::types::messaging::annotations::OwnedKey;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Body, Data, Message, MessageId, Outcome, Properties, Source,
};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use iothub_emulator::LocalHub;

use super::{Client, Refusal, data, message};
use crate::support::{soon, token};

/// A message that came.
#[derive(Debug)]
pub struct Got {
    pub tag: Vec<u8>,
    pub properties: Properties,
    pub annotations: BTreeMap<String, Value>,
    pub user: BTreeMap<String, SimpleValue>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn read(delivery: &Delivery<Body<Value>>) -> Self {
        let message = delivery.message();
        let name = |key: &OwnedKey| match key {
            OwnedKey::Symbol(symbol) => symbol.as_str().to_owned(),
            other => panic!("{other:?}"),
        };
        let annotations = message.message_annotations.iter().flat_map(|annotations| annotations.0.iter());
        let user = message.application_properties.iter().flat_map(|properties| properties.0.iter());
        let Body::Data(parts) = &message.body else { panic!("not data: {:?}", message.body) };
        Self {
            tag: delivery.delivery_tag().to_vec(),
            properties: message.properties.clone().unwrap_or_default(),
            annotations: annotations.map(|(key, value)| (name(key), value.clone())).collect(),
            user: user.map(|(key, value)| (key.clone(), value.clone())).collect(),
            body: parts.iter().flat_map(|Data(part)| part.to_vec()).collect(),
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn annotation(&self, name: &str) -> &Value {
        self.annotations.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.annotations))
    }

    pub fn delivery_count(&self) -> u8 {
        match self.annotation("iothub-deliverycount") {
            Value::Ubyte(count) => *count,
            other => panic!("{other:?}"),
        }
    }

    pub fn id(&self) -> Option<&MessageId> {
        self.properties.message_id.as_ref()
    }
}

pub async fn next(receiver: &mut Receiver) -> Delivery<Body<Value>> {
    soon(receiver.recv::<Body<Value>>()).await.unwrap()
}

/// Takes and accepts the next message.
pub async fn take(receiver: &mut Receiver) -> Got {
    let delivery = next(receiver).await;
    receiver.accept(&delivery).await.unwrap();
    Got::read(&delivery)
}

/// How the hub detached a receiver; what came before is left out.
pub async fn detached(receiver: &mut Receiver) -> Refusal {
    loop {
        match soon(receiver.recv::<Body<Value>>()).await {
            Ok(_) => {}
            Err(RecvError::LinkStateError(LinkStateError::RemoteClosedWithError(error))) => {
                return error.into();
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub fn text(text: &str) -> SimpleValue {
    SimpleValue::String(text.to_owned())
}

pub fn user(pairs: &[(&str, &str)]) -> Option<ApplicationProperties> {
    let mut properties = ApplicationProperties::default();
    for (name, value) in pairs {
        properties.insert((*name).to_owned(), text(value));
    }
    Some(properties)
}

/// A message from a service.
pub fn device_bound(to: &str, id: &str, ack: &str) -> Message<Body<Value>> {
    Message {
        properties: Some(Properties::builder().message_id(id.to_owned()).to(to.to_owned()).build()),
        application_properties: user(&[("iothub-ack", ack), ("color", "red")]),
        ..message(data(b"hello"))
    }
}

pub async fn send(sender: &mut Sender, message: Message<Body<Value>>) -> Outcome {
    soon(sender.send(message)).await.unwrap()
}

pub fn assert_accepted(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
}

/// A connection with a token of a policy.
pub async fn with_policy(hub: &LocalHub, policy: &str) -> Client {
    let mut client = Client::open(hub).await;
    let key = &hub.hub().policy(policy).unwrap().primary;
    let token = token(key, hub.host_name(), Some(policy), 3600);
    assert_eq!(client.put_token(&token).await.1, 200);
    client
}

impl Client {
    pub async fn receiver_with(
        &mut self,
        source: impl Into<Source>,
        credit: CreditMode,
        properties: Fields,
    ) -> Result<Receiver, fe2o3_amqp::link::ReceiverAttachError> {
        let builder = Receiver::builder()
            .name(self.name("receiver"))
            .source(source)
            .credit_mode(credit)
            .properties(properties);
        soon(builder.attach(&mut self.session)).await
    }
}
