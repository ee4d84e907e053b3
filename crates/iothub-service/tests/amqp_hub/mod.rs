//! A hub that a test plays by hand, frame by frame: the server side of the engine on real TLS.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use iothub_amqp::cbs::{self, PutToken};
use iothub_amqp::message::{Body, Message, annotations, application_properties, fields};
use iothub_amqp::proto::{
    AcceptOptions, Config, Connection, Credit, Delivery, Event, LinkId, Outcome, Outgoing, Side,
};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::serde_amqp::primitives::{Array, OrderedMap, Symbol};
use iothub_amqp::types::definitions::Error as AmqpError;
use iothub_amqp::types::messaging::{DeliveryState, MessageId, Properties, TargetArchetype};
use iothub_amqp::types::performatives::Attach;
use iothub_amqp::types::primitives::SimpleValue;
use iothub_amqp::{Driver, sasl};
use iothub_service::{ClientOptions, Registry, RegistryBuilder, RetryPolicy, TlsConfig};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// An invented key.
const KEY: &str = "b25seS1mb3ItdGVzdHMtMzItYnl0ZXMtbG9uZy0wMDA=";
/// No step of a test takes longer; a test that hangs fails here instead of stopping the run.
const LIMIT: Duration = Duration::from_secs(60);

pub async fn within<F: Future>(step: F) -> F::Output {
    tokio::time::timeout(LIMIT, step).await.expect("a step took longer than a minute")
}

pub struct AmqpHub {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ca_pem: String,
}

impl AmqpHub {
    pub async fn start() -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(std::sync::Arc::new(config)),
            ca_pem: certified.cert.pem(),
        }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub fn options(&self) -> ClientOptions {
        let tls = TlsConfig::default().platform_roots(false).ca_pem(self.ca_pem.as_bytes()).unwrap();
        ClientOptions { amqps_port: Some(self.port()), tls, ..ClientOptions::default() }
    }

    pub fn builder(&self) -> RegistryBuilder {
        let string = format!("HostName=localhost;SharedAccessKeyName=service;SharedAccessKey={KEY}");
        // Reconnections without waiting much.
        let retry = RetryPolicy { initial: Duration::from_millis(10), ..RetryPolicy::default() };
        Registry::builder(&string).unwrap().options(self.options()).retry(retry)
    }

    pub fn registry(&self) -> Registry {
        self.builder().build().unwrap()
    }

    /// The next connection, up to the client's `open`.
    pub async fn accept(&self) -> Client {
        within(Box::pin(async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            let mut stream = self.acceptor.accept(tcp).await.unwrap();
            let login = sasl::server(&mut stream, &["PLAIN"], LIMIT, Some).await.unwrap();
            let mut driver = Driver::new(stream, Side::Server, Config::new("hub"));
            assert!(matches!(driver.next().await, Event::Opened(_)));
            Client {
                driver,
                unseen: VecDeque::new(),
                login,
                answers: None,
                tokens: Vec::new(),
                token_types: Vec::new(),
            }
        }))
        .await
    }

    /// The next connection, on which the client has shown a token.
    pub async fn accept_authorized(&self) -> Client {
        let mut client = self.accept().await;
        while client.tokens.is_empty() {
            let event = client.event().await;
            client.on_token_event(event).expect("something before the token");
        }
        client
    }

    /// The connection on which the client asks where its events are: it is sent here again.
    pub async fn redirect(&self) -> String {
        let mut client = self.accept().await;
        let login = client.login.take().expect("no SASL login");
        assert_eq!(login.mechanism, "PLAIN");
        let (link, attach) = loop {
            match client.event().await {
                Event::AttachRequested { link, attach, .. } => break (link, attach),
                Event::Begun(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(address(&attach), "amqps://localhost/messages/events/$management");
        client.accept(link);
        let text = |text: &str| Value::String(text.to_owned());
        let info = fields([
            ("hostname", text("localhost")),
            ("port", Value::Int(self.port().into())),
            ("address", text("amqps://localhost:5671/the-entity/$management")),
        ]);
        let error =
            AmqpError { info: Some(Box::new(info)), ..iothub_amqp::amqp_error("amqp:link:redirect", "") };
        client.connection().detach(link, Some(error));
        client.until_closed().await;
        String::from_utf8(login.response).unwrap()
    }
}

/// The client's end of a connection.
pub struct Client {
    driver: Driver<TlsStream<TcpStream>>,
    /// What it has done and the test has not seen.
    unseen: VecDeque<Event>,
    login: Option<sasl::Login>,
    answers: Option<LinkId>,
    /// The tokens it has shown.
    pub tokens: Vec<String>,
    pub token_types: Vec<String>,
}

impl Client {
    pub fn connection(&mut self) -> &mut Connection {
        self.driver.connection()
    }

    /// What the client does next, tokens aside.
    pub async fn next(&mut self) -> Event {
        loop {
            let event = self.event().await;
            if let Err(event) = self.on_token_event(event) {
                match *event {
                    Event::Begun(_) | Event::Credit { .. } => {}
                    event => return event,
                }
            }
        }
    }

    /// The next link the client asks for.
    pub async fn requested(&mut self) -> (LinkId, Box<Attach>) {
        match self.next().await {
            Event::AttachRequested { link, attach, .. } => (link, attach),
            other => panic!("no attach but {other:?}"),
        }
    }

    /// Grants the next link, which must be to or from this address.
    pub async fn granted(&mut self, expected: &str) -> LinkId {
        let (link, attach) = self.requested().await;
        assert_eq!(address(&attach), expected);
        self.grant(link).await;
        link
    }

    pub async fn grant(&mut self, link: LinkId) {
        self.accept(link);
        self.flush().await;
    }

    fn accept(&mut self, link: LinkId) {
        let options = AcceptOptions { credit: Credit::Manual, max_message_size: 1 << 20, properties: None };
        self.connection().accept(link, options);
    }

    pub async fn message(&mut self) -> (Delivery, Message) {
        match self.next().await {
            Event::Message(delivery) => {
                let message = Message::decode(&delivery.payload).unwrap();
                (delivery, message)
            }
            other => panic!("no message but {other:?}"),
        }
    }

    /// Waits until the client has accepted so many messages.
    pub async fn accepted(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.outcome().await.1, Outcome::Accepted);
        }
    }

    pub async fn outcome(&mut self) -> (u64, Outcome) {
        match self.next().await {
            Event::Outcome { token, outcome, .. } => (token, outcome),
            other => panic!("no outcome but {other:?}"),
        }
    }

    /// Closes a link and waits until the client has agreed.
    pub async fn detach(&mut self, link: LinkId, error: Option<AmqpError>) {
        self.connection().detach(link, error);
        assert_eq!(self.detached().await, link);
    }

    pub async fn detached(&mut self) -> LinkId {
        match self.next().await {
            Event::Detached { link, .. } => link,
            other => panic!("no detach but {other:?}"),
        }
    }

    /// Waits until the client has given this much credit on a link.
    pub async fn credit(&mut self, link: LinkId, expected: u32) {
        while self.connection().credit(link) != expected {
            let event = self.event().await;
            self.on_token_event(event).expect("no credit");
        }
    }

    pub async fn send(&mut self, link: LinkId, message: &Message, token: u64) {
        let payload = message.encode();
        let outgoing = Outgoing { payload, format: 0, tag: None, settled: false, token };
        assert!(self.connection().send(link, outgoing));
        self.flush().await;
    }

    pub async fn settle(&mut self, delivery: &Delivery, state: DeliveryState) {
        assert!(self.connection().dispose(delivery.link, delivery.id, state, true));
        self.flush().await;
    }

    /// Writes what is due.
    pub async fn flush(&mut self) {
        let polled = std::future::poll_fn(|cx| Poll::Ready(self.driver.poll_next(cx))).await;
        if let Poll::Ready(event) = polled {
            self.unseen.push_back(event);
        }
    }

    async fn event(&mut self) -> Event {
        match self.unseen.pop_front() {
            Some(event) => event,
            None => within(self.driver.next()).await,
        }
    }

    /// Drops the socket, with what was sent before.
    pub async fn cut(self) {
        self.driver.finish(Duration::ZERO).await;
    }

    pub async fn until_closed(mut self) {
        while !matches!(self.event().await, Event::Closed(_)) {}
        self.driver.finish(Duration::from_secs(5)).await;
    }

    /// Answers the two questions about an event hub with one partition, `0`, whose newest event has this number.
    pub async fn answer_management(&mut self, questions: usize, newest: i64) {
        let mut links = [None, None];
        while links.contains(&None) {
            let (link, attach) = self.requested().await;
            assert_eq!(address(&attach), "$management");
            self.accept(link);
            let client_sends = matches!(attach.role, iothub_amqp::types::definitions::Role::Sender);
            links[usize::from(client_sends)] = Some(link);
            if client_sends {
                self.connection().grant(link, 10);
            }
        }
        for _ in 0..questions {
            self.answer_question(links[0].unwrap(), newest).await;
        }
    }

    async fn answer_question(&mut self, answers: LinkId, newest: i64) {
        let (delivery, question) = self.message().await;
        self.settle(&delivery, iothub_amqp::types::messaging::Accepted {}.into()).await;
        assert_eq!(question.application_text("operation"), Some("READ"));
        assert_eq!(question.application_text("name"), Some("the-entity"));
        assert!(question.application_text("security_token").unwrap().contains("the-entity"));
        let text = |text: &str| Value::String(text.to_owned());
        let body = match question.application_text("type") {
            Some("com.microsoft:eventhub") => {
                vec![("partition_ids", Value::Array(Array::from(vec![text("0")])))]
            }
            Some("com.microsoft:partition") => vec![
                ("begin_sequence_number", Value::Long(0)),
                ("last_enqueued_sequence_number", Value::Long(newest)),
            ],
            other => panic!("{other:?}"),
        };
        let map: OrderedMap<_, _> = body.into_iter().map(|(key, value)| (text(key), value)).collect();
        let answer = Message {
            properties: Some(Properties {
                correlation_id: question.properties.unwrap().message_id,
                ..Properties::default()
            }),
            application_properties: Some(application_properties([("status-code", SimpleValue::Int(200))])),
            body: Body::Value(Value::Map(map)),
            ..Message::default()
        };
        let payload = answer.encode();
        let outgoing = Outgoing { payload, format: 0, tag: None, settled: true, token: u64::MAX };
        self.connection().send(answers, outgoing);
        self.flush().await;
    }

    fn on_token_event(&mut self, event: Event) -> Result<(), Box<Event>> {
        match event {
            Event::AttachRequested { link, attach, .. } if address(&attach) == cbs::ADDRESS => {
                self.accept(link);
                match attach.role {
                    iothub_amqp::types::definitions::Role::Receiver => self.answers = Some(link),
                    iothub_amqp::types::definitions::Role::Sender => self.connection().grant(link, 100),
                }
            }
            Event::Message(delivery) => {
                let message = Message::decode(&delivery.payload).unwrap();
                if message.application_text("operation") != Some("put-token") {
                    return Err(Box::new(Event::Message(delivery)));
                }
                let accepted = iothub_amqp::types::messaging::Accepted {};
                self.connection().dispose(delivery.link, delivery.id, accepted.into(), true);
                let token_type = message.application_text("type").unwrap().to_owned();
                self.token_types.push(token_type);
                let put = PutToken::from_message(message);
                self.tokens.push(put.token.unwrap());
                let payload = cbs::reply(put.message_id, 200, "OK").encode();
                let outgoing = Outgoing { payload, format: 0, tag: None, settled: true, token: u64::MAX };
                let answers = self.answers.unwrap();
                self.connection().send(answers, outgoing);
            }
            Event::Begun(_) | Event::Credit { .. } => {}
            other => return Err(Box::new(other)),
        }
        Ok(())
    }
}

/// What a client wants to send to or receive from.
pub fn address(attach: &Attach) -> &str {
    let address = match attach.role {
        iothub_amqp::types::definitions::Role::Sender => match attach.target.as_deref() {
            Some(TargetArchetype::Target(target)) => target.address.as_deref(),
            _ => None,
        },
        iothub_amqp::types::definitions::Role::Receiver => {
            attach.source.as_ref().and_then(|source| source.address.as_deref())
        }
    };
    address.unwrap_or_default()
}

/// The selector of a link that reads a partition.
pub fn filter(attach: &Attach) -> String {
    let filter = attach.source.as_ref().unwrap().filter.as_ref().unwrap();
    match filter.get(&Symbol::from("apache.org:selector-filter:string")) {
        Some(Value::Described(described)) => match &described.value {
            Value::String(text) => text.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

pub fn event(number: i64) -> Message {
    Message {
        annotations: Some(annotations([("x-opt-sequence-number", Value::Long(number))])),
        body: Body::Data(number.to_string().into()),
        ..Message::default()
    }
}

pub fn feedback(content_type: &str, body: &'static str) -> Message {
    let properties = Properties { content_type: Some(Symbol::from(content_type)), ..Properties::default() };
    Message {
        properties: Some(properties),
        body: Body::Data(Bytes::from_static(body.as_bytes())),
        ..Message::default()
    }
}

pub fn message_id(message: &Message) -> &str {
    match message.properties.as_ref().unwrap().message_id.as_ref() {
        Some(MessageId::String(id)) => id,
        other => panic!("{other:?}"),
    }
}
