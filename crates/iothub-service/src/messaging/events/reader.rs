//! A connection to the built-in endpoint, and the partitions there.

use std::fmt;
use std::sync::Arc;

use iothub_common::{Error, ErrorKind, Result};
use uuid::Uuid;

use super::builder::ReadOptions;
use super::{EventStream, PartitionInfo, StartPosition, management};
use crate::messaging::connection::{Connection, Feed, PartitionFeed, Window};

/// A reader of a hub's events, connected; see [`EventReaderBuilder::connect`](super::EventReaderBuilder::connect).
///
/// Cheap to clone. The connection is closed when the last clone and the streams are gone, or by
/// [`EventReader::close`].
#[derive(Clone)]
pub struct EventReader(Arc<Shared>);

struct Shared {
    connection: Connection,
    /// The name of the event hub.
    entity: String,
    partitions: Vec<Arc<str>>,
    options: ReadOptions,
    /// How the readers of this connection call themselves.
    name: String,
}

impl EventReader {
    pub(super) fn new(
        connection: Connection,
        entity: String,
        partitions: Vec<Arc<str>>,
        options: ReadOptions,
    ) -> Self {
        let name = Uuid::new_v4().to_string();
        Self(Arc::new(Shared { connection, entity, partitions, options, name }))
    }

    /// The ids of the partitions, `0`, `1` and so on as a rule; their number never changes.
    pub fn partition_ids(&self) -> impl Iterator<Item = &str> {
        self.0.partitions.iter().map(AsRef::as_ref)
    }

    /// What is in a partition now.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is no such partition.
    pub async fn partition_info(&self, partition_id: &str) -> Result<PartitionInfo> {
        let id = self.partition(partition_id)?;
        management::partition_info(&self.0.connection, &self.0.entity, &id).await
    }

    /// The events of all partitions, from the same kind of position in each. Returns once the hub has granted the
    /// links; nothing is fetched before the stream is polled.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is no such consumer group;
    /// [`QuotaExceeded`](ErrorKind::QuotaExceeded) when a partition has five readers of the group already;
    /// [`Unavailable`](ErrorKind::Unavailable) when one with an owner level has it to itself.
    pub async fn stream(&self, start: StartPosition) -> Result<EventStream> {
        self.stream_from(|_| start.clone()).await
    }

    /// The events of all partitions, each from where `start` says for its id: how a program goes on that has kept the
    /// last sequence number of each partition it has handled.
    ///
    /// # Errors
    ///
    /// Those of [`EventReader::stream`].
    pub async fn stream_from(&self, start: impl Fn(&str) -> StartPosition) -> Result<EventStream> {
        let from = self.0.partitions.iter().map(|id| (id.clone(), start(id))).collect();
        self.open(from).await
    }

    /// The events of one partition.
    ///
    /// # Errors
    ///
    /// Those of [`EventReader::stream`], and [`NotFound`](ErrorKind::NotFound) when there is no such partition.
    pub async fn partition_stream(&self, partition_id: &str, start: StartPosition) -> Result<EventStream> {
        let id = self.partition(partition_id)?;
        self.open(vec![(id, start)]).await
    }

    /// Closes the connection and returns when it is closed, within 5 s; it cannot fail and may be called again. Streams
    /// end without an error.
    pub async fn close(&self) {
        self.0.connection.close().await;
    }

    async fn open(&self, from: Vec<(Arc<str>, StartPosition)>) -> Result<EventStream> {
        let (partitions, feeds): (Vec<_>, Vec<_>) =
            futures_util::future::try_join_all(from.into_iter().map(|(id, start)| self.feed(id, start)))
                .await?
                .into_iter()
                .unzip();
        let window = Window::Ahead(self.0.options.prefetch);
        let reader = self.0.connection.listen(feeds, window).await?;
        Ok(EventStream::new(reader, partitions))
    }

    async fn feed(&self, id: Arc<str>, start: StartPosition) -> Result<(Arc<str>, Feed)> {
        let Shared { connection, entity, options, name, .. } = &*self.0;
        start.check()?;
        let (position, reached) = match start {
            // The link may be lost before the first event: "latest" would be later then.
            StartPosition::Latest => {
                let end = management::partition_info(connection, entity, &id).await?.end();
                (end.clone(), end != StartPosition::Earliest)
            }
            start => (start, false),
        };
        let group = &options.consumer_group;
        let feed = PartitionFeed {
            address: format!("{entity}/ConsumerGroups/{group}/Partitions/{id}"),
            reader: name.clone(),
            owner_level: options.owner_level,
            entity: entity.clone(),
            partition: id.clone(),
            position,
            reached,
            name: format!("partition `{id}` for the consumer group `{group}`"),
        };
        Ok((id, Feed::Partition(feed)))
    }

    fn partition(&self, id: &str) -> Result<Arc<str>> {
        let found = self.0.partitions.iter().find(|partition| partition.as_ref() == id);
        found.cloned().ok_or_else(|| {
            let count = self.0.partitions.len();
            let message = format!("there is no partition `{id}` among the {count} of the hub");
            Error::new(ErrorKind::NotFound, message)
        })
    }
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("connection", &self.0.connection)
            .field("entity", &self.0.entity)
            .field("partitions", &self.0.partitions)
            .finish_non_exhaustive()
    }
}
