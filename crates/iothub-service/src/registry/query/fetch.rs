//! One page after the other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderName;
use iothub_common::identity::escape_id;
use iothub_common::{Error, ErrorKind, Result, Subject};

use super::ItemType;
use crate::http::{Call, Unread};
use crate::models::{JobStatus, JobType, RawJson};
use crate::registry::Registry;

const PAGE_SIZE: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const TOKEN: HeaderName = HeaderName::from_static("x-ms-continuation");
const ITEM_TYPE: &str = "x-ms-item-type";

/// What is asked for.
#[derive(Debug)]
pub(in crate::registry) enum Source {
    /// A query in the hub's language.
    Query(String),
    /// The jobs of the hub.
    Jobs(Option<JobType>, Option<JobStatus>),
}

pub(super) struct Fetcher {
    registry: Registry,
    pub(super) source: Arc<Source>,
    pub(super) page_size: Option<u32>,
    state: State,
}

enum State {
    /// The next page is to be fetched from here; `None` is the beginning.
    At(Option<String>),
    Fetching(Pin<Box<dyn Future<Output = Result<RawPage>> + Send>>),
    Done,
}

pub(super) struct RawPage {
    pub(super) items: Vec<RawJson>,
    pub(super) item_type: ItemType,
    pub(super) token: Option<String>,
}

impl Fetcher {
    pub(super) fn new(registry: Registry, source: Source) -> Self {
        Self { registry, source: Arc::new(source), page_size: None, state: State::At(None) }
    }

    pub(super) fn start_at(&mut self, token: String) {
        self.state = State::At(Some(token));
    }

    /// The next page; after the last one or an error `None`.
    pub(super) fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<RawPage>>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::At(token) => {
                    let token = token.take();
                    let page = fetch(self.registry.clone(), Arc::clone(&self.source), self.page_size, token);
                    self.state = State::Fetching(Box::pin(page));
                }
                State::Fetching(page) => {
                    let page = ready!(page.as_mut().poll(cx));
                    self.state = match &page {
                        Ok(RawPage { token: Some(token), .. }) => State::At(Some(token.clone())),
                        Ok(_) | Err(_) => State::Done,
                    };
                    return Poll::Ready(Some(page));
                }
            }
        }
    }
}

async fn fetch(
    registry: Registry,
    source: Arc<Source>,
    page_size: Option<u32>,
    token: Option<String>,
) -> Result<RawPage> {
    let hub = Subject::Hub(registry.host_name());
    let mut call = match &*source {
        Source::Query(query) => {
            let call = Call::read("query", "/devices/query".to_owned(), hub).posting();
            call.json(&serde_json::json!({ "query": query }))?
        }
        Source::Jobs(kind, status) => {
            let mut call = Call::read("list jobs", "/jobs/v2/query".to_owned(), hub);
            if let Some(kind) = kind {
                call = call.query("jobType", escape_id(kind.as_str()));
            }
            if let Some(status) = status {
                call = call.query("jobStatus", escape_id(status.as_str()));
            }
            call
        }
    };
    match page_size {
        Some(0) => return Err(Error::new(ErrorKind::InvalidInput, "a page of 0 items never gets anywhere")),
        Some(items) => call = call.header(PAGE_SIZE, &items.to_string(), "page size")?,
        None => {}
    }
    if let Some(token) = &token {
        call = call.header(TOKEN, token, "token")?;
    }
    let unread = Unread { what: call.what, changes: false };
    let answer = registry.http.send(call).await?;
    let items: Vec<RawJson> = unread.json(&answer)?;
    let item_type = ItemType::from(answer.header(ITEM_TYPE).unwrap_or_default());
    // On the last page the header is missing; an empty one would begin anew for ever (rest.md 6).
    let next = answer.header(TOKEN.as_str()).filter(|next| !next.is_empty()).map(str::to_owned);
    if next.is_some() && next == token {
        let message = "the hub gave a page and the token for the same page again; the query would never end";
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    Ok(RawPage { items, item_type, token: next })
}
