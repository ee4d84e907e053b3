//! Requests of the application on one kind of link: waiting, in flight, answered. Order is kept, deadlines hold.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

use bytes::Bytes;
use iothub_common::{Error, ErrorKind, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

/// Deadlines of finished calls that are not worth looking for.
const SPARE_DEADLINES: usize = 1024;

/// A request and where its answer goes. `K` says what kind of request it is, `R` what an answer holds.
#[derive(Debug)]
pub(crate) struct Call<K, R> {
    pub(crate) kind: K,
    pub(crate) body: Bytes,
    /// Whether it is sent again when the links were lost before its answer.
    pub(crate) repeat: bool,
    pub(crate) reply: oneshot::Sender<Result<R>>,
    /// Bounds how many calls of a client are here; freed with the call.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl<K, R> Call<K, R> {
    /// Nobody listens when the caller dropped its future.
    pub(crate) fn answer(self, answer: Result<R>) {
        self.reply.send(answer).ok();
    }
}

/// Requests by number; numbers rise in the order of the calls.
#[derive(Debug)]
pub(crate) struct Calls<K, R> {
    next: u64,
    waiting: VecDeque<u64>,
    in_flight: BTreeSet<u64>,
    all: BTreeMap<u64, Call<K, R>>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl<K, R> Default for Calls<K, R> {
    fn default() -> Self {
        Self {
            next: 0,
            waiting: VecDeque::new(),
            in_flight: BTreeSet::new(),
            all: BTreeMap::new(),
            deadlines: BinaryHeap::new(),
        }
    }
}

impl<K, R> Calls<K, R> {
    pub(crate) fn push(&mut self, call: Call<K, R>, deadline: Instant) {
        let id = self.next;
        self.next += 1;
        self.waiting.push_back(id);
        self.all.insert(id, call);
        self.deadlines.push(Reverse((deadline, id)));
        // Those of finished calls stay until they are on top; there are never many more than calls.
        if self.deadlines.len() > 2 * self.all.len() + SPARE_DEADLINES {
            self.deadlines.retain(|Reverse((_, id))| self.all.contains_key(id));
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The next request to send. Those whose caller has gone are not sent any more.
    pub(crate) fn start_next(&mut self) -> Option<(u64, &Call<K, R>)> {
        while let Some(id) = self.waiting.pop_front() {
            match self.all.get(&id) {
                Some(call) if call.reply.is_closed() => drop(self.all.remove(&id)),
                Some(_) => {
                    self.in_flight.insert(id);
                    return self.all.get(&id).map(|call| (id, call));
                }
                None => {}
            }
        }
        None
    }

    /// The request that an answer is for; `None` when it has timed out meanwhile.
    pub(crate) fn finish(&mut self, id: u64) -> Option<Call<K, R>> {
        self.in_flight.remove(&id).then(|| self.all.remove(&id)).flatten()
    }

    /// The links are gone: some calls are made again, before the later ones; for others it is not known
    /// whether the hub has acted.
    pub(crate) fn lost(&mut self, error: &Error) {
        for id in std::mem::take(&mut self.in_flight).into_iter().rev() {
            match self.all.get(&id).map(|call| call.repeat) {
                Some(true) => self.waiting.push_front(id),
                Some(false) => {
                    if let Some(call) = self.all.remove(&id) {
                        call.answer(Err(unknown_outcome(error)));
                    }
                }
                None => {}
            }
        }
    }

    /// The client is closed.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        for (id, call) in std::mem::take(&mut self.all) {
            let sent = self.in_flight.contains(&id) && changes_something(&call);
            call.answer(Err(error.clone().with_may_have_been_applied(sent)));
        }
        *self = Self { next: self.next, ..Self::default() };
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, id))) = self.deadlines.peek() {
            if self.all.contains_key(id) {
                return Some(*deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Ends the calls whose time is up. `why` is what stands in the way of being connected.
    pub(crate) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= now) {
            let Some(Reverse((at, id))) = self.deadlines.pop() else { return };
            debug_assert_eq!(at, deadline);
            let Some(call) = self.all.remove(&id) else { continue };
            let sent = self.in_flight.remove(&id);
            let applied = sent && changes_something(&call);
            call.answer(Err(timed_out(sent, why).with_may_have_been_applied(applied)));
        }
    }
}

/// Reads have no body. What has one changes something when it arrives.
fn changes_something<K, R>(call: &Call<K, R>) -> bool {
    !call.body.is_empty()
}

pub(crate) fn timed_out(sent: bool, why: Option<&Error>) -> Error {
    let error = |text| Error::new(ErrorKind::Timeout, text);
    match why {
        Some(why) => {
            error("the hub could not be reached within the time of the call").with_source(why.clone())
        }
        None if sent => error("the hub did not answer within the time of the call"),
        None => error("the call could not be sent within its time"),
    }
}

fn unknown_outcome(error: &Error) -> Error {
    error
        .clone()
        .context(
            "the connection was lost before the hub confirmed; it may or may not have acted, so look before \
             repeating the call",
        )
        .with_may_have_been_applied(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Answer = oneshot::Receiver<Result<u64>>;

    fn push(calls: &mut Calls<(), u64>, read: bool, deadline: Instant) -> Answer {
        let (reply, answer) = oneshot::channel();
        let body = Bytes::from_static(if read { b"" } else { b"{}" });
        calls.push(Call { kind: (), body, repeat: read, reply, _permit: None }, deadline);
        answer
    }

    fn started(calls: &mut Calls<(), u64>) -> Vec<u64> {
        std::iter::from_fn(|| calls.start_next().map(|(id, _)| id)).collect()
    }

    #[test]
    fn reads_are_repeated_in_order_and_reports_say_that_they_may_be_applied() {
        let mut calls = Calls::default();
        let at = Instant::now() + Duration::from_secs(60);
        let mut answers: Vec<_> = [true, false, true].map(|read| push(&mut calls, read, at)).into();
        assert_eq!(started(&mut calls), [0, 1, 2]);
        let mut late = push(&mut calls, false, at);
        calls.lost(&Error::new(ErrorKind::Unavailable, "cut"));
        let error = answers[1].try_recv().unwrap().unwrap_err();
        assert!(error.may_have_been_applied());
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(started(&mut calls), [0, 2, 3]);
        assert!(late.try_recv().is_err(), "a report that was not sent waits");
        calls.finish(3).unwrap().answer(Ok(7));
        assert_eq!(late.try_recv().unwrap().unwrap(), 7);
    }

    #[test]
    fn deadlines_say_whether_the_call_was_sent() {
        let mut calls = Calls::default();
        let now = Instant::now();
        let (first, second) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut sent = push(&mut calls, false, second);
        assert_eq!(started(&mut calls), [0]);
        let mut unsent = push(&mut calls, false, first);
        assert_eq!(calls.next_deadline(), Some(first));
        calls.expire(first, None);
        assert!(!unsent.try_recv().unwrap().unwrap_err().may_have_been_applied());
        assert!(sent.try_recv().is_err());
        calls.expire(second, None);
        let error = sent.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.may_have_been_applied());
        assert_eq!((calls.in_flight(), calls.next_deadline()), (0, None));
        assert!(calls.finish(0).is_none(), "a late answer is for nobody");
    }

    #[test]
    fn deadlines_of_finished_calls_do_not_pile_up() {
        let mut calls = Calls::default();
        let at = Instant::now() + Duration::from_secs(60);
        for _ in 0..10 * SPARE_DEADLINES {
            let _answer = push(&mut calls, false, at);
            let (id, _) = calls.start_next().unwrap();
            calls.finish(id).unwrap();
        }
        assert!(calls.deadlines.len() <= SPARE_DEADLINES + 2);
        assert_eq!(calls.next_deadline(), None);
    }

    #[test]
    fn calls_nobody_waits_for_are_not_sent() {
        let mut calls = Calls::default();
        let at = Instant::now() + Duration::from_secs(60);
        drop(push(&mut calls, false, at));
        let _kept = push(&mut calls, false, at);
        assert_eq!(started(&mut calls), [1]);
    }
}
