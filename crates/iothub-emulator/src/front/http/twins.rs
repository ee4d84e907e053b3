//! Twins of devices and modules, as the service sees them (rest.md 5).

use super::answer::{self, Answer, Outcome};
use super::call::Call;

pub(super) async fn get(call: Call) -> Outcome {
    Ok(Answer::entity(&call.hub.get_twin(&call.identity()?)?))
}

pub(super) async fn patch(call: Call) -> Outcome {
    let patch = call.json(answer::format_error)?;
    Ok(Answer::entity(&call.hub.patch_twin(&call.identity()?, &patch, call.precondition())?))
}

pub(super) async fn put(call: Call) -> Outcome {
    let twin = call.json(answer::format_error)?;
    Ok(Answer::entity(&call.hub.replace_twin(&call.identity()?, &twin, call.precondition())?))
}
