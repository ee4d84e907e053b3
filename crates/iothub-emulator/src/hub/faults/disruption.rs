//! What can be done to connections that are up.

use std::time::Duration;

/// What happens to the live AMQP connections of a device or module, once, at once.
///
/// Others that share the connection are hit too, except by [`DetachLink`](Self::DetachLink) of their own links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disruption {
    /// The socket goes without a word.
    DropConnection,
    /// The connection is closed with `amqp:connection:forced`.
    CloseConnection,
    /// The connection is closed without an error.
    CloseConnectionQuietly,
    /// The sessions that carry links of the identity are ended with `amqp:internal-error`.
    EndSession,
    /// A link is detached with `amqp:link:detach-forced`.
    DetachLink(LinkKind),
    /// A link is detached without an error.
    DetachLinkQuietly(LinkKind),
    /// The hub neither reads from the connection nor writes to it for so long by its clock, and leaves it open. No
    /// other disruption reaches the connection meanwhile; [`Faults::clear`](super::Faults::clear) ends it.
    StopReading(Duration),
}

/// A link between a device or module and the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind {
    /// Twin, on which the client sends.
    TwinRequests,
    /// Twin, on which it gets answers and notifications.
    TwinReplies,
    /// Methods, on which it is called.
    MethodRequests,
    /// Methods, on which it answers.
    MethodAnswers,
    /// Cloud-to-device messages.
    Cloud,
    /// Telemetry.
    Telemetry,
    /// Messages to a module's inputs.
    Inputs,
    /// `$cbs`, on which it sends tokens; of the whole connection.
    TokenRequests,
    /// `$cbs`, on which it gets answers; of the whole connection.
    TokenReplies,
}

impl Disruption {
    /// How it is called in [`Counters::faults`](crate::hub::Counters::faults) and over HTTP.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DropConnection => "dropConnection",
            Self::CloseConnection => "closeConnection",
            Self::CloseConnectionQuietly => "closeConnectionQuietly",
            Self::EndSession => "endSession",
            Self::DetachLink(_) => "detachLink",
            Self::DetachLinkQuietly(_) => "detachLinkQuietly",
            Self::StopReading(_) => "stopReading",
        }
    }
}

impl LinkKind {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::TwinRequests,
        Self::TwinReplies,
        Self::MethodRequests,
        Self::MethodAnswers,
        Self::Cloud,
        Self::Telemetry,
        Self::Inputs,
        Self::TokenRequests,
        Self::TokenReplies,
    ];

    /// How it is called over HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwinRequests => "twinRequests",
            Self::TwinReplies => "twinReplies",
            Self::MethodRequests => "methodRequests",
            Self::MethodAnswers => "methodAnswers",
            Self::Cloud => "cloud",
            Self::Telemetry => "telemetry",
            Self::Inputs => "inputs",
            Self::TokenRequests => "tokenRequests",
            Self::TokenReplies => "tokenReplies",
        }
    }
}
