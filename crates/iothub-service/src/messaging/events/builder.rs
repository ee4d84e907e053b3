//! Options of a reader of events.

use std::sync::Arc;

use iothub_common::{Error, ErrorKind, Result};

use super::{EventReader, EventStream, StartPosition, discover, management};
use crate::messaging::Setup;
use crate::messaging::connection::Connection;

/// The consumer group that every hub has.
const DEFAULT_GROUP: &str = "$Default";
/// How many events of a partition wait for the reader at most, unless it says otherwise.
const PREFETCH: u32 = 300;

/// Makes a reader of events; see [`Registry::events`](crate::Registry::events).
#[derive(Clone, Debug)]
pub struct EventReaderBuilder {
    setup: Arc<Setup>,
    options: ReadOptions,
    start: StartPosition,
}

/// How partitions are read.
#[derive(Clone, Debug)]
pub(super) struct ReadOptions {
    pub(super) consumer_group: String,
    pub(super) owner_level: Option<i64>,
    pub(super) prefetch: u32,
}

impl EventReaderBuilder {
    pub(crate) fn new(setup: Arc<Setup>) -> Self {
        let options =
            ReadOptions { consumer_group: DEFAULT_GROUP.to_owned(), owner_level: None, prefetch: PREFETCH };
        Self { setup, options, start: StartPosition::default() }
    }

    /// The consumer group; `$Default` unless set. Programs that read the same events independently of each other
    /// should have groups of their own: a partition takes five readers of a group at most.
    pub fn consumer_group(mut self, name: impl Into<String>) -> Self {
        self.options.consumer_group = name.into();
        self
    }

    /// Where [`EventReaderBuilder::stream`] begins in each partition; [`StartPosition::Latest`] unless set.
    pub fn start(mut self, position: StartPosition) -> Self {
        self.start = position;
        self
    }

    /// Reads with this owner level: it displaces the readers of the group with a lower one or none from the partitions
    /// it reads, and their streams end with an error. None unless set.
    pub fn owner_level(mut self, level: i64) -> Self {
        self.options.owner_level = Some(level);
        self
    }

    /// How many events of each partition wait for the program at most, 300 unless set; at least one. The hub sends no
    /// more than that before the program takes some.
    pub fn prefetch(mut self, events: u32) -> Self {
        self.options.prefetch = events.max(1);
        self
    }

    /// Asks the hub where its events are, connects there, and reads which partitions there are.
    ///
    /// Ends within the call timeout of the registry for each of the two connections. Dropping the future closes
    /// whatever was opened.
    ///
    /// # Errors
    ///
    /// [`Unauthorized`](ErrorKind::Unauthorized) when the policy lacks the right *service connect*, or with a ready-made
    /// signature that is for the hub alone; [`InvalidInput`](ErrorKind::InvalidInput) with a credential of Entra ID:
    /// this endpoint takes keys of policies.
    pub async fn connect(self) -> Result<EventReader> {
        let group = &self.options.consumer_group;
        if group.is_empty() || group.contains('/') {
            let message = format!("`{group}` is no name of a consumer group");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let (endpoint, settings) = discover::built_in_endpoint(&self.setup).await?;
        let connection = Connection::new(settings);
        let partitions = management::partition_ids(&connection, &endpoint.entity).await?;
        Ok(EventReader::new(connection, endpoint.entity, partitions, self.options))
    }

    /// A stream of the events of all partitions: [`EventReaderBuilder::connect`], then [`EventReader::stream`] from
    /// [`EventReaderBuilder::start`].
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub async fn stream(self) -> Result<EventStream> {
        let start = self.start.clone();
        self.connect().await?.stream(start).await
    }
}
