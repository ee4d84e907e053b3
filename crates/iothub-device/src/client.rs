//! The handle that every face of a client shares.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use iothub_amqp::client::Endpoint;
use iothub_common::{ClientOptions, Error, ErrorKind, Identity, ReconnectPolicy, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::unconstrained,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    actor::{Actor, Command, Control, Key, Member},
    calls::Call,
    credentials::Credentials,
    desired::DesiredUpdates,
    features::{AnswerTo, RawMessage, RawRequest, Ticket, TwinKind, Verdict, settle_body},
    http::HubHttp,
    mailbox::Reader,
    measure::{Measured, call_name},
    multiplexer::Place,
    status::{ConnectionStatus, StatusChanges},
};

/// Commands on their way to the connection task before callers wait.
const COMMAND_QUEUE: usize = 256;
/// Calls of one identity that may wait for an answer; further ones wait for those.
const MAX_CALLS: usize = 4096;
/// `close` ends within this time whatever the network does.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Who connects, and how patiently.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) identity: Identity,
    /// The hub for which tokens are signed; a gateway may be what is dialled.
    pub(crate) hub: String,
    /// What is dialled.
    pub(crate) host: String,
    /// For what goes over HTTPS.
    pub(crate) options: ClientOptions,
    pub(crate) credentials: Credentials,
    pub(crate) retry: Arc<dyn ReconnectPolicy>,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    /// Messages the hub may send ahead of a reader.
    pub(crate) prefetch: u32,
    /// The Plug and Play model that it announces.
    pub(crate) model_id: Option<String>,
}

/// Which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Cloud,
    Inputs,
}

/// The way to a connection task. Identities are added to it and find their commands handled.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    commands: mpsc::Sender<(Key, Command)>,
    control: mpsc::UnboundedSender<Control>,
    next_key: Arc<AtomicU64>,
}

impl Line {
    /// The way to a connection task, and the task. `ends_when_empty`: it ends with its last identity.
    pub(crate) fn new(
        endpoint: Endpoint,
        retry: Arc<dyn ReconnectPolicy>,
        shutdown: CancellationToken,
        ends_when_empty: bool,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (commands, command_receiver) = mpsc::channel(COMMAND_QUEUE);
        let (control, control_receiver) = mpsc::unbounded_channel();
        let actor =
            Actor::new(endpoint, retry, command_receiver, control_receiver, shutdown, ends_when_empty);
        (Self { commands, control, next_key: Arc::default() }, actor.run())
    }

    /// Whether the connection task has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.control.is_closed()
    }

    /// Adds an identity and waits until the hub accepted it.
    pub(crate) async fn connect(self, settings: Settings, place: Option<Place>) -> Result<Client> {
        let (status, watcher) = watch::channel(ConnectionStatus::Connecting);
        let done = CancellationToken::new();
        let member = Member::new(settings.clone(), status, done.clone());
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.control.send(Control::Add(key, Box::new(member))).map_err(|_| closed_error())?;
        let client = Client(Arc::new(Shared {
            key,
            line: self,
            http: HubHttp::new(&settings),
            identity: settings.identity,
            call_timeout: settings.call_timeout,
            status: watcher,
            done,
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            _place: place,
        }));
        client.accepted(settings.connect_timeout).await?;
        Ok(client)
    }
}

/// Cheap to clone; the identity stays connected as long as one clone lives.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    key: Key,
    line: Line,
    http: HubHttp,
    identity: Identity,
    call_timeout: Duration,
    status: watch::Receiver<ConnectionStatus>,
    done: CancellationToken,
    permits: Arc<Semaphore>,
    _place: Option<Place>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The task is gone when this fails.
        self.line.control.send(Control::Remove(self.key)).ok();
    }
}

impl Client {
    async fn accepted(&self, limit: Duration) -> Result<()> {
        let mut status = self.0.status.clone();
        let settled = status.wait_for(|s| s.is_connected() || s.is_closed());
        match timeout(limit, settled).await {
            Ok(Ok(status)) => match &*status {
                ConnectionStatus::Closed { error } => Err(error.clone().unwrap_or_else(closed_error)),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(self.closed_because()),
            Err(_) => Err(self.not_accepted_within(limit)),
        }
    }

    /// The reason of the last attempt, if one ended; the identity leaves with the handle.
    fn not_accepted_within(&self, limit: Duration) -> Error {
        match &*self.0.status.borrow() {
            ConnectionStatus::Retrying { error, .. } => error.clone(),
            _ => Error::new(
                ErrorKind::Timeout,
                format!("the hub did not accept {} within {limit:?}", self.0.identity),
            ),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The way to the hub over HTTPS, of clients that are open.
    pub(crate) fn http(&self) -> Result<&HubHttp> {
        if self.status().is_closed() { Err(self.closed_because()) } else { Ok(&self.0.http) }
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.call_timeout
    }

    pub(crate) fn status(&self) -> ConnectionStatus {
        self.0.status.borrow().clone()
    }

    pub(crate) fn watch_status(&self) -> watch::Receiver<ConnectionStatus> {
        self.0.status.clone()
    }

    pub(crate) fn status_changes(&self) -> StatusChanges {
        StatusChanges::new(self.0.status.clone())
    }

    /// Waits for the end; `None` when the application closed the client.
    pub(crate) async fn closed(&self) -> Option<Error> {
        let mut status = self.0.status.clone();
        match status.wait_for(ConnectionStatus::is_closed).await.as_deref() {
            Ok(ConnectionStatus::Closed { error }) => error.clone(),
            _ => None,
        }
    }

    pub(crate) async fn close(&self) {
        self.control(Control::Remove(self.0.key));
        if timeout(CLOSE_LIMIT, self.0.done.cancelled()).await.is_err() {
            tracing::warn!(identity = %self.0.identity, "the hub did not agree to the end in time");
        }
    }

    /// A twin request and its answer: body and version. Reads have no body.
    pub(crate) async fn twin(&self, kind: TwinKind, body: Bytes, limit: Duration) -> Result<(Bytes, u64)> {
        let repeat = kind == TwinKind::Get;
        let command = |call, deadline| Command::Twin { call, deadline };
        let name = if repeat { call_name::TWIN_GET } else { call_name::TWIN_REPORT };
        self.call(name, kind, body, repeat, limit, command).await
    }

    /// Sends an encoded telemetry message.
    pub(crate) async fn send(&self, message: Bytes, format: u32, limit: Duration) -> Result<()> {
        let command = |call, deadline| Command::Send { call, deadline };
        self.call(call_name::SEND, format, message, true, limit, command).await
    }

    /// Hands over an encoded telemetry message. Returns its outcome, to be waited for.
    pub(crate) async fn start_send(
        self,
        message: Bytes,
        format: u32,
        limit: Duration,
    ) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        let command = |call, deadline| Command::Send { call, deadline };
        let answer = self.start(format, message, true, limit, command).await?;
        Ok(async move { self.answer(answer).await })
    }

    pub(crate) async fn subscribe_desired(&self, limit: Duration) -> Result<DesiredUpdates> {
        let deadline = Instant::now() + limit;
        let (reply, answer) = oneshot::channel();
        self.command(Command::SubscribeDesired { deadline, reply }, deadline).await?;
        let queue = self.answer(answer).await?;
        Ok(DesiredUpdates::new(queue, self.clone()))
    }

    pub(crate) async fn methods(&self, name: Option<String>) -> Result<Reader<RawRequest>> {
        let deadline = Instant::now() + self.0.call_timeout;
        let (reply, answer) = oneshot::channel();
        self.command(Command::SubscribeMethods { name, deadline, reply }, deadline).await?;
        Ok(Reader::new(self.answer(answer).await?, self.clone()))
    }

    /// `epoch`: the links that brought the request.
    pub(crate) async fn answer_method(&self, message: Bytes, epoch: u64) -> Result<()> {
        let command = |call, deadline| Command::AnswerMethod { call, deadline };
        self.call(call_name::METHOD_ANSWER, epoch, message, false, self.0.call_timeout, command).await
    }

    pub(crate) fn method_dropped(&self, answer_to: AnswerTo) {
        self.control(Control::MethodDropped(self.0.key, answer_to));
    }

    pub(crate) async fn receive(&self, which: Which, input: Option<String>) -> Result<Reader<RawMessage>> {
        let deadline = Instant::now() + self.0.call_timeout;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Receive { which, input, deadline, reply }, deadline).await?;
        Ok(Reader::new(self.answer(answer).await?, self.clone()))
    }

    pub(crate) async fn settle(&self, which: Which, ticket: Ticket, verdict: Verdict) -> Result<()> {
        let command = |call, deadline| Command::Settle { which, call, deadline };
        let (kind, body) = ((ticket, verdict), settle_body());
        self.call(call_name::SETTLE, kind, body, false, self.0.call_timeout, command).await
    }

    pub(crate) fn release(&self, which: Which, ticket: Ticket) {
        self.control(Control::Release(self.0.key, which, ticket));
    }

    /// A reader took something or is gone.
    pub(crate) fn touch(&self) {
        self.control(Control::Touch(self.0.key));
    }

    fn control(&self, control: Control) {
        // The task is gone when this fails, and with it what it is about.
        self.0.line.control.send(control).ok();
    }

    async fn call<K, R>(
        &self,
        name: &'static str,
        kind: K,
        body: Bytes,
        repeat: bool,
        limit: Duration,
        command: impl FnOnce(Call<K, R>, Instant) -> Command,
    ) -> Result<R> {
        let measured = Measured::start(name, &self.0.identity);
        let started = self.start(kind, body, repeat, limit, command).instrument(measured.span()).await;
        let result = match started {
            Ok(answer) => self.answer(answer).await,
            Err(error) => Err(error),
        };
        measured.end(result)
    }

    /// Hands a call over to the connection task. Calls keep the order of their first polls.
    async fn start<K, R>(
        &self,
        kind: K,
        body: Bytes,
        repeat: bool,
        limit: Duration,
        command: impl FnOnce(Call<K, R>, Instant) -> Command,
    ) -> Result<oneshot::Receiver<Result<R>>> {
        let deadline = Instant::now() + limit;
        let (reply, answer) = oneshot::channel();
        let enqueue = async {
            let permit = self.permit(deadline).await?;
            let call = Call { kind, body, repeat, reply, _permit: Some(permit) };
            self.command(command(call, deadline), deadline).await
        };
        // Tokio's budget would let a later one pass: a task that joins many calls runs out of it in the middle,
        // and is woken in another order.
        unconstrained(enqueue).await?;
        Ok(answer)
    }

    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        match timeout_at(deadline, self.0.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(self.closed_because()),
            Err(_) => Err(waited_too_long()),
        }
    }

    async fn command(&self, command: Command, deadline: Instant) -> Result<()> {
        match timeout_at(deadline, self.0.line.commands.send((self.0.key, command))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.closed_because()),
            Err(_) => Err(waited_too_long()),
        }
    }

    /// The connection task answers at the deadline of a call at the latest, or drops the question.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<Result<T>, oneshot::error::RecvError>>,
    ) -> Result<T> {
        answer.await.unwrap_or_else(|_| Err(self.closed_because()))
    }

    fn closed_because(&self) -> Error {
        match &*self.0.status.borrow() {
            ConnectionStatus::Closed { error: Some(error) } => error.clone(),
            _ => closed_error(),
        }
    }
}

pub(crate) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the client is closed; connect a new one")
}

fn waited_too_long() -> Error {
    Error::new(ErrorKind::Timeout, "the call had to wait too long behind others")
}
