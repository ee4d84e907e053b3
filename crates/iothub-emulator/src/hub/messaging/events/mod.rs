//! The built-in endpoint: what devices have sent, to be read by partition (amqp.md 5.5, 5.7).

mod partition;
mod readers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use iothub_common::Identity;

use self::partition::Partition;
use self::readers::Readers;
use super::message::Message;
use super::routes;
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::token::{Grant, Who};
use crate::hub::{Hub, Inner};

pub use readers::ReaderRefused;

/// A message, or all messages that come together, bytes (amqp.md 8).
const MAX_SIZE: usize = 262_144;

/// Something a device or module has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// From 0 on, without gaps in its partition.
    pub sequence: i64,
    /// Rises in its partition, with gaps.
    pub offset: i64,
    /// When the hub took it, by its clock.
    pub enqueued_at: SystemTime,
    /// Who sent it.
    pub identity: Identity,
    /// Which identity of that name.
    pub generation: u64,
    /// How the sender proved who it is.
    pub auth: ConnectionAuth,
    /// What was sent.
    pub message: Message,
}

/// How a sender proved who it is (amqp.md 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionAuth {
    /// `hub`, `device` or `module`: whose credential it was.
    pub scope: &'static str,
    /// `sas` or `x509`.
    pub kind: &'static str,
}

impl ConnectionAuth {
    /// A token of a policy.
    pub const HUB_SAS: Self = Self { scope: "hub", kind: "sas" };
    /// A token of the device.
    pub const DEVICE_SAS: Self = Self { scope: "device", kind: "sas" };
    /// A token of the module.
    pub const MODULE_SAS: Self = Self { scope: "module", kind: "sas" };

    /// What a token proves.
    pub fn of(grant: &Grant) -> Self {
        match &grant.who {
            Who::Policy { .. } => Self::HUB_SAS,
            Who::Identity(identity) if identity.module_id().is_some() => Self::MODULE_SAS,
            Who::Identity(_) => Self::DEVICE_SAS,
        }
    }

    /// A certificate of the device or module.
    pub fn x509(identity: &Identity) -> Self {
        Self { scope: if identity.module_id().is_some() { "module" } else { "device" }, kind: "x509" }
    }

    /// The JSON that events carry.
    pub fn to_json(self) -> String {
        format!(r#"{{"scope":"{}","type":"{}","issuer":"iothub"}}"#, self.scope, self.kind)
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event there is.
    Earliest,
    /// With the next one.
    Latest,
    /// At an offset.
    Offset {
        /// Of an event.
        offset: i64,
        /// With it, or after it.
        inclusive: bool,
    },
    /// At a sequence number.
    Sequence {
        /// Of an event.
        sequence: i64,
        /// With it, or after it.
        inclusive: bool,
    },
    /// With the first event that came later.
    EnqueuedAfter(SystemTime),
}

/// What there is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Of the oldest event; of the next one where there is none.
    pub first_sequence: i64,
    /// Of the newest event ever; -1 without one.
    pub last_sequence: i64,
    /// Of the newest event.
    pub last_offset: Option<i64>,
    /// Of the newest event.
    pub last_enqueued_at: Option<SystemTime>,
    /// Whether there is no event now.
    pub is_empty: bool,
}

/// All partitions that have ever had an event, and the readers of all.
#[derive(Debug, Default)]
pub(in crate::hub) struct Events {
    partitions: BTreeMap<u32, Partition>,
    readers: Readers,
}

impl Events {
    /// Forgets all events.
    pub(in crate::hub) fn clear(&mut self) {
        self.partitions.values_mut().for_each(Partition::clear);
    }
}

struct Origin {
    identity: Identity,
    generation: u64,
    auth: ConnectionAuth,
}

/// Reads one partition in one consumer group. Dropping it makes its place free.
pub struct EventReader {
    hub: Hub,
    group: String,
    partition: u32,
    id: u64,
    /// The sequence number to read next.
    next: i64,
}

/// Another reader took the place, by its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stolen;

/// There are only so many partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchPartition;

impl Hub {
    /// Takes what a device or module has sent. Messages of a module go by the routes of its device first, see
    /// the desired property `routes` of its `$edgeHub`.
    ///
    /// # Errors
    ///
    /// 404001 also when the device is disabled, 404010; 413001 over 256 KiB in all; 403004 when the module that gets a message has too many
    /// already, those before it are taken.
    pub fn publish(
        &self,
        identity: &Identity,
        auth: ConnectionAuth,
        messages: Vec<Message>,
    ) -> Result<(), HubError> {
        let now = self.now();
        let size: usize = messages.iter().map(Message::size).sum();
        if size > MAX_SIZE {
            let text = format!("The message or batch has {size} bytes, at most {MAX_SIZE} are allowed.");
            return Err(HubError::new(ErrorCode::MessageTooLarge, text));
        }
        self.change(|inner| {
            inner.state.check_usable(identity, self.name())?;
            let record = inner.state.record_mut(identity)?;
            record.presence.last_activity = now.into();
            let origin = Origin { identity: identity.clone(), generation: record.generation(), auth };
            for message in messages {
                if !routes::deliver(inner, identity, &message, self.messaging_config(), now)? {
                    self.append(inner, &origin, message, now);
                }
            }
            Ok::<_, HubError>(())
        })?;
        self.tell_news();
        Ok(())
    }

    fn append(&self, inner: &mut Inner, origin: &Origin, message: Message, now: SystemTime) {
        let config = self.messaging_config();
        let partition = partition_of(origin.identity.device_id(), config.partitions);
        let partition = inner.messaging.events.partitions.entry(partition).or_default();
        partition.append(origin, message, now, config.retention);
    }

    /// How many partitions the built-in endpoint has.
    pub fn partitions(&self) -> u32 {
        self.messaging_config().partitions.max(1)
    }

    /// What there is in a partition.
    ///
    /// # Errors
    ///
    /// There are only so many.
    pub fn partition(&self, partition: u32) -> Result<PartitionInfo, NoSuchPartition> {
        if partition >= self.partitions() {
            return Err(NoSuchPartition);
        }
        let (now, retention) = (self.now(), self.messaging_config().retention);
        Ok(match self.lock().messaging.events.partitions.get_mut(&partition) {
            None => Partition::default().info(),
            Some(partition) => {
                partition.expire(now, retention);
                partition.info()
            }
        })
    }

    /// All events there are, partition by partition.
    pub fn events(&self) -> Vec<Arc<Event>> {
        let (now, retention) = (self.now(), self.messaging_config().retention);
        let mut inner = self.lock();
        let partitions = inner.messaging.events.partitions.values_mut();
        partitions
            .flat_map(|partition| {
                partition.expire(now, retention);
                partition.read(0, usize::MAX).cloned().collect::<Vec<_>>()
            })
            .collect()
    }

    /// Opens a reader. A consumer group exists as soon as somebody names it (inferred).
    ///
    /// # Errors
    ///
    /// Others read the partition: [`ReaderRefused`]. A partition that does not exist is empty for ever; ask
    /// [`partition`](Self::partition) first.
    pub fn read_events(
        &self,
        group: &str,
        partition: u32,
        start: Start,
        epoch: Option<i64>,
    ) -> Result<EventReader, ReaderRefused> {
        let mut inner = self.lock();
        let events = &mut inner.messaging.events;
        let id = events.readers.enter(group, partition, epoch)?;
        let next = events.partitions.get(&partition).map_or(0, |partition| partition.find(start));
        drop(inner);
        // Somebody may have to go.
        self.tell_news();
        Ok(EventReader { hub: self.clone(), group: group.to_owned(), partition, id, next })
    }
}

impl EventReader {
    /// The next events, at most `max`; none when there are none yet ([`Hub::news`] tells of more).
    ///
    /// # Errors
    ///
    /// A reader with an epoch took the place. It is over then.
    pub fn read(&mut self, max: usize) -> Result<Vec<Arc<Event>>, Stolen> {
        let (now, retention) = (self.hub.now(), self.hub.messaging_config().retention);
        let mut inner = self.hub.lock();
        let events = &mut inner.messaging.events;
        if !events.readers.has(&self.group, self.partition, self.id) {
            return Err(Stolen);
        }
        let Some(partition) = events.partitions.get_mut(&self.partition) else { return Ok(Vec::new()) };
        partition.expire(now, retention);
        let read: Vec<_> = partition.read(self.next, max).cloned().collect();
        if let Some(last) = read.last() {
            self.next = last.sequence + 1;
        }
        Ok(read)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.hub.lock().messaging.events.readers.leave(&self.group, self.partition, self.id);
    }
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("group", &self.group)
            .field("partition", &self.partition)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// All events of a device are in one partition: FNV-1a of its id, which spreads and never changes.
fn partition_of(device_id: &str, partitions: u32) -> u32 {
    let hash = device_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Less than `partitions`, so it fits.
    (hash % u64::from(partitions.max(1))) as u32
}
