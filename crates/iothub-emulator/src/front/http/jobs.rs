//! Scheduled jobs (rest.md 8.1).

use super::answer::{self, Answer, Outcome};
use super::call::Call;
use super::query;

pub(super) async fn put(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    Ok(Answer::json(&call.hub.put_job(call.id(), &body)?))
}

pub(super) async fn get(call: Call) -> Outcome {
    Ok(Answer::json(&call.hub.get_job(call.id())?))
}

pub(super) async fn cancel(call: Call) -> Outcome {
    Ok(Answer::json(&call.hub.cancel_job(call.id())?))
}

/// An array and headers like a query's, which is what Node, C# and Java read.
pub(super) async fn list(call: Call) -> Outcome {
    let request = query::page_request(&call)?;
    let named = |name| call.query.get(name).filter(|value| !value.is_empty());
    Ok(Answer::page(call.hub.list_jobs(named("jobType"), named("jobStatus"), &request)?))
}
