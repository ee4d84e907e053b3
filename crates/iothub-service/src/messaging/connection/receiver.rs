//! A link that receives: how to ask for it, anew each time it was lost, and where what it brings goes.

use std::sync::Arc;

use bytes::Bytes;
use iothub_amqp::message::{Message, fields};
use iothub_amqp::proto::{AttachOptions, Credit, LinkId};
use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::definitions::ReceiverSettleMode;
use iothub_amqp::types::messaging::{Source, Target};
use iothub_common::{Error, ErrorKind, Result, RetryPolicy};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::attachment::Attachment;
use super::mailbox::Mailbox;
use super::{Reply, USER_AGENT};
use crate::messaging::events::{StartPosition, management, sequence_number};

/// Larger than any event with its annotations, bytes.
const LARGEST_MESSAGE: u64 = 4 << 20;

/// What a link receives.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    /// A queue. Messages are handed to one receiver and locked until it says what becomes of them.
    Queue {
        /// The hub's address of it.
        address: &'static str,
    },
    /// A partition of a log. Reading takes nothing away.
    Partition(PartitionFeed),
}

#[derive(Clone, Debug)]
pub(crate) struct PartitionFeed {
    pub(crate) address: String,
    /// What a reader calls itself.
    pub(crate) reader: String,
    /// With one, it displaces readers with a lower one or none (amqp.md 5.7).
    pub(crate) owner_level: Option<i64>,
    /// The event hub and the partition in it.
    pub(crate) entity: String,
    pub(crate) partition: Arc<str>,
    /// Where to begin, or after which event to go on.
    pub(crate) position: StartPosition,
    /// There has been an event at that position.
    pub(crate) reached: bool,
    /// Words errors: partition `0` of consumer group `g`.
    pub(crate) name: String,
}

impl Feed {
    fn options(&self) -> AttachOptions {
        let mut properties = vec![("com.microsoft:client-version", Value::String(USER_AGENT.to_owned()))];
        match self {
            Self::Queue { address } => AttachOptions {
                // The hub confirms outcomes: then it is known whether a lock still held (amqp.md 5.1).
                rcv_settle_mode: ReceiverSettleMode::Second,
                properties: Some(fields(properties)),
                max_message_size: LARGEST_MESSAGE,
                ..AttachOptions::receiver(format!("receiver-{}", Uuid::new_v4()), *address, Credit::Manual)
            },
            Self::Partition(feed) => {
                properties.push(("com.microsoft:receiver-name", Value::String(feed.reader.clone())));
                if let Some(level) = feed.owner_level {
                    properties.push(("com.microsoft:epoch", Value::Long(level)));
                }
                let name = format!("{}-{}", feed.address, Uuid::new_v4());
                let source = Source {
                    address: Some(feed.address.clone()),
                    filter: Some(feed.position.filter()),
                    ..Source::default()
                };
                AttachOptions {
                    source: Some(source),
                    target: Some(Target::builder().address(feed.reader.clone()).build()),
                    properties: Some(fields(properties)),
                    max_message_size: LARGEST_MESSAGE,
                    ..AttachOptions::receiver(name, &*feed.address, Credit::Manual)
                }
            }
        }
    }
}

/// A link that is kept up for a stream.
#[derive(Debug)]
pub(super) struct Receiver {
    feed: Feed,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) source: usize,
    pub(super) attachment: Attachment,
    /// Who waits for the link to be granted the first time, and until when.
    opening: Option<(Instant, Reply<()>)>,
    log: Log,
    /// The hub waits for us to settle before it settles itself.
    pub(super) confirms: bool,
}

/// Whether the log that is read is still the same after a loss.
#[derive(Debug)]
enum Log {
    Known,
    /// It is to be asked for.
    Doubtful,
    Asked(oneshot::Receiver<Result<Message>>),
}

impl Receiver {
    pub(super) fn new(
        feed: Feed,
        mailbox: Arc<Mailbox>,
        source: usize,
        opening: (Instant, Reply<()>),
        policy: &RetryPolicy,
    ) -> Self {
        let attachment = Attachment::new(policy);
        Self { feed, mailbox, source, attachment, opening: Some(opening), log: Log::Known, confirms: false }
    }

    pub(super) fn options(&self) -> AttachOptions {
        self.feed.options()
    }

    pub(super) fn is_queue(&self) -> bool {
        matches!(self.feed, Feed::Queue { .. })
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.attachment.link() == Some(link)
    }

    /// The hub granted the link.
    pub(super) fn up(&mut self, link: LinkId, rcv_settle_mode: &ReceiverSettleMode, now: Instant) {
        self.attachment.up(link, now);
        self.confirms = *rcv_settle_mode == ReceiverSettleMode::Second;
        if let Some((_, reply)) = self.opening.take() {
            // Nobody listens when the caller dropped its future: then the mailbox is over, too.
            reply.send(Ok(())).ok();
        }
    }

    /// Reads a message and notes how far we are. `None` when it was here before.
    pub(super) fn read(&mut self, payload: &Bytes) -> Result<Option<Message>> {
        let message = Message::decode(payload).map_err(|error| {
            Error::new(ErrorKind::Protocol, "the hub sent what is no AMQP message").with_source(error)
        })?;
        if let Feed::Partition(feed) = &mut self.feed {
            let number = sequence_number(&message)?;
            if matches!(feed.position, StartPosition::AfterSequenceNumber(last) if number <= last) {
                return Ok(None);
            }
            feed.position = StartPosition::AfterSequenceNumber(number);
            feed.reached = true;
        }
        self.attachment.works();
        Ok(Some(message))
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.attachment.disconnected();
        self.log = match &self.feed {
            Feed::Partition(PartitionFeed { reached: true, .. }) => Log::Doubtful,
            _ => Log::Known,
        };
    }

    /// What is to be asked before the link: a hub that failed over, or was made anew, begins its log anew, and would
    /// have nothing after our position for a long time.
    pub(super) fn question(&mut self, token: &str) -> Option<(Message, Reply<Message>)> {
        let (Log::Doubtful, Feed::Partition(feed)) = (&self.log, &self.feed) else { return None };
        let question = management::partition_question(&feed.entity, &feed.partition, token);
        let (reply, answer) = oneshot::channel();
        self.log = Log::Asked(answer);
        Some((question, reply))
    }

    /// Whether the link may be asked for; takes the answer to the question.
    pub(super) fn knows_its_log(&mut self) -> bool {
        let Log::Asked(answer) = &mut self.log else { return matches!(self.log, Log::Known) };
        let answer = match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return false,
            Ok(Ok(answer)) => Some(answer),
            // Without an answer the link will tell.
            Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => None,
        };
        self.log = Log::Known;
        if let (Some(answer), Feed::Partition(feed)) = (answer, &mut self.feed)
            && let StartPosition::AfterSequenceNumber(last) = feed.position
            && management::last_sequence_number(answer).is_some_and(|newest| newest < last)
        {
            tracing::warn!(partition = feed.name, last, "the log begins anew; reading it from its beginning");
            feed.position = StartPosition::Earliest;
            feed.reached = false;
        }
        true
    }

    /// When the caller of the opening has waited long enough.
    pub(super) fn opening_deadline(&self) -> Option<Instant> {
        self.opening.as_ref().map(|(deadline, _)| *deadline)
    }

    /// It is not to be asked for any more: whoever waits for it, or reads from it, gets the reason.
    pub(super) fn end(mut self, reason: Option<Error>) {
        let reason = reason.map(|error| self.explain(error));
        match self.opening.take() {
            Some((_, reply)) => {
                reply.send(Err(reason.unwrap_or_else(super::closed_error))).ok();
                self.mailbox.end(None);
            }
            None => self.mailbox.end(reason),
        }
    }

    fn explain(&self, error: Error) -> Error {
        // Who reads changes nothing.
        let error = error.with_may_have_been_applied(false);
        match &self.feed {
            Feed::Queue { .. } => error,
            Feed::Partition(feed) => error.context(format!("the events of {} cannot be read", feed.name)),
        }
    }
}
