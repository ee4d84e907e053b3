//! Many identities at once (rest.md 3.5).

mod answer;
mod batches;
mod item;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use iothub_common::{Result, Subject};

pub use self::answer::BulkResult;
use self::batches::{Batches, Numbered};
pub use self::item::BulkItem;
use super::Registry;
use crate::http::{Answer, Call};
use crate::models::NewDevice;

/// How many calls run at once unless [`Bulk::concurrency`] says otherwise.
const CONCURRENCY: usize = 4;
/// How long a call is repeated while the hub throttles: who sends thousands of items does not want some of them back
/// because the others were many.
const PERSISTENCE: Duration = Duration::from_secs(10 * 60);

impl Registry {
    /// Creates, updates and deletes identities and changes twins, any number of them: up to 100 go into one call, and
    /// four calls run at once.
    ///
    /// The answer is a stream with one [`BulkResult`] for each item, in the order in which calls end; watch it for
    /// progress, or let [`Bulk::report`] collect it. Nothing is sent before it is polled, and the items are taken from
    /// `items` as they are sent. Items about the same device are carried out in the order given, so a device may come
    /// before its modules in the same bulk. Dropping the stream cancels what is left; calls under way may have been done.
    ///
    /// An item with an id that no id can be, or a twin that breaks a rule, gets its result without being sent.
    ///
    /// # Errors
    ///
    /// Each item has its own, see [`BulkResult::result`]. When a whole call fails, each of its items has that error; while
    /// the hub throttles, calls are repeated for up to 10 minutes.
    ///
    /// ```no_run
    /// use futures_util::StreamExt;
    /// use iothub_service::{BulkItem, Registry};
    ///
    /// # async fn run(registry: Registry) {
    /// let pumps = (0..5000).flat_map(|n| {
    ///     let id = format!("pump-{n}");
    ///     [BulkItem::create_device(id.as_str()), BulkItem::add_module(id, "valve")]
    /// });
    /// let mut results = registry.bulk(pumps);
    /// while let Some(item) = results.next().await {
    ///     if let Err(error) = item.result {
    ///         eprintln!("{} {:?}: {error}", item.device_id, error.hub_code());
    ///     }
    /// }
    /// # }
    /// ```
    pub fn bulk(&self, items: impl IntoIterator<Item = BulkItem, IntoIter: Send + 'static>) -> Bulk {
        Bulk {
            registry: self.clone(),
            batches: Batches::new(Box::new(items.into_iter())),
            concurrency: CONCURRENCY,
            calls: FuturesUnordered::new(),
            results: VecDeque::new(),
        }
    }

    /// [`Registry::bulk`] of devices to create, by id or as [`NewDevice`]s. With keys made by the hub, read them
    /// afterwards: bulk answers have none.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) for each device that is there, also where this bulk made it.
    pub fn create_devices(
        &self,
        devices: impl IntoIterator<Item = impl Into<NewDevice> + 'static, IntoIter: Send + 'static>,
    ) -> Bulk {
        self.bulk(devices.into_iter().map(BulkItem::create_device))
    }

    /// [`Registry::bulk`] of devices to delete, with their modules.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) for each device that is not there.
    pub fn delete_devices(
        &self,
        device_ids: impl IntoIterator<Item = impl Into<String> + 'static, IntoIter: Send + 'static>,
    ) -> Bulk {
        self.bulk(device_ids.into_iter().map(BulkItem::delete_device))
    }

    /// One call with up to 100 items.
    async fn bulk_call(self, items: Vec<Numbered>) -> Done {
        let answer = self.send_bulk(&items).await;
        let results = answer::results(&items, answer);
        Done { items, results }
    }

    async fn send_bulk(&self, items: &[Numbered]) -> Result<Answer> {
        let bodies = items.iter().map(|numbered| numbered.item.body()).collect::<Result<Vec<_>>>()?;
        let call = Call::read("bulk", "/devices".to_owned(), Subject::Hub(self.host_name()));
        let call = call.changing(Method::POST).persistence(PERSISTENCE).takes(answer::is_result);
        self.http.send(call.json(&bodies)?).await
    }
}

/// A bulk under way, see [`Registry::bulk`].
#[must_use = "streams do nothing unless polled"]
pub struct Bulk {
    registry: Registry,
    batches: Batches<Box<dyn Iterator<Item = BulkItem> + Send>>,
    concurrency: usize,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    results: VecDeque<BulkResult>,
}

/// A call that ended.
struct Done {
    items: Vec<Numbered>,
    results: Vec<BulkResult>,
}

/// What came of a bulk, see [`Bulk::report`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BulkReport {
    /// How many items succeeded.
    pub succeeded: usize,
    /// All items that did not, in the order of the input.
    pub failed: Vec<BulkResult>,
}

impl Bulk {
    /// How many calls run at once, at least one; four by default.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Carries everything out, then counts what succeeded and lists what did not.
    pub async fn report(mut self) -> BulkReport {
        let mut report = BulkReport::default();
        while let Some(result) = self.next().await {
            match result.result {
                Ok(()) => report.succeeded += 1,
                Err(_) => report.failed.push(result),
            }
        }
        report.failed.sort_by_key(|result| result.index);
        report
    }

    /// Begins calls while there is something to send and room for it.
    fn begin_calls(&mut self) {
        while self.calls.len() < self.concurrency {
            let Some(batch) = self.batches.next() else { return };
            // What cannot be sent has its result at once.
            let (good, bad): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|numbered| numbered.item.body().is_ok());
            self.batches.done(bad.iter().map(|numbered| &numbered.item));
            let refused = bad.iter().filter_map(|numbered| {
                let error = numbered.item.body().err()?;
                Some(BulkResult::new(numbered, Err(error)))
            });
            self.results.extend(refused);
            if !good.is_empty() {
                self.calls.push(Box::pin(self.registry.clone().bulk_call(good)));
            }
        }
    }
}

impl Stream for Bulk {
    type Item = BulkResult;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BulkResult>> {
        loop {
            if let Some(result) = self.results.pop_front() {
                return Poll::Ready(Some(result));
            }
            self.begin_calls();
            if !self.results.is_empty() {
                continue;
            }
            // Nothing under way, nothing to send: all is done.
            let Some(Done { items, results }) = ready!(self.calls.poll_next_unpin(cx)) else {
                return Poll::Ready(None);
            };
            self.batches.done(items.iter().map(|numbered| &numbered.item));
            self.results.extend(results);
        }
    }
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}
