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
pub(crate) use retry::{Retry, is_displaced};
pub(crate) use set::Features;
pub(crate) use telemetry::{Telemetry, TelemetryCall};
pub(crate) use twin::{TwinCall, TwinKind, TwinLinks};

/// The session of an identity while it is up.
pub(crate) struct Up<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) session: SessionId,
    pub(crate) identity: &'a Identity,
    pub(crate) model_id: Option<&'a str>,
    /// Links asked for: their events are to come here.
    pub(crate) new_links: &'a mut Vec<LinkId>,
}

impl Up<'_> {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::from(self.identity)
    }

    /// Properties of a link that sends: they announce the model.
    fn sender_properties(&self) -> Fields {
        link_properties(None, self.model_id)
    }

    /// Properties of a pair of links, sender first. `kind` names the channel that ties them together (amqp.md 3.3).
    fn pair_properties(&self, kind: &str) -> [Option<Fields>; 2] {
        let channel = format!("{kind}:{}", uuid::Uuid::new_v4());
        let sender = link_properties(Some(&channel), self.model_id);
        [Some(sender), Some(link_properties(Some(&channel), None))]
    }
}

fn link_properties(channel: Option<&str>, model_id: Option<&str>) -> Fields {
    const API_VERSION: &str = "2021-04-12";
    let properties = [
        ("com.microsoft:client-version", Some(crate::USER_AGENT)),
        ("com.microsoft:api-version", Some(API_VERSION)),
        ("com.microsoft:channel-correlation-id", channel),
        ("com.microsoft:model-id", model_id),
    ];
    let given = properties.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())));
    iothub_amqp::message::fields(given.map(|(name, value)| (name, Value::String(value))))
}
