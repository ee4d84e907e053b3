//! Twin requests of the application: waiting, in flight, answered. Order is kept, deadlines hold.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

use bytes::Bytes;
use iothub_common::{Error, ErrorKind};
use tokio::time::Instant;

use super::command::{Reply, TwinOp};

/// A request and where its answer goes.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) op: TwinOp,
    pub(super) body: Bytes,
    pub(super) reply: Reply<(Bytes, u64)>,
}

impl Call {
    fn fail(self, error: Error) {
        // Nobody listens when the caller dropped its future.
        self.reply.send(Err(error)).ok();
    }
}

/// Requests by number; numbers rise in the order of the calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: u64,
    waiting: VecDeque<u64>,
    in_flight: BTreeSet<u64>,
    all: BTreeMap<u64, Call>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Calls {
    pub(super) fn push(&mut self, call: Call, deadline: Instant) {
        let id = self.next;
        self.next += 1;
        self.waiting.push_back(id);
        self.all.insert(id, call);
        self.deadlines.push(Reverse((deadline, id)));
    }

    /// Requests that have no answer yet.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next request to send. Those whose caller has gone are not sent any more.
    pub(super) fn start_next(&mut self) -> Option<(u64, &Call)> {
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
    pub(super) fn finish(&mut self, id: u64) -> Option<Call> {
        self.in_flight.remove(&id).then(|| self.all.remove(&id)).flatten()
    }

    /// The links are gone: reads are made again, reports may or may not have been applied.
    pub(super) fn lost(&mut self, error: &Error) {
        for id in std::mem::take(&mut self.in_flight).into_iter().rev() {
            match self.all.get(&id).map(|call| call.op) {
                Some(TwinOp::Get) => self.waiting.push_front(id),
                Some(TwinOp::Report) => {
                    if let Some(call) = self.all.remove(&id) {
                        call.fail(lost_report(error));
                    }
                }
                None => {}
            }
        }
    }

    /// The client is closed.
    pub(super) fn fail_all(&mut self, error: &Error) {
        for (id, call) in std::mem::take(&mut self.all) {
            let sent = self.in_flight.contains(&id) && call.op == TwinOp::Report;
            call.fail(error.clone().with_may_have_been_applied(sent));
        }
        *self = Self { next: self.next, ..Self::default() };
    }

    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, id))) = self.deadlines.peek() {
            if self.all.contains_key(id) {
                return Some(*deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Ends the calls whose time is up. `why` is what stands in the way of being connected.
    pub(super) fn expire(&mut self, now: Instant, why: Option<&Error>) {
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= now) {
            let Some(Reverse((at, id))) = self.deadlines.pop() else { return };
            debug_assert_eq!(at, deadline);
            let Some(call) = self.all.remove(&id) else { continue };
            let sent = self.in_flight.remove(&id);
            let report = call.op == TwinOp::Report;
            call.fail(timed_out(sent, why).with_may_have_been_applied(sent && report));
        }
    }
}

pub(super) fn timed_out(sent: bool, why: Option<&Error>) -> Error {
    match why {
        Some(error) => {
            Error::new(ErrorKind::Timeout, "the hub could not be reached within the time of the call")
                .with_source(error.clone())
        }
        None if sent => Error::new(ErrorKind::Timeout, "the hub did not answer within the time of the call"),
        None => Error::new(ErrorKind::Timeout, "the call could not be sent within its time"),
    }
}

fn lost_report(error: &Error) -> Error {
    error
        .clone()
        .context("the connection was lost before the hub confirmed the report; read the twin to see whether it was applied")
        .with_may_have_been_applied(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use iothub_common::Result;
    use tokio::sync::oneshot;

    use super::*;

    type Answer = oneshot::Receiver<Result<(Bytes, u64)>>;

    fn push(calls: &mut Calls, op: TwinOp, deadline: Instant) -> Answer {
        let (reply, answer) = oneshot::channel();
        calls.push(Call { op, body: Bytes::new(), reply }, deadline);
        answer
    }

    fn started(calls: &mut Calls) -> Vec<u64> {
        std::iter::from_fn(|| calls.start_next().map(|(id, _)| id)).collect()
    }

    #[test]
    fn reads_are_repeated_in_order_and_reports_say_that_they_may_be_applied() {
        let mut calls = Calls::default();
        let at = Instant::now() + Duration::from_secs(60);
        let mut answers: Vec<_> =
            [TwinOp::Get, TwinOp::Report, TwinOp::Get].map(|op| push(&mut calls, op, at)).into();
        assert_eq!(started(&mut calls), [0, 1, 2]);
        let mut late = push(&mut calls, TwinOp::Report, at);
        calls.lost(&Error::new(ErrorKind::Unavailable, "cut"));
        let error = answers[1].try_recv().unwrap().unwrap_err();
        assert!(error.may_have_been_applied());
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(started(&mut calls), [0, 2, 3]);
        assert!(late.try_recv().is_err(), "a report that was not sent waits");
        calls.finish(3).unwrap().reply.send(Ok((Bytes::new(), 7))).unwrap();
        assert_eq!(late.try_recv().unwrap().unwrap().1, 7);
    }

    #[test]
    fn deadlines_say_whether_the_call_was_sent() {
        let mut calls = Calls::default();
        let now = Instant::now();
        let (first, second) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut sent = push(&mut calls, TwinOp::Report, second);
        assert_eq!(started(&mut calls), [0]);
        let mut unsent = push(&mut calls, TwinOp::Report, first);
        assert_eq!(calls.next_deadline(), Some(first));
        calls.expire(first, None);
        assert!(!unsent.try_recv().unwrap().unwrap_err().may_have_been_applied());
        assert!(sent.try_recv().is_err());
        calls.expire(second, None);
        let error = sent.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.may_have_been_applied());
        assert_eq!((calls.len(), calls.next_deadline()), (0, None));
        assert!(calls.finish(0).is_none(), "a late answer is for nobody");
    }

    #[test]
    fn calls_nobody_waits_for_are_not_sent() {
        let mut calls = Calls::default();
        let at = Instant::now() + Duration::from_secs(60);
        drop(push(&mut calls, TwinOp::Report, at));
        let _kept = push(&mut calls, TwinOp::Report, at);
        assert_eq!(started(&mut calls), [1]);
    }
}
