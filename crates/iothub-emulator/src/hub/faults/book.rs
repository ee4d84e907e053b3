//! The rules in force, and which of them hits.

use std::time::SystemTime;

use iothub_common::Identity;

use super::random::Random;
use super::rule::{Effect, Portion, Rule};

/// The rules of a hub, in the order they were made.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: Vec<Entry>,
    random: Random,
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    until: Option<SystemTime>,
    occasions: u64,
    hits: u64,
}

impl Book {
    pub(super) fn add(&mut self, rule: Rule, now: SystemTime) {
        // Beyond what the clock can show is for ever.
        let until = rule.lasting.and_then(|lasting| now.checked_add(lasting));
        self.entries.push(Entry { rule, until, occasions: 0, hits: 0 });
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn remove(&mut self, unwanted: impl Fn(&Effect) -> bool) {
        self.entries.retain(|entry| !unwanted(&entry.rule.effect));
    }

    /// An occasion for the effects that `pick` picks: what the first rule that hits makes of it, and its name.
    pub(super) fn occasion<T>(
        &mut self,
        identity: Option<&Identity>,
        now: SystemTime,
        pick: impl Fn(&Effect) -> Option<T>,
    ) -> Option<(T, &'static str)> {
        self.entries.retain(|entry| entry.until.is_none_or(|until| now < until));
        let random = &mut self.random;
        for at in 0..self.entries.len() {
            let entry = &mut self.entries[at];
            if entry.rule.identity.is_some() && entry.rule.identity.as_ref() != identity {
                continue;
            }
            let Some(picked) = pick(&entry.rule.effect) else { continue };
            if !entry.hit(random) {
                continue;
            }
            let name = entry.rule.effect.name();
            if entry.rule.times.is_some_and(|times| entry.hits >= times) {
                self.entries.remove(at);
            }
            return Some((picked, name));
        }
        None
    }
}

impl Entry {
    fn hit(&mut self, random: &mut Random) -> bool {
        if self.rule.times == Some(0) {
            return false;
        }
        self.occasions += 1;
        let hit = match self.rule.portion {
            Portion::Fraction(fraction) => random.fraction() < fraction,
            Portion::EveryNth(nth) => nth != 0 && self.occasions.is_multiple_of(nth),
        };
        self.hits += u64::from(hit);
        hit
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn hits(book: &mut Book, identity: Option<&Identity>, occasions: usize) -> Vec<bool> {
        let swallow = |effect: &Effect| (*effect == Effect::SwallowTwinReplies).then_some(());
        (0..occasions).map(|_| book.occasion(identity, NOW, swallow).is_some()).collect()
    }

    #[test]
    fn a_rule_is_for_those_it_names_and_ends_after_its_count() {
        let (one, other) = (Identity::device("one").unwrap(), Identity::device("other").unwrap());
        let mut book = Book::default();
        book.add(Rule::new(Effect::SwallowTwinReplies).only_for(one.clone()).times(2), NOW);
        assert_eq!(hits(&mut book, Some(&other), 2), [false, false]);
        assert_eq!(hits(&mut book, None, 1), [false], "nobody known is not the one");
        assert_eq!(hits(&mut book, Some(&one), 3), [true, true, false]);
        assert!(book.entries.is_empty());
    }

    #[test]
    fn the_first_rule_that_hits_decides() {
        let mut book = Book::default();
        let delay = |seconds| Effect::DelayTwinReplies(Duration::from_secs(seconds));
        book.add(Rule::new(delay(1)).portion(Portion::EveryNth(2)), NOW);
        book.add(Rule::new(delay(2)).times(0), NOW);
        book.add(Rule::new(delay(3)), NOW);
        let mut delays = || {
            let hit = book.occasion(None, NOW, |effect| match effect {
                Effect::DelayTwinReplies(by) => Some(by.as_secs()),
                _ => None,
            });
            hit.unwrap()
        };
        assert_eq!([delays(), delays()], [(3, "delayTwinReplies"), (1, "delayTwinReplies")]);
    }

    #[test]
    fn a_rule_ends_with_its_time() {
        let mut book = Book::default();
        let swallow = || Rule::new(Effect::SwallowTwinReplies);
        book.add(swallow().lasting(Duration::ZERO), NOW);
        assert_eq!(hits(&mut book, None, 1), [false]);
        book.add(swallow().lasting(Duration::MAX), NOW);
        assert_eq!(hits(&mut book, None, 1), [true]);
    }
}
