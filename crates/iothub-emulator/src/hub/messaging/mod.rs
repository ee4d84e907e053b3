//! Messages in both directions, direct methods, and the events of the built-in endpoint.

mod config;
mod device_bound;
mod events;
mod message;
mod methods;
mod notices;
mod queue;
mod routes;

use std::sync::Arc;
use std::time::SystemTime;

use iothub_common::Identity;
use tokio::sync::{Notify, watch};

pub use config::MessagingConfig;
pub use device_bound::Lane;
pub use events::{
    ConnectionAuth, Event, EventReader, NoSuchPartition, PartitionInfo, ReaderRefused, Start, Stolen,
};
pub use message::{Ack, Message};
pub use methods::{MethodRequest, MethodResponse};
pub use notices::{Inbox, Notice, UploadedFile};
pub use queue::{Locked, Verdict};

use self::device_bound::Boxes;
use self::events::Events;
use self::methods::Methods;
use self::notices::{Feedback, Notices};
use super::live::{Claim, Mailbox, Push};
use super::{Hub, Inner};

/// All messages of a hub.
#[derive(Debug, Default)]
pub(super) struct Messaging {
    boxes: Boxes,
    feedback: Feedback,
    files: Notices,
    pub(super) events: Events,
    pub(super) methods: Methods,
}

/// Who waits for something to happen.
#[derive(Debug)]
pub(super) struct Signals {
    /// Something is due earlier than before.
    due: Notify,
    /// There is something new for services: events, notices, or the end of a reader.
    news: watch::Sender<u64>,
    /// A connection takes methods.
    pub(super) methods: Notify,
}

impl Default for Signals {
    fn default() -> Self {
        Self { due: Notify::new(), news: watch::Sender::new(0), methods: Notify::new() }
    }
}

impl Messaging {
    /// Forgets all messages. Readers stay, and go on with the next event.
    pub(super) fn clear(&mut self) {
        self.boxes = Boxes::default();
        self.feedback = Feedback::default();
        self.files = Notices::default();
        self.events.clear();
    }

    fn deadline(&self) -> Option<SystemTime> {
        [self.boxes.deadline(), self.feedback.deadline(), self.files.deadline()].into_iter().flatten().min()
    }

    fn has_notices(&self) -> bool {
        self.feedback.notices.is_ready() || self.files.is_ready()
    }
}

impl Hub {
    /// Ends locks, lets messages expire and sends feedback when it is time. Never returns.
    pub(super) async fn run_messaging(&self) {
        loop {
            let next = self.tend();
            let due = async {
                match next {
                    Some(at) => self.clock().reached(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.signals().due.notified() => {}
            }
        }
    }

    /// Does what is due now; when something is due next.
    pub(super) fn tend(&self) -> Option<SystemTime> {
        let (now, config) = (self.now(), self.messaging_config());
        self.change(|inner| {
            inner.tend_boxes(config, now);
            inner.messaging.files.tend(now);
            inner.messaging.feedback.tend(now);
            inner.messaging.deadline()
        })
    }

    /// Tells of everything new for services: events, feedback, file notifications, readers that were displaced.
    /// The value counts.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.signals().news.subscribe()
    }

    fn tell_news(&self) {
        self.signals().news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes messages, and tells those who wait for something that came of it.
    fn change<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.lock();
        let before = inner.messaging.deadline();
        let done = work(&mut inner);
        if self.messaging_config().feedback_delay.is_zero() {
            inner.messaging.feedback.tend(self.now());
        }
        let after = inner.messaging.deadline();
        let has_notices = inner.messaging.has_notices();
        drop(inner);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.signals().due.notify_one();
        }
        if has_notices {
            self.tell_news();
        }
        done
    }

    pub(super) fn claim(&self, identity: &Identity, mailbox: &Arc<Mailbox>, claim: Claim) {
        let mut inner = self.lock();
        let displaced = inner.live.claim(identity, mailbox, claim);
        let lane = match claim {
            Claim::Messages => Lane::Messages,
            Claim::Inputs => Lane::Inputs,
            Claim::Methods => {
                // Their answers would come from a link that is about to be closed.
                if let Some(displaced) = displaced {
                    inner.messaging.methods.left(&displaced);
                }
                drop(inner);
                return self.signals().methods.notify_waiters();
            }
        };
        if inner.has_messages(identity, lane) {
            mailbox.post(Push::Waiting(lane));
        }
    }

    pub(super) fn give_up(&self, mailbox: &Arc<Mailbox>, claim: Claim) {
        let mut inner = self.lock();
        if mailbox.give_up(claim) && claim == Claim::Methods {
            inner.messaging.methods.left(mailbox);
        }
    }

    fn messaging_config(&self) -> &MessagingConfig {
        &self.shared.config.messaging
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.shared.signals
    }
}
