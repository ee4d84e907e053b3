//! Feedback on cloud-to-device messages over HTTP (rest.md 11.4).

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::hub::{Inbox, Verdict};

/// A batch of records, locked for the caller; 204 when there is none.
pub(super) async fn receive(call: Call) -> Outcome {
    Ok(match call.hub.receive_notice(Inbox::Feedback) {
        None => Answer::no_content(),
        Some(locked) => Answer::json_text(locked.item.body.clone()).with_etag(&locked.lock.to_string()),
    })
}

pub(super) async fn complete(call: Call) -> Outcome {
    settle(&call, Verdict::Complete)
}

pub(super) async fn abandon(call: Call) -> Outcome {
    settle(&call, Verdict::Abandon)
}

fn settle(call: &Call, verdict: Verdict) -> Outcome {
    call.hub.settle_notice(Inbox::Feedback, call.lock()?, verdict)?;
    Ok(Answer::no_content())
}
