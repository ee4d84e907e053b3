//! Which member has something to do next, without looking at all of them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{command::Key, member::Member};

/// Whoever cannot do what is due is not asked again before this.
const NOT_SOONER: Duration = Duration::from_millis(1);

/// A member may be in here several times; only its latest time counts.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Key)>>);

impl Timers {
    /// Sees to it that the member is called in time.
    pub(super) fn schedule(&mut self, key: Key, member: &mut Member) {
        let Some(at) = member.next_deadline() else { return };
        // What is due already was just looked at. Were it due at once again, the task would do nothing else.
        let at = at.max(Instant::now() + NOT_SOONER);
        if member.scheduled.is_none_or(|scheduled| at < scheduled) {
            member.scheduled = Some(at);
            self.0.push(Reverse((at, key)));
        }
    }

    /// When the next member is due, or may be.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// A member whose time has come.
    pub(super) fn pop(&mut self, now: Instant, members: &mut HashMap<Key, Member>) -> Option<Key> {
        while self.next().is_some_and(|at| at <= now) {
            let Reverse((at, key)) = self.0.pop()?;
            if let Some(member) = members.get_mut(&key).filter(|m| m.scheduled == Some(at)) {
                member.scheduled = None;
                return Some(key);
            }
        }
        None
    }
}
