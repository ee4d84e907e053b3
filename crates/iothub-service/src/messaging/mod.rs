//! The AMQP half: messages to devices, what became of them, uploaded files, and events from devices (amqp.md 5).

mod cloud_message;
mod connection;
mod events;
mod feedback;
mod file_notifications;
mod lock;
mod time;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iothub_amqp::client::Endpoint;
use iothub_common::{ClientOptions, Identity, Result, RetryPolicy, Transport};

pub use self::cloud_message::{CloudMessage, DeliveryAck};
pub use self::events::{
    DeviceEvent, EventReader, EventReaderBuilder, EventSource, EventStream, PartitionInfo, StartPosition,
};
pub use self::feedback::{FeedbackBatch, FeedbackRecord, FeedbackStatus, FeedbackStream};
pub use self::file_notifications::{FileNotification, FileNotificationStream};

use self::connection::{Connection, Settings};
use crate::Registry;
use crate::credentials::Credentials;

/// Silence of twice this time ends a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Messages to devices and modules, what became of them, and uploaded files; see [`Registry::messaging`].
///
/// ```no_run
/// use iothub_service::{CloudMessage, DeliveryAck, Registry};
///
/// # async fn run(registry: Registry) -> iothub_service::Result<()> {
/// let messaging = registry.messaging();
/// let mut feedback = messaging.feedback().await?;
/// let id = messaging.send_to_device("myDevice", CloudMessage::new("wake up").ack(DeliveryAck::Full)).await?;
/// while let Some(batch) = feedback.next().await {
///     let batch = batch?;
///     let mine = batch.records.iter().find(|record| record.original_message_id == id).cloned();
///     batch.complete().await?;
///     if let Some(record) = mine {
///         println!("{}: {}", record.device_id, record.status);
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// Cheap to clone. All clones, and all handles from the same registry, share one AMQP connection, which is opened when
/// it is first used, opened again by itself when it was lost, and closed when the registry, the handles and their
/// streams are gone, or by [`Messaging::close`]. While nothing is sent and nobody listens, a lost connection stays
/// closed.
///
/// Unless a method says otherwise, each call ends within the call timeout of the registry, reconnections included, and
/// can be cancelled by dropping its future. The policy of the registry needs the right *service connect*.
#[derive(Clone, Debug)]
pub struct Messaging {
    connection: Result<Connection>,
}

impl Registry {
    /// Messages to devices and modules, what became of them, and uploaded files. Does no I/O and needs no runtime:
    /// the connection is opened when it is first used, see [`Messaging`].
    ///
    /// After [`Messaging::close`] this gives a handle to a new connection.
    pub fn messaging(&self) -> Messaging {
        self.messaging.get()
    }

    /// A reader of the events that devices sent, by the hub's own connection string: the hub tells where they are
    /// read. Does no I/O before one of its last methods, see [`EventReaderBuilder`].
    ///
    /// ```no_run
    /// use iothub_service::{Registry, StartPosition};
    ///
    /// # async fn run(registry: Registry) -> iothub_service::Result<()> {
    /// let mut events = registry.events().start(StartPosition::Earliest).stream().await?;
    /// while let Some(event) = events.next().await {
    ///     let event = event?;
    ///     println!("{:?}: {} bytes", event.device_id, event.body.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> EventReaderBuilder {
        EventReaderBuilder::new(self.messaging.setup.clone())
    }
}

impl Messaging {
    /// Sends a message to a device and returns once the hub has queued it, with the id by which
    /// [feedback](Messaging::feedback) will name it: the message's own, or the one it was given.
    ///
    /// Messages of calls made one after the other are queued in that order, also when many are under way at once.
    /// Only those that the hub throttled or gave back are sent again later, and so may come after others.
    ///
    /// A message is sent again by itself only while the hub certainly does not have it. When the connection is lost
    /// before the hub confirmed it, the call fails, with
    /// [`may_have_been_applied`](crate::Error::may_have_been_applied) set: sent again by the program, the device may
    /// get it twice. Dropping the future takes the message back if it has not been sent yet.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device; [`QuotaExceeded`] when 50 messages
    /// wait for it already, see [`Registry::purge_message_queue`]; [`InvalidInput`] when the message has more than
    /// 64 KiB, before anything is sent, or the hub finds something else wrong with it, such as its expiry.
    ///
    /// [`InvalidInput`]: crate::ErrorKind::InvalidInput
    /// [`QuotaExceeded`]: crate::ErrorKind::QuotaExceeded
    pub async fn send_to_device(&self, device_id: &str, message: CloudMessage) -> Result<String> {
        self.send(Identity::device(device_id)?, message).await
    }

    /// [`Messaging::send_to_device`] to a module.
    ///
    /// # Errors
    ///
    /// Those of [`Messaging::send_to_device`].
    pub async fn send_to_module(
        &self,
        device_id: &str,
        module_id: &str,
        message: CloudMessage,
    ) -> Result<String> {
        self.send(Identity::module(device_id, module_id)?, message).await
    }

    /// Closes the connection and returns when it is closed, within 5 s; it cannot fail and may be called again. Calls
    /// under way fail with [`Closed`](crate::ErrorKind::Closed), streams end without an error.
    pub async fn close(&self) {
        if let Ok(connection) = &self.connection {
            connection.close().await;
        }
    }

    async fn send(&self, to: Identity, message: CloudMessage) -> Result<String> {
        let (id, payload) = message.encode(&to)?;
        self.connection()?.send(payload, to).await?;
        Ok(id)
    }

    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().map_err(Clone::clone)
    }
}

/// What connections are made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) host: String,
    pub(crate) credentials: Credentials,
    pub(crate) options: ClientOptions,
    pub(crate) call_timeout: Duration,
    pub(crate) retry: RetryPolicy,
}

impl Setup {
    /// Over a WebSocket where a proxy is on the way, which carries nothing else.
    fn endpoint(&self, host: &str, options: &ClientOptions) -> Result<Endpoint> {
        let proxied = options.proxy.as_ref().is_some_and(|proxy| proxy.is_for(host, 443));
        let transport = if proxied { Transport::AmqpWebSocket } else { Transport::Amqp };
        Endpoint::new(host, options, transport, IDLE_TIMEOUT)
    }

    fn settings(&self, endpoint: Endpoint, credentials: Credentials, audience: String) -> Settings {
        let (call_timeout, retry) = (self.call_timeout, self.retry.clone());
        Settings { endpoint, credentials, audience, call_timeout, retry }
    }
}

/// The handle that all clones of a registry share.
#[derive(Debug)]
pub(crate) struct MessagingSlot {
    setup: Arc<Setup>,
    current: Mutex<Option<Messaging>>,
}

impl MessagingSlot {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup: Arc::new(setup), current: Mutex::new(None) }
    }

    fn get(&self) -> Messaging {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = |messaging: &&Messaging| messaging.connection().is_ok_and(|c| !c.is_closed());
        if let Some(messaging) = current.as_ref().filter(usable) {
            return messaging.clone();
        }
        let setup = &self.setup;
        let endpoint = setup.endpoint(&setup.host, &setup.options);
        let settings =
            endpoint.map(|endpoint| setup.settings(endpoint, setup.credentials.clone(), setup.host.clone()));
        current.insert(Messaging { connection: settings.map(Connection::new) }).clone()
    }
}
