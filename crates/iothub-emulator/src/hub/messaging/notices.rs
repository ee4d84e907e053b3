//! What the hub has for services: feedback on messages, and notifications of uploaded files (amqp.md 5.3, 5.4).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::config::MessagingConfig;
use super::device_bound::lock_lost;
use super::message::Message;
use super::queue::{End, Limits, LockLost, Locked, Queue, Verdict};
use crate::hub::error::{HubError, json_bytes};
use crate::hub::timestamp::Timestamp;
use crate::hub::{Hub, Inner};

/// Feedback records of one message.
const MAX_RECORDS: usize = 64;
/// Notices that nobody takes; the oldest goes first.
const MAX_NOTICES: usize = 1000;
/// How long a service has for a notice.
const LOCK: Duration = Duration::from_secs(60);
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// Which notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inbox {
    /// What became of cloud-to-device messages: arrays of records.
    Feedback,
    /// Files that devices have uploaded.
    FileNotifications,
}

/// A message of the hub to services. All services share one queue of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// JSON.
    pub body: Bytes,
}

/// A file that a device has uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedFile {
    /// Who uploaded it.
    pub device_id: String,
    /// Where it is.
    pub blob_uri: String,
    /// `{device}/{name}`
    pub blob_name: String,
    /// When it was written last.
    pub last_updated: SystemTime,
    /// Its length in bytes.
    pub size: u64,
}

/// A queue of notices.
#[derive(Debug)]
pub(super) struct Notices {
    queue: Queue<Notice>,
    last_sequence: u64,
}

/// Feedback: records that wait to be sent together, and the batches.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    records: Vec<Value>,
    /// When the records are due.
    due: Option<SystemTime>,
    pub(super) notices: Notices,
}

impl Default for Notices {
    fn default() -> Self {
        let queue = Queue::new(Limits { capacity: MAX_NOTICES, lock: LOCK, deliveries: 10 });
        Self { queue, last_sequence: 0 }
    }
}

impl Notices {
    fn push(&mut self, body: Bytes, now: SystemTime) {
        self.last_sequence += 1;
        if self.queue.len() >= MAX_NOTICES {
            self.queue.drop_oldest();
        }
        // There is room now.
        self.queue.push(Notice { body }, self.last_sequence, now, now + TIME_TO_LIVE).ok();
    }

    fn lock(&mut self, now: SystemTime) -> Option<Locked<Notice>> {
        self.queue.sweep(now);
        self.queue.lock(now)
    }

    fn settle(&mut self, lock: Uuid, verdict: Verdict, now: SystemTime) -> Result<(), LockLost> {
        self.queue.sweep(now);
        self.queue.settle(lock, verdict).map(drop)
    }

    pub(super) fn deadline(&self) -> Option<SystemTime> {
        self.queue.deadline()
    }

    pub(super) fn tend(&mut self, now: SystemTime) {
        self.queue.sweep(now);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

impl Feedback {
    /// The fields and both spellings of the status: amqp.md 5.3.
    pub(super) fn add(
        &mut self,
        message: &Message,
        end: End,
        device_id: &str,
        generation: u64,
        config: &MessagingConfig,
        now: SystemTime,
    ) {
        self.records.push(json!({
            "originalMessageId": message.message_id,
            "description": end.text(),
            "deviceGenerationId": generation.to_string(),
            "deviceId": device_id,
            "enqueuedTimeUtc": Timestamp::from(now).for_twin(),
            "statusCode": end.text(),
        }));
        self.due = Some(now + config.feedback_delay);
        if self.records.len() >= MAX_RECORDS {
            self.flush(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<SystemTime> {
        self.due.into_iter().chain(self.notices.deadline()).min()
    }

    pub(super) fn tend(&mut self, now: SystemTime) {
        self.notices.tend(now);
        if self.due.is_some_and(|at| at <= now) {
            self.flush(now);
        }
    }

    fn flush(&mut self, now: SystemTime) {
        self.due = None;
        if !self.records.is_empty() {
            let records = Value::Array(std::mem::take(&mut self.records));
            self.notices.push(json_bytes(&records), now);
        }
    }
}

impl Inner {
    fn notices(&mut self, inbox: Inbox) -> &mut Notices {
        match inbox {
            Inbox::Feedback => &mut self.messaging.feedback.notices,
            Inbox::FileNotifications => &mut self.messaging.files,
        }
    }
}

/// Feedback and file notifications.
impl Hub {
    /// The next notice, locked for the caller for 60 seconds.
    pub fn receive_notice(&self, inbox: Inbox) -> Option<Locked<Notice>> {
        let now = self.now();
        self.change(|inner| {
            inner.messaging.feedback.tend(now);
            inner.notices(inbox).lock(now)
        })
    }

    /// Says what became of a notice that was received. Rejected ones are dropped.
    ///
    /// # Errors
    ///
    /// 412002 when the lock is over, or was used.
    pub fn settle_notice(&self, inbox: Inbox, lock: Uuid, verdict: Verdict) -> Result<(), HubError> {
        let now = self.now();
        self.change(|inner| {
            let settled = inner.notices(inbox).settle(lock, verdict, now);
            settled.map_err(|LockLost| lock_lost())
        })
    }

    /// Tells services of an uploaded file.
    pub fn notify_upload(&self, file: &UploadedFile) {
        let now = self.now();
        let body = json!({
            "deviceId": file.device_id,
            "blobUri": file.blob_uri,
            "blobName": file.blob_name,
            "lastUpdatedTime": Timestamp::from(file.last_updated).for_twin(),
            "blobSizeInBytes": file.size,
            "enqueuedTimeUtc": Timestamp::from(now).for_twin(),
        });
        self.change(|inner| inner.messaging.files.push(json_bytes(&body), now));
    }
}
