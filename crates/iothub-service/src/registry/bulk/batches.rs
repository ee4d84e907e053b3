//! Which items go into one call. No I/O here.

use std::collections::{HashMap, VecDeque};

use super::BulkItem;

/// The most items in one call (rest.md 3.5).
const LARGEST: usize = 100;
/// How many items may wait because an item before them is about the same device. Beyond that the input is not read on.
const MOST_WAITING: usize = 10_000;

/// Takes items from an iterator and puts them into batches, each of which can be sent at any time:
///
/// - no batch has a device twice, not even for two of its modules: the hub refuses such a call (rest.md 2.3, 400011);
/// - items about the same identity are carried out one after the other, in the order of the input; a device counts as
///   the same identity as its modules.
pub(super) struct Batches<I> {
    source: I,
    taken: usize,
    waiting: VecDeque<Numbered>,
    under_way: Touched,
}

/// An item with its place in the input.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) index: usize,
    pub(super) item: BulkItem,
}

impl<I: Iterator<Item = BulkItem>> Batches<I> {
    pub(super) fn new(source: I) -> Self {
        Self { source, taken: 0, waiting: VecDeque::new(), under_way: Touched::default() }
    }

    /// The next batch, or `None` when there is none now: at the end of the input, or until [`Batches::done`].
    pub(super) fn next(&mut self) -> Option<Vec<Numbered>> {
        let mut batch = Vec::new();
        let mut in_batch = Touched::default();
        let mut left_behind = Touched::default();
        let mut waiting = std::mem::take(&mut self.waiting);
        while batch.len() < LARGEST {
            let next = match waiting.pop_front() {
                Some(waiting) => waiting,
                None if self.waiting.len() >= MOST_WAITING => break,
                None => match self.take() {
                    Some(item) => item,
                    None => break,
                },
            };
            let must_wait = in_batch.has_device(&next.item)
                || self.under_way.collides(&next.item)
                || left_behind.collides(&next.item);
            if must_wait {
                left_behind.add(&next.item);
                self.waiting.push_back(next);
            } else {
                in_batch.add(&next.item);
                batch.push(next);
            }
        }
        self.waiting.append(&mut waiting);
        batch.iter().for_each(|numbered| self.under_way.add(&numbered.item));
        (!batch.is_empty()).then_some(batch)
    }

    /// Tells that a batch was carried out, or failed.
    pub(super) fn done<'a>(&mut self, items: impl IntoIterator<Item = &'a BulkItem>) {
        items.into_iter().for_each(|item| self.under_way.remove(item));
    }

    fn take(&mut self) -> Option<Numbered> {
        let item = self.source.next()?;
        let index = self.taken;
        self.taken += 1;
        Some(Numbered { index, item })
    }
}

/// Identities by device: the device itself is `None`, else the module.
#[derive(Default)]
struct Touched(HashMap<String, Vec<Option<String>>>);

impl Touched {
    fn add(&mut self, item: &BulkItem) {
        self.0.entry(item.device_id.clone()).or_default().push(item.module_id.clone());
    }

    fn remove(&mut self, item: &BulkItem) {
        if let Some(identities) = self.0.get_mut(&item.device_id) {
            if let Some(place) = identities.iter().position(|module_id| *module_id == item.module_id) {
                identities.swap_remove(place);
            }
            if identities.is_empty() {
                self.0.remove(&item.device_id);
            }
        }
    }

    fn has_device(&self, item: &BulkItem) -> bool {
        self.0.contains_key(&item.device_id)
    }

    fn collides(&self, item: &BulkItem) -> bool {
        let Some(identities) = self.0.get(&item.device_id) else { return false };
        item.module_id.is_none()
            || identities.iter().any(|module_id| module_id.is_none() || *module_id == item.module_id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device(id: &str) -> BulkItem {
        BulkItem::create_device(id)
    }

    fn module(device_id: &str, id: &str) -> BulkItem {
        BulkItem::add_module(device_id, id)
    }

    fn batches(items: Vec<BulkItem>) -> Batches<std::vec::IntoIter<BulkItem>> {
        Batches::new(items.into_iter())
    }

    fn numbers(batch: Option<&Vec<Numbered>>) -> Vec<usize> {
        batch.into_iter().flatten().map(|numbered| numbered.index).collect()
    }

    fn done(batches: &mut Batches<std::vec::IntoIter<BulkItem>>, batch: Option<Vec<Numbered>>) {
        batches.done(batch.iter().flatten().map(|numbered| &numbered.item));
    }

    #[test]
    fn a_batch_has_a_hundred_items() {
        let mut batches = batches((0..250).map(|n| device(&format!("d{n}"))).collect());
        let sizes: Vec<_> = std::iter::from_fn(|| batches.next()).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }

    #[test]
    fn no_input_is_no_batch() {
        assert!(batches(vec![]).next().is_none());
    }

    #[test]
    fn modules_of_one_device_go_into_different_calls_that_may_run_at_once() {
        let mut batches =
            batches(vec![module("a", "m1"), module("a", "m2"), module("b", "m1"), module("a", "m3")]);
        assert_eq!(numbers(batches.next().as_ref()), [0, 2]);
        assert_eq!(numbers(batches.next().as_ref()), [1]);
        assert_eq!(numbers(batches.next().as_ref()), [3]);
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_module_waits_for_its_device_and_a_device_for_its_modules() {
        let mut batches = batches(vec![
            device("a"),
            module("a", "m"),
            device("b"),
            BulkItem::delete_device("a"),
            module("b", "m"),
        ]);
        let first = batches.next();
        assert_eq!(numbers(first.as_ref()), [0, 2]);
        assert!(batches.next().is_none());
        done(&mut batches, first);
        let second = batches.next();
        // The deletion must not overtake the module before it.
        assert_eq!(numbers(second.as_ref()), [1, 4]);
        assert!(batches.next().is_none());
        done(&mut batches, second);
        assert_eq!(numbers(batches.next().as_ref()), [3]);
    }

    #[test]
    fn the_same_identity_again_waits_for_the_first() {
        let mut batches = batches(vec![device("a"), device("a"), module("b", "m"), module("b", "m")]);
        let first = batches.next();
        assert_eq!(numbers(first.as_ref()), [0, 2]);
        assert!(batches.next().is_none());
        done(&mut batches, first);
        assert_eq!(numbers(batches.next().as_ref()), [1, 3]);
    }

    #[test]
    fn ids_that_differ_in_case_are_different() {
        let mut batches = batches(vec![device("a"), device("A")]);
        assert_eq!(numbers(batches.next().as_ref()), [0, 1]);
    }

    #[test]
    fn input_without_end_is_not_read_to_its_end() {
        // All of one device: the first goes out, the others wait.
        let endless = std::iter::repeat_with(|| device("a"));
        let mut batches = Batches::new(endless);
        assert_eq!(batches.next().unwrap().len(), 1);
        assert!(batches.next().is_none());
        assert_eq!(batches.waiting.len(), MOST_WAITING);
    }

    #[test]
    fn every_item_comes_once() {
        // 40 devices with 50 modules each, all modules of a device in a row.
        let items: Vec<_> =
            (0..2000).map(|n| module(&format!("d{}", n / 50), &format!("m{}", n % 50))).collect();
        let mut batches = batches(items);
        let mut seen: Vec<_> = std::iter::from_fn(|| {
            let batch = batches.next()?;
            let mut devices: Vec<_> = batch.iter().map(|numbered| numbered.item.device_id.clone()).collect();
            devices.sort_unstable();
            devices.dedup();
            assert_eq!(devices.len(), batch.len(), "a device twice in one call");
            Some(numbers(Some(&batch)))
        })
        .flatten()
        .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
    }
}
