//! Many identities on few connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use iothub_amqp::client::Endpoint;
use iothub_common::{ReconnectPolicy, Result};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::client::{Client, Line, Settings};

/// Identities on one connection at most; what the hub and Microsoft's pools allow (amqp.md 8).
const MAX_PER_CONNECTION: usize = 995;
/// `close` ends within this time whatever the network does.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Shares connections between clients: up to 995 identities on one, then a further one is opened.
///
/// ```no_run
/// # async fn run(connection_strings: Vec<String>) -> iothub_device::Result<()> {
/// use iothub_device::{ModuleClient, Multiplexer};
///
/// let multiplexer = Multiplexer::new();
/// let mut clients = Vec::new();
/// for connection_string in &connection_strings {
///     clients.push(ModuleClient::builder(connection_string)?.multiplexer(&multiplexer).connect().await?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Each identity has its own session and token; what goes wrong with one does not touch the others. Clients come
/// and go while it runs. A handle: cheap to clone. Connections end when no handle and no client is left.
#[derive(Debug, Clone, Default)]
pub struct Multiplexer(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    connections: Mutex<HashMap<(String, u16), Vec<Shared>>>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// A connection and how many are on it: one [`Place`] each.
#[derive(Debug)]
struct Shared {
    line: Line,
    places: Weak<()>,
}

/// A seat on a shared connection, free again when it is dropped.
pub(crate) type Place = Arc<()>;

impl Multiplexer {
    /// A multiplexer without connections. They are made as clients connect.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Closes all connections, and with them the clients on them. Ends within 5 s and cannot fail.
    pub async fn close(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        if timeout(CLOSE_LIMIT, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("a shared connection did not end in time");
        }
        self.lock().clear();
    }

    pub(crate) async fn connect(
        &self,
        endpoint: Endpoint,
        retry: Arc<dyn ReconnectPolicy>,
        settings: Settings,
    ) -> Result<Client> {
        let (line, place) = self.place(endpoint, retry);
        line.connect(settings, Some(place)).await
    }

    /// A place on a connection that has room, else on a new one.
    fn place(&self, endpoint: Endpoint, retry: Arc<dyn ReconnectPolicy>) -> (Line, Place) {
        let mut connections = self.lock();
        let shared = connections.entry((endpoint.host.clone(), endpoint.port)).or_default();
        // One that gave up for good is of no use to the next client.
        shared.retain(|connection| !connection.line.is_closed());
        let with_room = shared.iter_mut().find(|s| s.places.strong_count() < MAX_PER_CONNECTION);
        if let Some(connection) = with_room {
            let place = connection.places.upgrade().unwrap_or_default();
            connection.places = Arc::downgrade(&place);
            return (connection.line.clone(), place);
        }
        let (line, run) = Line::new(endpoint, retry, self.0.shutdown.clone(), false);
        self.0.tasks.spawn(run);
        let place = Place::default();
        shared.push(Shared { line: line.clone(), places: Arc::downgrade(&place) });
        (line, place)
    }

    /// Nothing that happens under the lock can panic half-way, so a poisoned one is whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u16), Vec<Shared>>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
