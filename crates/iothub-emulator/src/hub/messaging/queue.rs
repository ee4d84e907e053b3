//! A queue whose readers lock what they take: cloud-to-device messages, feedback, file notifications
//! (amqp.md 3.5). Pure: the caller passes the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// How a queue behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Items at most, locked ones too.
    pub(super) capacity: usize,
    /// How long a reader has for an item.
    pub(super) lock: Duration,
    /// Deliveries of one item at most.
    pub(super) deliveries: u8,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    limits: Limits,
    /// In the order of sequence numbers.
    entries: VecDeque<Entry<T>>,
    /// When [`sweep`](Self::sweep) has something to do next.
    deadline: Option<SystemTime>,
}

#[derive(Debug)]
struct Entry<T> {
    item: Arc<T>,
    sequence: u64,
    enqueued_at: SystemTime,
    expires_at: SystemTime,
    /// Deliveries that the reader gave back.
    failures: u8,
    lock: Option<Lock>,
}

#[derive(Clone, Copy, Debug)]
struct Lock {
    token: Uuid,
    ends_at: SystemTime,
}

/// An item that a reader has now, until its lock ends.
#[derive(Debug)]
pub struct Locked<T> {
    /// What it is.
    pub item: Arc<T>,
    /// What settles it.
    pub lock: Uuid,
    /// Its place in the queue; rises, with gaps.
    pub sequence: u64,
    /// When it came.
    pub enqueued_at: SystemTime,
    /// When it ends by itself.
    pub expires_at: SystemTime,
    /// How often it was delivered before and given back.
    pub delivery_count: u8,
}

/// What a reader makes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Done.
    Complete,
    /// Not wanted, by anybody.
    Reject,
    /// To be delivered again; counts as a delivery.
    Abandon,
    /// As if it had not been delivered.
    Release,
}

/// How an item left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Success,
    Expired,
    DeliveryCountExceeded,
    Rejected,
    Purged,
}

impl End {
    /// As feedback says it (amqp.md 5.3).
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Expired => "Expired",
            Self::DeliveryCountExceeded => "DeliveryCountExceeded",
            Self::Rejected => "Rejected",
            Self::Purged => "Purged",
        }
    }
}

/// The queue has as many items as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Nothing has this lock, or has it any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockLost;

type Ended<T> = (Arc<T>, End);

impl<T> Queue<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, entries: VecDeque::new(), deadline: None }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a reader would get something.
    pub(super) fn is_ready(&self) -> bool {
        self.entries.iter().any(|entry| entry.lock.is_none())
    }

    /// `sequence` must be larger than all before.
    pub(super) fn push(
        &mut self,
        item: T,
        sequence: u64,
        now: SystemTime,
        expires_at: SystemTime,
    ) -> Result<(), Full> {
        if self.entries.len() >= self.limits.capacity {
            return Err(Full);
        }
        let item = Arc::new(item);
        self.entries.push_back(Entry {
            item,
            sequence,
            enqueued_at: now,
            expires_at,
            failures: 0,
            lock: None,
        });
        self.deadline = self.deadline.into_iter().chain([expires_at]).min();
        Ok(())
    }

    /// Drops the oldest item, locked or not.
    pub(super) fn drop_oldest(&mut self) {
        self.entries.pop_front();
        self.look_ahead();
    }

    /// Locks the oldest item that is not locked.
    pub(super) fn lock(&mut self, now: SystemTime) -> Option<Locked<T>> {
        let lock = Lock { token: Uuid::new_v4(), ends_at: now + self.limits.lock };
        let entry = self.entries.iter_mut().find(|entry| entry.lock.is_none())?;
        entry.lock = Some(lock);
        let locked = Locked {
            item: Arc::clone(&entry.item),
            lock: lock.token,
            sequence: entry.sequence,
            enqueued_at: entry.enqueued_at,
            expires_at: entry.expires_at,
            delivery_count: entry.failures,
        };
        self.look_ahead();
        Some(locked)
    }

    /// What left the queue with that, if anything.
    pub(super) fn settle(&mut self, lock: Uuid, verdict: Verdict) -> Result<Option<Ended<T>>, LockLost> {
        let settled = self.settle_one(lock, verdict);
        self.look_ahead();
        settled
    }

    fn settle_one(&mut self, lock: Uuid, verdict: Verdict) -> Result<Option<Ended<T>>, LockLost> {
        let has = |entry: &Entry<T>| entry.lock.is_some_and(|held| held.token == lock);
        let at = self.entries.iter().position(has).ok_or(LockLost)?;
        let entry = &mut self.entries[at];
        entry.lock = None;
        let end = match verdict {
            Verdict::Complete => End::Success,
            Verdict::Reject => End::Rejected,
            Verdict::Release => return Ok(None),
            Verdict::Abandon => {
                entry.failures = entry.failures.saturating_add(1);
                if entry.failures < self.limits.deliveries {
                    return Ok(None);
                }
                End::DeliveryCountExceeded
            }
        };
        Ok(self.entries.remove(at).map(|entry| (entry.item, end)))
    }

    /// Ends locks and items whose time is over. A locked item stays its reader's as long as the lock lasts.
    pub(super) fn sweep(&mut self, now: SystemTime) -> Vec<Ended<T>> {
        let mut expired = Vec::new();
        if self.deadline.is_none_or(|at| at > now) {
            return expired;
        }
        self.entries.retain_mut(|entry| {
            // Nobody said anything, so the delivery is not counted (amqp.md 3.5).
            entry.lock = entry.lock.filter(|lock| lock.ends_at > now);
            let keep = entry.lock.is_some() || entry.expires_at > now;
            if !keep {
                expired.push((Arc::clone(&entry.item), End::Expired));
            }
            keep
        });
        self.look_ahead();
        expired
    }

    /// When [`sweep`](Self::sweep) has something to do next.
    pub(super) fn deadline(&self) -> Option<SystemTime> {
        self.deadline
    }

    fn look_ahead(&mut self) {
        let end = |entry: &Entry<T>| entry.lock.map_or(entry.expires_at, |lock| lock.ends_at);
        self.deadline = self.entries.iter().map(end).min();
    }

    /// Empties the queue, of locked items too.
    pub(super) fn purge(&mut self) -> Vec<Ended<T>> {
        self.deadline = None;
        self.entries.drain(..).map(|entry| (entry.item, End::Purged)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { capacity: 3, lock: Duration::from_secs(60), deliveries: 2 };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Items 0, 1, … that came at time 0 and end at 1000, 1001, …
    fn queue(count: u64) -> Queue<u64> {
        let mut queue = Queue::new(LIMITS);
        (0..count).for_each(|n| queue.push(n, n, at(0), at(1000 + n)).unwrap());
        queue
    }

    fn items(ended: Vec<Ended<u64>>) -> Vec<(u64, End)> {
        ended.into_iter().map(|(item, end)| (*item, end)).collect()
    }

    #[test]
    fn it_has_room_for_so_many_locked_or_not() {
        let mut queue = queue(3);
        queue.lock(at(1)).unwrap();
        assert_eq!(queue.push(3, 3, at(1), at(9)), Err(Full));
        queue.drop_oldest();
        assert_eq!(queue.push(3, 3, at(1), at(9)), Ok(()));
        assert_eq!(queue.len(), 3);
    }

    #[test]
    fn readers_get_different_items_in_order() {
        let mut queue = queue(2);
        let first = queue.lock(at(1)).unwrap();
        let second = queue.lock(at(1)).unwrap();
        assert_eq!((*first.item, *second.item), (0, 1));
        assert_ne!(first.lock, second.lock);
        assert!(queue.lock(at(1)).is_none() && !queue.is_ready());
    }

    #[test]
    fn what_is_given_back_keeps_its_place_and_counts_when_abandoned() {
        let mut queue = queue(2);
        for (verdict, counted) in [(Verdict::Release, 0), (Verdict::Abandon, 1)] {
            let locked = queue.lock(at(1)).unwrap();
            assert!(queue.settle(locked.lock, verdict).unwrap().is_none());
            let again = queue.lock(at(1)).unwrap();
            assert_eq!((*again.item, again.delivery_count), (0, counted), "{verdict:?}");
            assert_ne!(again.lock, locked.lock);
            assert!(queue.settle(again.lock, Verdict::Release).unwrap().is_none());
        }
        // The second and last delivery.
        let locked = queue.lock(at(1)).unwrap();
        let (item, end) = queue.settle(locked.lock, Verdict::Abandon).unwrap().unwrap();
        assert_eq!((*item, end), (0, End::DeliveryCountExceeded));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_lock_is_good_once_and_for_its_time() {
        let mut queue = queue(1);
        let locked = queue.lock(at(100)).unwrap();
        assert!(queue.sweep(at(159)).is_empty());
        assert!(!queue.is_ready());
        assert!(queue.sweep(at(160)).is_empty());
        assert_eq!(queue.settle(locked.lock, Verdict::Complete).unwrap_err(), LockLost);
        let again = queue.lock(at(160)).unwrap();
        assert_eq!(again.delivery_count, 0, "a lock that ended is no delivery");
        assert_eq!(queue.settle(again.lock, Verdict::Complete).unwrap().unwrap().1, End::Success);
        assert_eq!(queue.settle(again.lock, Verdict::Complete).unwrap_err(), LockLost);
    }

    #[test]
    fn items_expire_unless_a_reader_has_them() {
        let mut queue = queue(3);
        let locked = queue.lock(at(999)).unwrap();
        assert_eq!(queue.deadline(), Some(at(1001)), "the second one, the first is locked until 1059");
        assert_eq!(items(queue.sweep(at(1001))), [(1, End::Expired)]);
        assert_eq!(items(queue.sweep(at(1058))), [(2, End::Expired)]);
        assert_eq!(queue.deadline(), Some(at(1059)));
        assert!(queue.settle(locked.lock, Verdict::Release).unwrap().is_none());
        assert_eq!(items(queue.sweep(at(1058))), [(0, End::Expired)]);
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn a_purge_takes_locked_items_too() {
        let mut queue = queue(2);
        let locked = queue.lock(at(1)).unwrap();
        assert_eq!(items(queue.purge()), [(0, End::Purged), (1, End::Purged)]);
        assert!(queue.is_empty());
        assert_eq!(queue.settle(locked.lock, Verdict::Complete).unwrap_err(), LockLost);
    }
}
