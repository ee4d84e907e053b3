//! What a buffer does with its store in one go, where it may block: what is settled goes, what is new comes, what is
//! to be sent is read. Pushes that come while a turn runs share the next one.

use std::collections::VecDeque;

use bytes::Bytes;
use iothub_common::{Error, Result};
use tokio::{sync::oneshot, time::Instant};

use super::{
    limits::{Limits, Load, WhenFull},
    store::MessageStore,
};

/// Messages looked at in one go to make room.
const ROOM_STEP: usize = 64;

/// A message that comes, and who is told that it is there.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) bytes: Bytes,
    /// When to stop waiting for room.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

impl Push {
    pub(super) fn answer(self, answer: Result<()>) {
        // Nobody listens when the caller dropped its future.
        self.reply.send(answer).ok();
    }
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) limits: Limits,
    pub(super) when_full: WhenFull,
    pub(super) remove: Vec<u64>,
    pub(super) pushes: VecDeque<Push>,
    pub(super) read: Option<Read>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) from: u64,
    pub(super) max: usize,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// Pushes, and how they ended. They are told once all of this is known to the buffer.
    pub(super) ended: Vec<(Push, Result<()>)>,
    /// What was to be removed, and is.
    pub(super) removed: Vec<u64>,
    /// Pushes that wait for room, the first ones first.
    pub(super) blocked: VecDeque<Push>,
    pub(super) pushed: u64,
    /// Messages that made room.
    pub(super) dropped: Vec<u64>,
    /// Messages that found none.
    pub(super) turned_away: u64,
    pub(super) read: Option<(Read, Vec<(u64, Bytes)>)>,
    /// What went wrong with the store, other than with pushes: those know it.
    pub(super) trouble: Option<Error>,
    pub(super) load: Load,
    pub(super) end: u64,
}

impl Turn {
    pub(super) fn run(self, store: &mut dyn MessageStore) -> Done {
        let mut done = Done {
            ended: Vec::new(),
            removed: Vec::new(),
            blocked: VecDeque::new(),
            pushed: 0,
            dropped: Vec::new(),
            turned_away: 0,
            read: None,
            trouble: None,
            load: Load::default(),
            end: 0,
        };
        if !self.remove.is_empty() {
            match store.remove(&self.remove) {
                Ok(()) => done.removed = self.remove,
                Err(error) => done.trouble = Some(error),
            }
        }
        if !self.pushes.is_empty() {
            match self.when_full {
                WhenFull::Wait => wait_for_room(store, self.limits, self.pushes, &mut done),
                WhenFull::DropNewest => drop_newest(store, self.limits, self.pushes, &mut done),
                WhenFull::DropOldest => drop_oldest(store, self.limits, self.pushes, &mut done),
            }
        }
        if let Some(read) = self.read {
            match store.read(read.from, read.max) {
                Ok(found) => done.read = Some((read, found)),
                Err(error) => done.trouble = Some(error),
            }
        }
        (done.load, done.end) = (load(store), store.end());
        done
    }
}

/// In order: who comes later does not pass who waits.
fn wait_for_room(store: &mut dyn MessageStore, limits: Limits, mut pushes: VecDeque<Push>, done: &mut Done) {
    let mut after = load(store);
    let fits = |push: &Push| {
        after.add(push.bytes.len());
        after.fits(limits)
    };
    let taken = pushes.iter().map(fits).take_while(|fits| *fits).count();
    done.blocked = pushes.split_off(taken);
    append(store, pushes, done);
}

fn drop_newest(store: &mut dyn MessageStore, limits: Limits, pushes: VecDeque<Push>, done: &mut Done) {
    let mut after = load(store);
    let mut taken = VecDeque::new();
    for push in pushes {
        let with = after.with(push.bytes.len());
        if with.fits(limits) {
            after = with;
            taken.push_back(push);
        } else {
            done.turned_away += 1;
            done.ended.push((push, Err(limits.full())));
        }
    }
    append(store, taken, done);
}

fn drop_oldest(store: &mut dyn MessageStore, limits: Limits, mut pushes: VecDeque<Push>, done: &mut Done) {
    // Of more than there is ever room for only the last ones stay. The others are the oldest in their turn.
    let mut load = Load::default();
    let fits = |push: &Push| {
        load.add(push.bytes.len());
        load.fits(limits)
    };
    let stay = pushes.iter().rev().map(fits).take_while(|fits| *fits).count();
    let early: Vec<_> = pushes.drain(..pushes.len() - stay).collect();
    let mut room = Load::default();
    pushes.iter().for_each(|push| room.add(push.bytes.len()));
    if let Err(error) = make_room(store, room, limits, &mut done.dropped) {
        return done.ended.extend(early.into_iter().chain(pushes).map(|push| (push, Err(error.clone()))));
    }
    done.pushed += early.len() as u64;
    done.turned_away += early.len() as u64;
    done.ended.extend(early.into_iter().map(|push| (push, Ok(()))));
    append(store, pushes, done);
}

/// Removes the oldest messages until `room` fits.
fn make_room(store: &mut dyn MessageStore, room: Load, limits: Limits, dropped: &mut Vec<u64>) -> Result<()> {
    let with_room = |l: Load| Load { messages: l.messages + room.messages, bytes: l.bytes + room.bytes };
    loop {
        let mut after = with_room(load(store));
        if after.fits(limits) {
            return Ok(());
        }
        let oldest = store.read(0, ROOM_STEP)?;
        let mut go = Vec::new();
        for (position, message) in oldest {
            if after.fits(limits) {
                break;
            }
            after.messages -= 1;
            after.bytes -= message.len() as u64;
            go.push(position);
        }
        if go.is_empty() {
            // A store that says it has messages and shows none.
            return Ok(());
        }
        store.remove(&go)?;
        dropped.extend(go);
    }
}

fn append(store: &mut dyn MessageStore, pushes: VecDeque<Push>, done: &mut Done) {
    if pushes.is_empty() {
        return;
    }
    let messages: Vec<_> = pushes.iter().map(|push| push.bytes.clone()).collect();
    let result = store.push(&messages);
    if result.is_ok() {
        done.pushed += messages.len() as u64;
    }
    done.ended.extend(pushes.into_iter().map(|push| (push, result.clone())));
}

fn load(store: &dyn MessageStore) -> Load {
    Load { messages: store.len(), bytes: store.bytes() }
}
