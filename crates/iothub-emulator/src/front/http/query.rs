//! Queries over twins and device jobs, page by page (rest.md 6).

use http::header::HeaderName;
use serde_json::Value;

use super::answer::{self, Answer, CONTINUATION, Outcome};
use super::call::{Call, header};
use crate::hub::{HubError, PageRequest};

const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");

pub(super) async fn run(call: Call) -> Outcome {
    let body = call.json(answer::bad_request)?;
    let Some(text) = body.get("query").and_then(Value::as_str) else {
        // The real hub's words (twins.md 5.3).
        return Err(answer::argument_null("BadRequest"));
    };
    Ok(Answer::page(call.hub.query(text, &page_request(&call)?).await?))
}

/// What the headers say about the page.
pub(super) fn page_request(call: &Call) -> Result<PageRequest, HubError> {
    let max_items = match header(&call.headers, &MAX_ITEM_COUNT) {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Ok(count) => usize::try_from(count).ok(),
            Err(_) => {
                let text = format!("x-ms-max-item-count must be a number, it is '{text}'");
                return Err(answer::argument_invalid(text));
            }
        },
    };
    let continuation = header(&call.headers, &CONTINUATION).map(str::to_owned);
    Ok(PageRequest { max_items, continuation })
}
