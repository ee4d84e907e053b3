//! What the hub sends on links by itself, as fast as their credit allows.

use iothub_amqp::proto::{Connection, LinkId, Outcome};
use tokio::sync::watch;

use super::outbox::Outbox;
use super::peer::Peer;
use super::reader;
use super::refusal::Refusal;
use crate::hub::{EventReader, Hub, Stolen};

/// Where the messages of a link come from.
#[derive(Debug)]
pub(super) enum Feed {
    Queue(Outbox),
    Events(EventReader),
}

/// Waits for something new for services, once somebody is interested.
#[derive(Debug, Default)]
pub(super) struct News(Option<watch::Receiver<u64>>);

impl News {
    pub(super) fn listen(&mut self, hub: &Hub) {
        self.0.get_or_insert_with(|| hub.news());
    }

    /// Returns when there is something new. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) {
        if let Some(news) = &mut self.0
            && news.changed().await.is_ok()
        {
            return;
        }
        // Nobody is interested, or the hub is gone, which it cannot be as long as we have it.
        std::future::pending().await
    }

    /// Whether there is something new, which is noted.
    fn take(&mut self) -> bool {
        self.0.as_mut().is_some_and(|news| {
            let changed = news.has_changed().unwrap_or(false);
            if changed {
                // What comes in between is found by the look that follows.
                news.mark_unchanged();
            }
            changed
        })
    }
}

impl Peer {
    /// Sends what there is for a link.
    pub(super) fn pump(&mut self, engine: &mut Connection, id: LinkId) {
        let Some(feed) = self.links.get_mut(&id).and_then(|link| link.feed.as_mut()) else { return };
        match feed {
            Feed::Queue(outbox) => outbox.pump(engine, id),
            Feed::Events(events) => {
                if let Err(Stolen) = reader::pump(events, engine, id) {
                    self.detach(engine, id, &Refusal::reader_stolen());
                }
            }
        }
    }

    /// There is something new for services.
    pub(super) fn on_news(&mut self, engine: &mut Connection) {
        for id in self.service_feeds.clone() {
            self.pump(engine, id);
        }
    }

    /// Looks whether there is something new, for a connection that is kept busy by its client.
    pub(super) fn look_for_news(&mut self, engine: &mut Connection) {
        if self.news.take() {
            self.on_news(engine);
        }
    }

    pub(super) fn on_outcome(&mut self, engine: &mut Connection, id: LinkId, token: u64, outcome: Outcome) {
        if token == 0 {
            // Only answers on `$cbs` have none.
            return self.cbs.settled();
        }
        if let Some(Feed::Queue(outbox)) = self.links.get_mut(&id).and_then(|link| link.feed.as_mut()) {
            outbox.on_outcome(engine, id, token, outcome);
        }
        self.pump(engine, id);
    }
}
