#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use iothub_common::{Error, ErrorKind, Result};
use proptest::prelude::*;
use tokio::{sync::oneshot, time::Instant};

use super::{
    MemoryStore, MessageStore, WhenFull,
    limits::Limits,
    turn::{Done, Push, Read, Turn},
};

const LIMITS: Limits = Limits { messages: 3, bytes: 100 };

type Answers = Vec<oneshot::Receiver<Result<()>>>;

/// Messages of these sizes, each filled with its size.
fn turn(when_full: WhenFull, limits: Limits, sizes: &[u8]) -> (Turn, Answers) {
    let push = |size: &u8| {
        let (reply, answer) = oneshot::channel();
        let bytes = Bytes::from(vec![*size; usize::from(*size)]);
        (Push { bytes, deadline: Instant::now(), reply }, answer)
    };
    let (pushes, answers) = sizes.iter().map(push).unzip();
    (Turn { limits, when_full, remove: Vec::new(), pushes, read: None }, answers)
}

/// Pushes, and what was answered to each: whether it is stored, or nothing yet.
fn push(store: &mut MemoryStore, when_full: WhenFull, sizes: &[u8]) -> (Done, Vec<Option<bool>>) {
    let (turn, answers) = turn(when_full, LIMITS, sizes);
    let done = told(turn.run(store));
    let answers = answers.into_iter().map(|mut answer| answer.try_recv().ok().map(|a| a.is_ok())).collect();
    (done, answers)
}

/// Tells the pushes how they ended.
fn told(mut done: Done) -> Done {
    done.ended.drain(..).for_each(|(push, result)| push.answer(result));
    done
}

fn sizes(store: &MemoryStore) -> Vec<usize> {
    store.read(0, usize::MAX).unwrap().iter().map(|(_, message)| message.len()).collect()
}

#[test]
fn waiting_keeps_the_order_and_goes_on_when_there_is_room() {
    let mut store = MemoryStore::new();
    let (done, answers) = push(&mut store, WhenFull::Wait, &[60, 50, 1]);
    assert_eq!(answers, [Some(true), None, None], "1 would fit and does not pass 50");
    let waiting: Vec<_> = done.blocked.iter().map(|push| push.bytes.len()).collect();
    assert_eq!(waiting, [50, 1]);
    assert_eq!((done.pushed, done.dropped.len(), done.turned_away), (1, 0, 0));
    let (limits, when_full) = (LIMITS, WhenFull::Wait);
    let read = Some(Read { from: 0, max: 10 });
    let done = Turn { limits, when_full, remove: vec![0], pushes: done.blocked, read }.run(&mut store);
    assert_eq!((done.removed, done.pushed, done.end), (vec![0], 2, 3));
    assert_eq!((done.load.messages, done.load.bytes), (2, 51));
    let read: Vec<_> = done.read.unwrap().1.into_iter().map(|(position, m)| (position, m.len())).collect();
    assert_eq!(read, [(1, 50), (2, 1)], "what is pushed in a turn is read in it");
}

#[test]
fn the_newest_are_turned_away_and_told() {
    let mut store = MemoryStore::new();
    let (done, answers) = push(&mut store, WhenFull::DropNewest, &[60, 50, 30, 20, 10]);
    assert_eq!(answers, [true, false, true, false, true].map(Some));
    assert_eq!((done.pushed, done.turned_away), (3, 2));
    assert_eq!(sizes(&store), [60, 30, 10]);
    let (turn, mut answers) = turn(WhenFull::DropNewest, LIMITS, &[1]);
    told(turn.run(&mut store));
    assert_eq!(answers[0].try_recv().unwrap().unwrap_err().kind(), ErrorKind::QuotaExceeded);
}

#[test]
fn the_oldest_make_room_even_among_those_that_come_together() {
    let mut store = MemoryStore::new();
    let (done, _) = push(&mut store, WhenFull::DropOldest, &[30, 30, 30]);
    assert!(done.dropped.is_empty());
    let (done, answers) = push(&mut store, WhenFull::DropOldest, &[5]);
    assert_eq!((answers, done.dropped), (vec![Some(true)], vec![0]));
    let (done, _) = push(&mut store, WhenFull::DropOldest, &[90]);
    assert_eq!(done.dropped, [1, 2], "for bytes, not for their number");
    assert_eq!(sizes(&store), [5, 90]);
    let (done, answers) = push(&mut store, WhenFull::DropOldest, &[50, 40, 30, 20, 10]);
    assert_eq!(answers, [Some(true); 5]);
    assert_eq!(sizes(&store), [30, 20, 10]);
    assert_eq!((done.pushed, done.turned_away, done.dropped.len()), (5, 2, 2));
}

proptest! {
    #[test]
    fn the_bounds_hold_and_every_message_is_accounted_for(
        when_full in prop::sample::select(vec![WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest]),
        turns in prop::collection::vec(prop::collection::vec(0_u8..=100, 0..6), 0..12),
    ) {
        let mut store = MemoryStore::new();
        let (mut pushed, mut given_up, mut waiting) = (0, 0, 0);
        for sizes in &turns {
            let (done, answers) = push(&mut store, when_full, sizes);
            prop_assert!(done.load.messages <= LIMITS.messages && done.load.bytes <= LIMITS.bytes);
            prop_assert_eq!(done.load.messages, store.len());
            pushed += sizes.len();
            given_up += usize::try_from(done.turned_away).unwrap() + done.dropped.len();
            waiting += done.blocked.len();
            let unanswered = answers.iter().filter(|answer| answer.is_none()).count();
            prop_assert_eq!(unanswered, done.blocked.len());
        }
        prop_assert_eq!(pushed, store.len() + given_up + waiting);
        prop_assert!(when_full == WhenFull::Wait || waiting == 0);
        prop_assert!(when_full != WhenFull::Wait || given_up == 0);
    }
}

/// A store of which nothing works.
struct Broken;

fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "the disk is full")
}

impl MessageStore for Broken {
    fn push(&mut self, _: &[Bytes]) -> Result<()> {
        Err(broken())
    }

    fn read(&self, _: u64, _: usize) -> Result<Vec<(u64, Bytes)>> {
        Err(broken())
    }

    fn remove(&mut self, _: &[u64]) -> Result<()> {
        Err(broken())
    }

    fn end(&self) -> u64 {
        9
    }

    fn len(&self) -> usize {
        9
    }

    fn bytes(&self) -> u64 {
        90
    }
}

#[test]
fn a_broken_store_is_told_to_those_who_push_and_kept_for_the_others() {
    for when_full in [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest] {
        let (mut turn, mut answers) = turn(when_full, Limits { messages: 10, bytes: 100 }, &[1]);
        turn.remove = vec![3];
        turn.read = Some(Read { from: 0, max: 1 });
        let done = told(turn.run(&mut Broken));
        assert_eq!(
            answers[0].try_recv().unwrap().unwrap_err().kind(),
            ErrorKind::Unavailable,
            "{when_full:?}"
        );
        assert!(done.trouble.is_some() && done.removed.is_empty() && done.read.is_none());
        assert_eq!(done.pushed, 0);
    }
    let (turn, mut answers) = turn(WhenFull::DropOldest, Limits { messages: 9, bytes: 100 }, &[1]);
    told(turn.run(&mut Broken));
    assert!(answers[0].try_recv().unwrap().is_err(), "no room could be made");
}
