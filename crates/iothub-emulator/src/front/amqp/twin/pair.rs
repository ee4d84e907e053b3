//! The two twin links of a device or module: which belongs to which, and what waits on them.

use std::collections::VecDeque;

use bytes::Bytes;
use iothub_amqp::proto::{Connection, Delivery, LinkId, Outgoing, SessionId};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::definitions::Fields;
use uuid::Uuid;

/// Requests a client may have sent before its receiver is there, in bytes at most this many times 256 KiB.
const CREDIT_ALONE: u32 = 10;
/// Requests a client may have sent ahead of the answers.
const CREDIT: u32 = 100;
/// Answers and notifications that wait for a client which gives no credit or does not read.
const MAX_WAITING: usize = 1000;
/// Their bytes; a single larger one may wait alone.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

const CORRELATION: &str = "com.microsoft:channel-correlation-id";

/// What makes two links a pair (amqp.md 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The same correlation id, from after its first colon.
    Correlation(String),
    /// None given: the same session.
    Session(SessionId),
}

impl Key {
    pub(crate) fn of(properties: Option<&Fields>, session: SessionId) -> Self {
        let value = properties.and_then(|properties| {
            properties.iter().find(|(key, _)| key.as_str() == CORRELATION).map(|(_, value)| value)
        });
        match value {
            Some(Value::String(id)) => {
                let unique = id.split_once(':').map_or("", |(_, unique)| unique);
                Self::Correlation(unique.to_owned())
            }
            _ => Self::Session(session),
        }
    }
}

/// Two twin links, or the first of them.
#[derive(Debug)]
pub(crate) struct Pair {
    key: Key,
    /// The client sends on it.
    requests: Option<LinkId>,
    /// The client receives on it.
    answers: Option<LinkId>,
    /// Requests that came before the receiver.
    early: VecDeque<Delivery>,
    /// Sizes of what was handed to the answers link last; those that still wait there are at the end.
    sizes: VecDeque<usize>,
}

/// What a pair makes of one more link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It has its place.
    Fits,
    /// The pair has one like it already.
    Conflict,
    /// It belongs to another pair.
    Stranger,
}

/// The client does not take what is sent to it.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Pair {
    pub(crate) fn new(key: Key) -> Self {
        Self { key, requests: None, answers: None, early: VecDeque::new(), sizes: VecDeque::new() }
    }

    pub(crate) fn fit(&self, key: &Key, client_sends: bool) -> Fit {
        let taken = if client_sends { self.requests.is_some() } else { self.answers.is_some() };
        match (self.key == *key, taken, key) {
            (true, false, _) => Fit::Fits,
            (true, true, Key::Correlation(_)) => Fit::Conflict,
            // Without an id a second link on the session can only mean a new pair.
            (true, true, Key::Session(_)) | (false, ..) => Fit::Stranger,
        }
    }

    pub(crate) fn add(&mut self, link: LinkId, client_sends: bool) {
        *(if client_sends { &mut self.requests } else { &mut self.answers }) = Some(link);
    }

    /// Takes a link out; true when none is left.
    pub(crate) fn remove(&mut self, link: LinkId) -> bool {
        if self.answers == Some(link) {
            self.answers = None;
            self.sizes.clear();
        }
        if self.requests == Some(link) {
            self.requests = None;
            self.early.clear();
        }
        self.requests.is_none() && self.answers.is_none()
    }

    /// The link that the client receives on.
    pub(crate) fn answers(&self) -> Option<LinkId> {
        self.answers
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        self.requests.into_iter().chain(self.answers)
    }

    /// Lets the client send, more once there is a way to answer.
    pub(crate) fn grant(&self, engine: &mut Connection) {
        let Some(requests) = self.requests else { return };
        let full = if self.answers.is_some() { CREDIT } else { CREDIT_ALONE };
        let free = full.saturating_sub(u32::try_from(self.early.len()).unwrap_or(u32::MAX));
        if engine.credit(requests) <= free / 2 {
            engine.grant(requests, free);
        }
    }

    /// The request to handle now: this one, unless it has to wait for the receiver.
    pub(crate) fn admit(&mut self, request: Delivery) -> Option<Delivery> {
        if self.answers.is_some() {
            return Some(request);
        }
        // Bounded by the credit.
        self.early.push_back(request);
        None
    }

    /// The requests that waited, once there is a receiver.
    pub(crate) fn take_early(&mut self) -> VecDeque<Delivery> {
        if self.answers.is_some() { std::mem::take(&mut self.early) } else { VecDeque::new() }
    }

    /// Sends an answer or a notification, settled and with a GUID as tag (amqp.md 3.8).
    pub(crate) fn send(&mut self, engine: &mut Connection, payload: Bytes) -> Result<(), Overflow> {
        let Some(answers) = self.answers else { return Ok(()) };
        let waiting = engine.queued(answers);
        self.sizes.drain(..self.sizes.len().saturating_sub(waiting));
        let bytes = self.sizes.iter().sum::<usize>() + payload.len();
        if waiting > 0 && (waiting >= MAX_WAITING || bytes > MAX_WAITING_BYTES) {
            return Err(Overflow);
        }
        self.sizes.push_back(payload.len());
        let tag = Bytes::copy_from_slice(&Uuid::new_v4().to_bytes_le());
        engine.send(answers, Outgoing { payload, format: 0, tag: Some(tag), settled: true, token: 0 });
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn properties(value: Value) -> Fields {
        iothub_amqp::message::fields([(CORRELATION, value)])
    }

    #[test]
    fn the_key_is_what_follows_the_first_colon() {
        // Any session will do: an engine of either side gives one.
        let session = {
            let config = iothub_amqp::proto::Config::new("test");
            let now = std::time::Instant::now();
            Connection::new(iothub_amqp::proto::Side::Client, config, now).begin().unwrap()
        };
        for (value, expected) in [
            (Value::String("twin:a".into()), Key::Correlation("a".into())),
            (Value::String("twin:a:b".into()), Key::Correlation("a:b".into())),
            (Value::String("other:a".into()), Key::Correlation("a".into())),
            (Value::String("bare".into()), Key::Correlation(String::new())),
            (Value::Uint(1), Key::Session(session)),
        ] {
            assert_eq!(Key::of(Some(&properties(value.clone())), session), expected, "{value:?}");
        }
        assert_eq!(Key::of(None, session), Key::Session(session));
    }
}
