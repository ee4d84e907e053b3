//! Messages to devices and modules: one queue for each (amqp.md 3.5, 5.2; rest.md 11.2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use iothub_common::Identity;
use serde_json::Value;
use uuid::Uuid;

use super::config::MessagingConfig;
use super::message::Message;
use super::queue::{End, Limits, LockLost, Locked, Queue, Verdict};
use crate::hub::error::{ErrorCode, HubError};
use crate::hub::{Hub, Inner};

/// Messages of a device that wait or are locked (amqp.md 8).
const MAX_MESSAGES: usize = 50;
/// Inputs of a module that wait or are locked; no limit is known, this one is ample (inferred).
const MAX_INPUTS: usize = 1000;
/// One cloud-to-device message, bytes (amqp.md 8).
const MAX_SIZE: usize = 65_536;
const MAX_TIME_TO_LIVE: Duration = Duration::from_secs(48 * 3600);
/// How long a device has for a message it took (amqp.md 8).
const LOCK: Duration = Duration::from_secs(60);
/// What an Edge hub keeps inputs for when nothing else is set (inferred).
const INPUT_TIME_TO_LIVE: Duration = Duration::from_secs(2 * 3600);

/// Which messages of a device or module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Cloud-to-device messages.
    Messages,
    /// What other modules of the device sent to a module's inputs.
    Inputs,
}

/// All queues that are not empty.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    boxes: BTreeMap<Key, PostBox>,
    /// When the next thing in a queue is due.
    deadlines: BTreeSet<(SystemTime, Key)>,
    last_sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    identity: Identity,
    lane: Lane,
}

#[derive(Debug)]
struct PostBox {
    /// Of the identity it belongs to. One that is made anew under the same id gets nothing of it.
    generation: u64,
    queue: Queue<Message>,
    deadline: Option<SystemTime>,
}

impl Boxes {
    pub(super) fn deadline(&self) -> Option<SystemTime> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets queues whose identity is not there any more, of a device and its modules.
    fn forget(&mut self, device_id: &str, generation: impl Fn(&Identity) -> Option<u64>) {
        let Ok(identity) = Identity::device(device_id) else { return };
        let from = Key { identity, lane: Lane::Messages };
        let gone: Vec<_> = self
            .boxes
            .range(from..)
            .take_while(|(key, _)| key.identity.device_id() == device_id)
            .filter(|(key, post_box)| generation(&key.identity) != Some(post_box.generation))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &Key) {
        if let Some(at) = self.boxes.remove(key).and_then(|post_box| post_box.deadline) {
            self.deadlines.remove(&(at, key.clone()));
        }
    }

    /// Does `work` on a queue after what is due there, and returns what left it.
    fn with<R>(
        &mut self,
        key: &Key,
        generation: u64,
        deliveries: u8,
        now: SystemTime,
        work: impl FnOnce(&mut Queue<Message>, &mut Vec<Ended>, u64) -> R,
    ) -> (R, Vec<Ended>) {
        if self.boxes.get(key).is_some_and(|post_box| post_box.generation != generation) {
            self.remove(key);
        }
        let capacity = if key.lane == Lane::Messages { MAX_MESSAGES } else { MAX_INPUTS };
        let fresh = || {
            let queue = Queue::new(Limits { capacity, lock: LOCK, deliveries });
            PostBox { generation, queue, deadline: None }
        };
        let post_box = self.boxes.entry(key.clone()).or_insert_with(fresh);
        let mut ended = post_box.queue.sweep(now);
        self.last_sequence += 1;
        let done = work(&mut post_box.queue, &mut ended, self.last_sequence);

        let (before, after) = (post_box.deadline, post_box.queue.deadline());
        post_box.deadline = after;
        let is_empty = post_box.queue.is_empty();
        if before != after {
            before.map(|at| self.deadlines.remove(&(at, key.clone())));
            after.map(|at| self.deadlines.insert((at, key.clone())));
        }
        if is_empty {
            self.boxes.remove(key);
        }
        (done, ended)
    }

    fn is_ready(&self, key: &Key) -> bool {
        self.boxes.get(key).is_some_and(|post_box| post_box.queue.is_ready())
    }

    /// Cloud-to-device messages of an identity that wait or are locked.
    fn count(&self, identity: &Identity, generation: u64) -> usize {
        let key = Key { identity: identity.clone(), lane: Lane::Messages };
        let own = self.boxes.get(&key).filter(|post_box| post_box.generation == generation);
        own.map_or(0, |post_box| post_box.queue.len())
    }
}

type Ended = (Arc<Message>, End);

impl Inner {
    /// After something happened to the identities of a device.
    pub(in crate::hub) fn forget_messages(&mut self, device_id: &str) {
        let state = &self.state;
        let generation = |identity: &Identity| state.record(identity).ok().map(|record| record.generation());
        self.messaging.boxes.forget(device_id, generation);
    }

    /// An identity or a twin with its `cloudToDeviceMessageCount`, which the registry does not know.
    pub(in crate::hub) fn with_message_count(&self, mut json: Value) -> Value {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let identity = match (text("deviceId"), text("moduleId")) {
            (Some(device), None) => Identity::device(device),
            (Some(device), Some(module)) => Identity::module(device, module),
            (None, _) => return json,
        };
        let Ok(identity) = identity else { return json };
        let count = self
            .state
            .record(&identity)
            .map_or(0, |record| self.messaging.boxes.count(&identity, record.generation()));
        if count > 0 {
            json["cloudToDeviceMessageCount"] = count.into();
        }
        json
    }

    /// Whether a queue has something for who receives from it.
    pub(super) fn has_messages(&self, identity: &Identity, lane: Lane) -> bool {
        self.messaging.boxes.is_ready(&Key { identity: identity.clone(), lane })
    }

    /// Works on one queue, sees to feedback for what left it, and tells who receives from it.
    fn with_box<R>(
        &mut self,
        identity: &Identity,
        lane: Lane,
        config: &MessagingConfig,
        now: SystemTime,
        work: impl FnOnce(&mut Queue<Message>, &mut Vec<Ended>, u64) -> R,
    ) -> Result<R, HubError> {
        let generation = self.state.record(identity)?.generation();
        let key = Key { identity: identity.clone(), lane };
        let deliveries = config.max_delivery_count;
        let (done, ended) = self.messaging.boxes.with(&key, generation, deliveries, now, work);
        if lane == Lane::Messages {
            let wanted = ended.iter().filter(|(message, end)| message.ack.wants(*end == End::Success));
            for (message, end) in wanted {
                self.messaging.feedback.add(message, *end, identity.device_id(), generation, config, now);
            }
        }
        if self.messaging.boxes.is_ready(&key) {
            self.live.waiting(identity, lane);
        }
        Ok(done)
    }

    /// Ends locks and messages whose time is over, in all queues.
    pub(super) fn tend_boxes(&mut self, config: &MessagingConfig, now: SystemTime) {
        while let Some((at, key)) = self.messaging.boxes.deadlines.first().cloned()
            && at <= now
        {
            let swept = self.with_box(&key.identity, key.lane, config, now, |_, _, _| ());
            if swept.is_err() {
                self.messaging.boxes.remove(&key);
            }
        }
    }

    /// Puts a message into a module's queue of inputs.
    pub(super) fn push_input(
        &mut self,
        module: &Identity,
        message: Message,
        config: &MessagingConfig,
        now: SystemTime,
    ) -> Result<(), HubError> {
        let pushed = self.with_box(module, Lane::Inputs, config, now, |queue, _, sequence| {
            queue.push(message, sequence, now, now + INPUT_TIME_TO_LIVE)
        })?;
        pushed.map_err(|_| {
            let text = format!("{MAX_INPUTS} messages wait for the inputs of module {module} already.");
            HubError::new(ErrorCode::DeviceMaximumQueueDepthExceeded, text)
        })
    }
}

/// Messages to devices and modules.
impl Hub {
    /// Queues a cloud-to-device message. Without an expiry it gets the hub's default one.
    ///
    /// # Errors
    ///
    /// 404001, 404010; 413001 over 64 KiB; 403004 when 50 messages wait or are locked; 400004 for an expiry
    /// in more than 48 hours.
    pub fn send_to_device(&self, to: &Identity, message: Message) -> Result<(), HubError> {
        let (now, config) = (self.now(), self.messaging_config());
        check_size(&message)?;
        let expires_at = expiry(&message, config, now)?;
        self.change(|inner| {
            let pushed = inner.with_box(to, Lane::Messages, config, now, |queue, _, sequence| {
                queue.push(message, sequence, now, expires_at)
            })?;
            pushed.map_err(|_| {
                let text = format!("Device queue depth cannot exceed {MAX_MESSAGES} messages");
                HubError::new(ErrorCode::DeviceMaximumQueueDepthExceeded, text)
            })
        })
    }

    /// The next message of a queue, locked for the caller for 60 seconds.
    ///
    /// # Errors
    ///
    /// 404001 also when the device is disabled, 404010.
    pub fn receive(&self, identity: &Identity, lane: Lane) -> Result<Option<Locked<Message>>, HubError> {
        let (now, config) = (self.now(), self.messaging_config());
        self.change(|inner| {
            inner.state.check_usable(identity, self.name())?;
            inner.with_box(identity, lane, config, now, |queue, _, _| queue.lock(now))
        })
    }

    /// Says what became of a message that was received.
    ///
    /// # Errors
    ///
    /// 412002 when the lock is over, or was used; 404001, 404010.
    pub fn settle(
        &self,
        identity: &Identity,
        lane: Lane,
        lock: Uuid,
        verdict: Verdict,
    ) -> Result<(), HubError> {
        let (now, config) = (self.now(), self.messaging_config());
        self.change(|inner| {
            let settled = inner.with_box(identity, lane, config, now, |queue, ended, _| {
                queue.settle(lock, verdict).map(|end| ended.extend(end))
            })?;
            settled.map_err(|LockLost| lock_lost())
        })
    }

    /// Drops all cloud-to-device messages of a device or module, and says how many there were.
    ///
    /// # Errors
    ///
    /// 404001, 404010.
    pub fn purge_messages(&self, identity: &Identity) -> Result<usize, HubError> {
        let (now, config) = (self.now(), self.messaging_config());
        self.change(|inner| {
            inner.with_box(identity, Lane::Messages, config, now, |queue, ended, _| {
                let purged = queue.purge();
                let count = purged.len();
                ended.extend(purged);
                count
            })
        })
    }
}

pub(super) fn lock_lost() -> HubError {
    let text = "The lock of the message is over or was used: the message is in the queue again, or gone";
    HubError::new(ErrorCode::DeviceMessageLockLost, text)
}

fn check_size(message: &Message) -> Result<(), HubError> {
    let size = message.size();
    if size <= MAX_SIZE {
        return Ok(());
    }
    let text = format!("The message has {size} bytes, at most {MAX_SIZE} are allowed to devices");
    Err(HubError::new(ErrorCode::MessageTooLarge, text))
}

fn expiry(message: &Message, config: &MessagingConfig, now: SystemTime) -> Result<SystemTime, HubError> {
    let expires_at = message.expires_at.unwrap_or(now + config.time_to_live);
    if expires_at <= now + MAX_TIME_TO_LIVE {
        return Ok(expires_at);
    }
    let text = "The expiry is too late: a message to a device may wait for 48 hours at most";
    Err(HubError::new(ErrorCode::ArgumentInvalid, text))
}
