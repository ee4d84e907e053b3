//! What an identity does on its session: one file a feature. Each keeps its links up by itself, holds its calls
//! over a loss, and never waits: events and the time go in, frames go out through the connection.

mod inbox;
mod methods;
mod retry;
mod set;
mod telemetry;
mod twin;

use iothub_amqp::{
    proto::{Connection, LinkId, SessionId},
    serde_amqp::Value,
    types::definitions::Fields,
};
use iothub_common::{Identity, Subject};

pub(crate) use inbox::{Inbox, RawMessage, SettleCall, Ticket, Verdict, settle_body};
pub(crate) use methods::{AnswerCall, AnswerTo, Methods, RawRequest};
pub(crate) use retry::Retry;
pub(crate) use set::Features;
pub(crate) use telemetry::{Telemetry, TelemetryCall};
pub(crate) use twin::{TwinCall, TwinKind, TwinLinks};

/// The session of an identity while it is up.
pub(crate) struct Up<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) session: SessionId,
    pub(crate) identity: &'a Identity,
    /// Links asked for: their events are to come here.
    pub(crate) new_links: &'a mut Vec<LinkId>,
}

impl Up<'_> {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::from(self.identity)
    }
}

/// Properties of a link. `pair` names the channel that ties two links together (amqp.md 3.3).
fn link_properties(pair: Option<&str>) -> Fields {
    const API_VERSION: &str = "2021-04-12";
    let text = |s: &str| Value::String(s.to_owned());
    let common = [
        ("com.microsoft:client-version", text(crate::USER_AGENT)),
        ("com.microsoft:api-version", text(API_VERSION)),
    ];
    let channel = pair.map(|kind| {
        let value = format!("{kind}:{}", uuid::Uuid::new_v4());
        ("com.microsoft:channel-correlation-id", Value::String(value))
    });
    iothub_amqp::message::fields(common.into_iter().chain(channel))
}
