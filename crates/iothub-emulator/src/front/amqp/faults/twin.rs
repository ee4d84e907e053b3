//! Answers and notifications of twins that are held back.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use iothub_amqp::proto::{Connection, LinkId};
use iothub_common::Identity;

use crate::front::amqp::peer::Peer;
use crate::hub::{NotificationFault, ReplyFault};

/// How long a notification waits to be overtaken.
const OVERTAKING: Duration = Duration::from_secs(1);
/// What is held back on one connection; beyond it the twin links are detached, as of a client that reads too slowly.
const MAX_HELD: usize = 10_000;

/// What is held back on a connection, in the order it came.
#[derive(Debug, Default)]
pub(in crate::front::amqp) struct Later {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    at: SystemTime,
    identity: Identity,
    /// It goes there or nowhere.
    link: LinkId,
    payload: Bytes,
    notification: bool,
    /// It goes after the next notification if that comes first.
    to_be_overtaken: bool,
}

impl Later {
    /// When the next one is due.
    pub(in crate::front::amqp) fn next(&self) -> Option<SystemTime> {
        self.held.iter().map(|held| held.at).min()
    }

    /// A link is over.
    pub(in crate::front::amqp) fn forget(&mut self, link: LinkId) {
        self.held.retain(|held| held.link != link);
    }

    fn waits_to_be_overtaken(&self, link: LinkId) -> bool {
        self.held.iter().any(|held| held.link == link && held.to_be_overtaken)
    }
}

impl Peer {
    /// Sends the answer to a twin request, unless a fault has it otherwise.
    pub(in crate::front::amqp) fn answer_twin(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        payload: Bytes,
    ) {
        match self.hub.faults().twin_reply(identity) {
            None => self.send_on_twin(engine, identity, payload),
            Some(ReplyFault::Swallow) => {}
            Some(ReplyFault::Delay(by)) => self.hold(engine, identity, payload, by, false, false),
        }
    }

    /// Sends a notification, unless a fault has it otherwise, and what waited to be overtaken by it.
    pub(in crate::front::amqp) fn notify_twin(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        payload: Bytes,
    ) {
        let Some(link) = self.twin_replies(identity) else { return };
        match self.hub.faults().notification(identity) {
            Some(NotificationFault::Delay(by)) => {
                return self.hold(engine, identity, payload, by, true, false);
            }
            Some(NotificationFault::Reorder) if !self.later.waits_to_be_overtaken(link) => {
                return self.hold(engine, identity, payload, OVERTAKING, true, true);
            }
            Some(NotificationFault::Reorder) | None => self.send_notification(engine, identity, payload),
        }
        let overtaken = |held: &mut Held| held.link == link && held.to_be_overtaken;
        let overtaken: Vec<_> = self.later.held.extract_if(.., overtaken).collect();
        for held in overtaken {
            self.send_notification(engine, identity, held.payload);
        }
        self.wind_alarm();
    }

    /// Sends what was held back long enough.
    pub(in crate::front::amqp) fn send_held(&mut self, engine: &mut Connection) {
        let now = self.hub.now();
        let mut due: Vec<_> = self.later.held.extract_if(.., |held| held.at <= now).collect();
        // Stable: what is due at the same time goes in the order it came.
        due.sort_by_key(|held| held.at);
        for held in due {
            if self.twin_replies(&held.identity) != Some(held.link) {
                continue;
            }
            if held.notification {
                self.send_notification(engine, &held.identity, held.payload);
            } else {
                self.send_on_twin(engine, &held.identity, held.payload);
            }
        }
    }

    fn hold(
        &mut self,
        engine: &mut Connection,
        identity: &Identity,
        payload: Bytes,
        by: Duration,
        notification: bool,
        to_be_overtaken: bool,
    ) {
        let Some(link) = self.twin_replies(identity) else { return };
        if self.later.held.len() >= MAX_HELD {
            return self.on_twin_overflow(engine, identity);
        }
        // Beyond what the clock can show is never.
        let Some(at) = self.hub.now().checked_add(by) else { return };
        let identity = identity.clone();
        self.later.held.push(Held { at, identity, link, payload, notification, to_be_overtaken });
        self.wind_alarm();
    }

    fn send_notification(&mut self, engine: &mut Connection, identity: &Identity, payload: Bytes) {
        self.hub.tally().notifications_sent.add(1);
        self.send_on_twin(engine, identity, payload);
    }
}
