//! Queries (rest.md 6, twins.md 5).

mod fetch;

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use iothub_common::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

pub(super) use self::fetch::Source;
use self::fetch::{Fetcher, RawPage};
use super::Registry;
use crate::models::hub_enum::hub_enum;
use crate::models::{DeviceJob, RawJson};

hub_enum! {
    /// What the items of a page are.
    pub enum ItemType {
        /// Whole twins: `SELECT * FROM devices` or `devices.modules`.
        Twin = "Twin",
        /// Whatever was selected: parts of twins, aggregates.
        Raw = "Raw",
        /// What jobs did on devices: `SELECT * FROM devices.jobs`.
        DeviceJob = "DeviceJob",
        /// Jobs, see [`Registry::list_jobs`].
        Job = "JobResponse",
    }
}

impl Registry {
    /// Asks the hub in its query language, over the twins of devices (`FROM devices`), of modules
    /// (`FROM devices.modules`) and over what jobs did (`FROM devices.jobs`).
    ///
    /// The answer is a stream of items. Without more said they are [`RawJson`]; [`Query::typed`] reads them into a type:
    /// [`Twin`](crate::Twin) for `SELECT *`, one of your own for parts and aggregates. Nothing is sent before the stream
    /// is polled.
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt;
    /// use iothub_service::{Registry, Twin};
    ///
    /// # async fn run(registry: Registry) -> iothub_service::Result<()> {
    /// let mut pumps = registry.query("SELECT * FROM devices WHERE tags.kind = 'pump'").typed::<Twin>();
    /// while let Some(twin) = pumps.try_next().await? {
    ///     println!("{}: {}", twin.device_id, twin.properties.reported);
    /// }
    ///
    /// #[derive(serde::Deserialize)]
    /// struct PerSite {
    ///     site: Option<String>,
    ///     count: u64,
    /// }
    /// let sites = "SELECT tags.site AS site, COUNT() AS count FROM devices GROUP BY tags.site";
    /// let sites: Vec<PerSite> = registry.query(sites).typed().try_collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A hub's answers may lag behind changes of twins by some time, seconds as a rule.
    ///
    /// # Errors
    ///
    /// An error of the hub is the last item of the stream:
    /// [`InvalidInput`](ErrorKind::InvalidInput) with the hub's own words, and the position, for a query it does not
    /// understand. An item that does not fit the type is an `InvalidInput` too, and the stream goes on.
    pub fn query(&self, query: impl Into<String>) -> Query {
        self.ask(Source::Query(query.into()))
    }

    pub(super) fn ask<T>(&self, source: Source) -> Query<T> {
        let fetcher = Fetcher::new(self.clone(), source);
        Query { fetcher, items: VecDeque::new(), item: PhantomData }
    }

    /// What a job did, device by device: `SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '…'`.
    ///
    /// # Errors
    ///
    /// As for [`Registry::query`].
    pub fn device_jobs(&self, job_id: &str) -> Query<DeviceJob> {
        // The id becomes part of the query; a quote would end it.
        let id = job_id.replace('\\', "\\\\").replace('\'', "\\'");
        self.query(format!("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{id}'")).typed()
    }
}

/// The items that a query selects, see [`Registry::query`]; page by page with [`Query::pages`].
///
/// The next page is fetched when the items of the last one are used up. Dropping the stream cancels that.
#[must_use = "streams do nothing unless polled"]
pub struct Query<T = RawJson> {
    fetcher: Fetcher,
    items: VecDeque<RawJson>,
    item: PhantomData<fn() -> T>,
}

impl<T> Query<T> {
    /// Reads the items as `U`.
    pub fn typed<U>(self) -> Query<U> {
        Query { fetcher: self.fetcher, items: self.items, item: PhantomData }
    }

    /// At most this many items in one answer, from 1; the hub's own default (100) without it. The hub lowers what is
    /// too much for it; so a page may hold fewer items than asked for without being the last.
    pub fn page_size(mut self, items: u32) -> Self {
        self.fetcher.page_size = Some(items);
        self
    }

    /// Goes on where a page ended: with a token of [`Page::token`], in this program or another. The query must be the
    /// same as the one that gave the token.
    pub fn from_token(mut self, token: impl Into<String>) -> Self {
        self.fetcher.start_at(token.into());
        self
    }

    /// The same as a stream of pages, each with the token of the next.
    pub fn pages(self) -> Pages<T> {
        Pages { fetcher: self.fetcher, item: PhantomData }
    }
}

impl<T: DeserializeOwned> Stream for Query<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.items.pop_front() {
                return Poll::Ready(Some(read(&item)));
            }
            match ready!(this.fetcher.poll_page(cx)) {
                Some(Ok(page)) => this.items = page.items.into(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T> fmt::Debug for Query<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("source", &self.fetcher.source).finish_non_exhaustive()
    }
}

/// The pages of a query, see [`Query::pages`]. An item that is an error is the last one.
#[must_use = "streams do nothing unless polled"]
pub struct Pages<T = RawJson> {
    fetcher: Fetcher,
    item: PhantomData<fn() -> T>,
}

/// One answer to a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page<T = RawJson> {
    /// The items. There may be none, and still further pages.
    pub items: Vec<T>,
    /// What the items are.
    pub item_type: ItemType,
    /// Where the next page begins, see [`Query::from_token`]; `None` on the last page.
    pub token: Option<String>,
}

impl<T: DeserializeOwned> Stream for Pages<T> {
    type Item = Result<Page<T>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let page = ready!(self.get_mut().fetcher.poll_page(cx));
        Poll::Ready(page.map(|page| page.and_then(typed)))
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("source", &self.fetcher.source).finish_non_exhaustive()
    }
}

fn typed<T: DeserializeOwned>(page: RawPage) -> Result<Page<T>> {
    let items = page.items.iter().map(read).collect::<Result<_>>()?;
    Ok(Page { items, item_type: page.item_type, token: page.token })
}

fn read<T: DeserializeOwned>(item: &RawJson) -> Result<T> {
    serde_json::from_str(item.as_str()).map_err(|error| {
        let message =
            format!("an item of the query does not have the shape of {}", std::any::type_name::<T>());
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}
