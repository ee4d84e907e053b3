//! What lies between the connection task and one reader of a stream.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::client::Client;

/// A queue whose bound is the business of the task that fills it.
#[derive(Debug)]
pub(crate) struct Mailbox<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    ended: bool,
    waker: Option<Waker>,
    /// Items were taken since the task looked last, and it was told so.
    touched: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let inner = Inner { items: VecDeque::new(), ended: false, waker: None, touched: false };
        Self(Mutex::new(inner))
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn push(&self, item: T) {
        let mut inner = self.lock();
        inner.items.push_back(item);
        inner.wake();
    }

    /// Empties the queue and puts `item` into it.
    pub(crate) fn replace(&self, item: T) {
        self.lock().items.clear();
        self.push(item);
    }

    /// Takes everything out, unread.
    pub(crate) fn drain(&self) -> VecDeque<T> {
        std::mem::take(&mut self.lock().items)
    }

    /// Items not read yet. Asking counts as having looked.
    pub(crate) fn len(&self) -> usize {
        let mut inner = self.lock();
        inner.touched = false;
        inner.items.len()
    }

    /// No more items come.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.wake();
    }

    /// The next item; `None` after the end. The second value is true when the task is to be told.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<(T, bool)>> {
        let mut inner = self.lock();
        if let Some(item) = inner.items.pop_front() {
            let tell = !std::mem::replace(&mut inner.touched, true);
            return Poll::Ready(Some((item, tell)));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nothing that happens under the lock can panic half-way, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The reader's end. It keeps the client alive, and its own end is noticed.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    /// `None` only while it is dropped.
    mailbox: Option<Arc<Mailbox<T>>>,
    client: Client,
}

impl<T> Reader<T> {
    pub(crate) fn new(mailbox: Arc<Mailbox<T>>, client: Client) -> Self {
        Self { mailbox: Some(mailbox), client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(mailbox) = &self.mailbox else { return Poll::Ready(None) };
        let Poll::Ready(next) = mailbox.poll_next(cx) else { return Poll::Pending };
        Poll::Ready(next.map(|(item, tell)| {
            if tell {
                self.client.touch();
            }
            item
        }))
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // The task sees that it is the only one to hold the mailbox.
        self.mailbox = None;
        self.client.touch();
    }
}
