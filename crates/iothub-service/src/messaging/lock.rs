//! What a message from a queue of the hub is held by, until it is completed or abandoned.

use std::fmt;

use iothub_common::{Error, ErrorKind, Result};

use super::connection::{Connection, Item, Lock, Verdict};

/// Keeps the connection open while it holds something.
pub(super) struct Held {
    lock: Option<Lock>,
    connection: Connection,
}

impl Held {
    /// Completes: the hub removes the message. Returns when the hub has confirmed that.
    pub(super) async fn complete(self) -> Result<()> {
        self.settle(Verdict::Complete).await
    }

    /// Abandons: the hub hands the message out again.
    pub(super) async fn abandon(self) -> Result<()> {
        self.settle(Verdict::Abandon).await
    }

    async fn settle(self, verdict: Verdict) -> Result<()> {
        match self.lock {
            Some(lock) => lock.settle(verdict, self.connection.call_timeout()).await,
            // The hub settled it when it sent it.
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// Takes a message of a queue apart: its body, if it is of the type it must be, and what holds it.
///
/// # Errors
///
/// `Protocol` when it is of another type or `read` fails. The message is rejected then: handed out again it would end
/// the next stream as well.
pub(super) fn open<T>(
    item: Item,
    connection: &Connection,
    content_type: &str,
    read: impl FnOnce(iothub_amqp::message::Message) -> Result<T, serde_json::Error>,
) -> Result<(T, Held)> {
    let Item { message, lock, .. } = item;
    let found = message.properties.as_ref().and_then(|properties| properties.content_type.as_ref());
    let found = found.map(|content_type| content_type.as_str()).unwrap_or_default().to_owned();
    let error = if found.eq_ignore_ascii_case(content_type) {
        match read(message) {
            Ok(content) => return Ok((content, Held { lock, connection: connection.clone() })),
            Err(error) => {
                let what = format!("the hub sent a message of type {content_type} that cannot be read");
                Error::new(ErrorKind::Protocol, what).with_source(error)
            }
        }
    } else {
        let what = format!("the hub sent a message of type `{found}` where {content_type} was expected");
        Error::new(ErrorKind::Protocol, what)
    };
    if let Some(lock) = lock {
        lock.settle_unheard(Verdict::Reject);
    }
    Err(error)
}
