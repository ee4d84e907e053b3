//! Between the connection task and one stream: filled by links, emptied by the reader, never more than the links may
//! send. The reader decides: what it takes is what the hub may send more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use iothub_amqp::message::Message;
use iothub_common::{Error, Result};
use tokio::sync::Notify;

use super::settlements::Lock;

/// What came in.
#[derive(Debug)]
pub(crate) struct Item {
    /// Which of the links it came on.
    pub(crate) source: usize,
    pub(crate) message: Message,
    /// What holds it, where the hub waits for an outcome.
    pub(crate) lock: Option<Lock>,
}

/// How a mailbox lets its links send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// One message, when the reader waits for it: what lies here is locked, and locks end.
    OnDemand,
    /// So many per link, from when the reader first asked.
    Ahead(u32),
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    window: Window,
    /// Tells the connection task that the reader took something.
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    items: VecDeque<Item>,
    sources: Vec<Source>,
    reader: Option<Waker>,
    /// The reader has asked at least once.
    listening: bool,
    /// The reader asked, and there was nothing.
    hungry: bool,
    /// Nothing more comes; the reason is for the reader, once.
    over: bool,
    reason: Option<Error>,
    /// The reader is gone.
    gone: bool,
}

#[derive(Clone, Debug, Default)]
struct Source {
    waiting: u32,
    /// Taken by the reader since the link was last told that it may send more.
    taken: u32,
    /// The link was told that it may send; on demand, and has not sent since.
    open: bool,
}

impl Mailbox {
    pub(super) fn new(sources: usize, window: Window, wake: Arc<Notify>) -> Self {
        let inner = Inner {
            items: VecDeque::new(),
            sources: vec![Source::default(); sources],
            reader: None,
            listening: false,
            hungry: false,
            over: false,
            reason: None,
            gone: false,
        };
        Self { inner: Mutex::new(inner), window, wake }
    }

    /// What the reader does.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Item>>> {
        let mut inner = self.lock();
        if let Some(item) = inner.items.pop_front() {
            let source = &mut inner.sources[item.source];
            source.waiting -= 1;
            source.taken += 1;
            if matches!(self.window, Window::Ahead(size) if source.taken == refill_at(size)) {
                self.wake.notify_one();
            }
            return Poll::Ready(Some(Ok(item)));
        }
        if inner.over {
            return Poll::Ready(inner.reason.take().map(Err));
        }
        inner.reader = Some(cx.waker().clone());
        if !inner.hungry {
            inner.listening = true;
            inner.hungry = true;
            self.wake.notify_one();
        }
        Poll::Pending
    }

    /// The reader is gone; what it did not take is released.
    pub(super) fn close(&self) {
        let items = {
            let mut inner = self.lock();
            inner.gone = true;
            std::mem::take(&mut inner.items)
        };
        drop(items);
        self.wake.notify_one();
    }

    /// What a link does. An item for nobody is dropped, which releases it.
    pub(super) fn push(&self, item: Item) {
        let mut inner = self.lock();
        if inner.gone || inner.over {
            drop(inner);
            return drop(item);
        }
        let source = &mut inner.sources[item.source];
        source.waiting += 1;
        source.open &= self.window != Window::OnDemand;
        inner.items.push_back(item);
        inner.hungry = false;
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    /// Nothing more comes. The reader gets what is here, then the reason, then the end.
    pub(super) fn end(&self, reason: Option<Error>) {
        let mut inner = self.lock();
        if inner.over {
            return;
        }
        inner.over = true;
        inner.reason = reason;
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    /// Whether links need not be kept up for it.
    pub(super) fn is_over(&self) -> bool {
        let inner = self.lock();
        inner.over || inner.gone
    }

    /// How many messages a link that was just attached may send.
    pub(super) fn first_credit(&self, source: usize) -> u32 {
        self.lock().sources[source].open = false;
        self.more_credit(source, 0).unwrap_or(0)
    }

    /// How many messages a link that may send `credit` more may send from now on; `None` when that is enough.
    pub(super) fn more_credit(&self, source: usize, credit: u32) -> Option<u32> {
        let mut inner = self.lock();
        let (hungry, listening) = (inner.hungry, inner.listening);
        let source = &mut inner.sources[source];
        let opens = !source.open;
        match self.window {
            Window::OnDemand if opens && hungry => {
                source.open = true;
                Some(1)
            }
            Window::Ahead(size) if opens && listening => {
                source.open = true;
                source.taken = 0;
                Some(size.saturating_sub(source.waiting))
            }
            // What was taken makes room for as many.
            Window::Ahead(size) if source.open && source.taken >= refill_at(size) => {
                Some(credit + std::mem::take(&mut source.taken))
            }
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credit is given in halves of the window: fewer frames than one by one, and the link never runs dry.
fn refill_at(size: u32) -> u32 {
    size.div_ceil(2).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;
    use iothub_common::ErrorKind;

    use super::*;

    fn mailbox(sources: usize, window: Window) -> (Mailbox, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        (Mailbox::new(sources, window, wake.clone()), wake)
    }

    fn woken(wake: &Notify) -> bool {
        wake.notified().now_or_never().is_some()
    }

    fn push(mailbox: &Mailbox, source: usize) {
        mailbox.push(Item { source, message: Message::default(), lock: None });
    }

    fn poll(mailbox: &Mailbox) -> Poll<Option<Result<Item>>> {
        mailbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn take(mailbox: &Mailbox) -> usize {
        match poll(mailbox) {
            Poll::Ready(Some(Ok(item))) => item.source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_asked_for_before_somebody_listens() {
        for window in [Window::OnDemand, Window::Ahead(10)] {
            let (mailbox, wake) = mailbox(1, window);
            assert_eq!((mailbox.first_credit(0), mailbox.more_credit(0, 0)), (0, None));
            assert!(!woken(&wake));
            assert!(poll(&mailbox).is_pending());
            assert!(woken(&wake));
            assert!(mailbox.more_credit(0, 0).is_some());
            assert!(mailbox.first_credit(0) > 0, "on a new link as well");
        }
    }

    #[test]
    fn on_demand_one_message_is_asked_for_when_the_reader_waits() {
        let (mailbox, wake) = mailbox(1, Window::OnDemand);
        assert!(poll(&mailbox).is_pending() && woken(&wake));
        assert_eq!(mailbox.more_credit(0, 0), Some(1));
        assert_eq!(mailbox.more_credit(0, 1), None, "it is on its way");
        assert!(poll(&mailbox).is_pending());
        assert!(!woken(&wake), "asked already");
        push(&mailbox, 0);
        assert_eq!(mailbox.more_credit(0, 0), None, "the reader has something to do");
        take(&mailbox);
        assert_eq!(mailbox.more_credit(0, 0), None);
        assert!(poll(&mailbox).is_pending() && woken(&wake));
        assert_eq!(mailbox.more_credit(0, 0), Some(1));
    }

    #[test]
    fn ahead_credit_and_what_waits_are_never_more_than_the_window() {
        let (mailbox, wake) = mailbox(2, Window::Ahead(4));
        assert!(poll(&mailbox).is_pending() && woken(&wake));
        assert_eq!(mailbox.more_credit(0, 0), Some(4));
        assert_eq!(mailbox.more_credit(0, 4), None);
        for _ in 0..4 {
            push(&mailbox, 0);
        }
        assert_eq!(mailbox.more_credit(0, 0), None, "a slow reader holds the hub back");
        assert_eq!(mailbox.first_credit(0), 0, "on a new link as well");
        take(&mailbox);
        assert!(!woken(&wake));
        take(&mailbox);
        assert!(woken(&wake), "half of the window is free");
        assert_eq!(mailbox.more_credit(0, 0), Some(2));
        assert_eq!(mailbox.more_credit(0, 2), None);
        push(&mailbox, 0);
        take(&mailbox);
        take(&mailbox);
        assert_eq!(mailbox.more_credit(0, 1), Some(3), "one waits, three may come");
        assert_eq!(mailbox.more_credit(1, 0), Some(4), "links have windows of their own");
    }

    #[test]
    fn a_window_of_one_works() {
        let (mailbox, wake) = mailbox(1, Window::Ahead(1));
        assert!(poll(&mailbox).is_pending() && woken(&wake));
        for _ in 0..3 {
            assert_eq!(mailbox.more_credit(0, 0), Some(1));
            push(&mailbox, 0);
            assert_eq!(mailbox.more_credit(0, 0), None);
            take(&mailbox);
            assert!(woken(&wake));
        }
    }

    #[test]
    fn the_reader_gets_what_is_there_then_the_reason_then_the_end() {
        let (mailbox, _) = mailbox(1, Window::Ahead(4));
        push(&mailbox, 0);
        mailbox.end(Some(Error::new(ErrorKind::NotFound, "gone")));
        mailbox.end(None);
        push(&mailbox, 0);
        assert!(mailbox.is_over());
        take(&mailbox);
        assert!(matches!(poll(&mailbox), Poll::Ready(Some(Err(e))) if e.kind() == ErrorKind::NotFound));
        for _ in 0..2 {
            assert!(matches!(poll(&mailbox), Poll::Ready(None)));
        }
    }
}
