#![allow(clippy::unwrap_used)]

use std::{collections::VecDeque, task::Waker};

use serde_json::{Map, Value, json};

use super::*;

fn properties(value: &Value) -> Properties {
    Properties::from_slice(value.to_string().as_bytes()).unwrap()
}

fn patch(version: u64) -> Properties {
    properties(&json!({ "n": version, "$version": version }))
}

fn take(queue: &Queue) -> Vec<DesiredUpdate> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut items = Vec::new();
    while let Poll::Ready(Some((item, _))) = queue.poll_next(&mut cx) {
        items.push(item);
    }
    items
}

fn kinds(queue: &Queue) -> Vec<(char, u64)> {
    let kind = |item: DesiredUpdate| match item {
        DesiredUpdate::Snapshot(p) => ('S', p.version()),
        DesiredUpdate::Patch(p) => ('P', p.version()),
    };
    take(queue).into_iter().map(kind).collect()
}

#[test]
fn the_first_item_is_the_state_and_older_notifications_are_dropped() {
    let mut tracker = Tracker::default();
    let queue = tracker.subscribe();
    assert!(tracker.wants_read());
    assert!(!tracker.wants_read(), "one read at a time");
    tracker.on_patch(patch(4));
    tracker.on_patch(patch(5));
    tracker.on_patch(patch(6));
    tracker.on_read(&patch(5));
    assert_eq!(kinds(&queue), [('S', 5), ('P', 6)]);
    tracker.on_patch(patch(6));
    tracker.on_patch(patch(7));
    assert_eq!(kinds(&queue), [('P', 7)]);
}

#[test]
fn a_gap_is_filled_by_a_snapshot() {
    let mut tracker = Tracker::default();
    let queue = tracker.subscribe();
    assert!(tracker.wants_read());
    tracker.on_read(&patch(1));
    tracker.on_patch(patch(4));
    assert!(tracker.wants_read());
    tracker.on_read(&patch(4));
    assert_eq!(kinds(&queue), [('S', 4)], "the first snapshot was not read yet and is contained");
}

#[test]
fn after_a_loss_only_a_moved_version_is_told() {
    let mut tracker = Tracker::default();
    let queue = tracker.subscribe();
    assert!(tracker.wants_read());
    tracker.on_read(&patch(3));
    assert_eq!(kinds(&queue), [('S', 3)]);
    tracker.lost();
    assert!(tracker.wants_read());
    tracker.on_read(&patch(3));
    assert_eq!(kinds(&queue), []);
    tracker.lost();
    assert!(tracker.wants_read());
    tracker.on_read(&patch(9));
    assert_eq!(kinds(&queue), [('S', 9)]);
}

#[test]
fn a_slow_reader_gets_one_snapshot_and_others_are_not_disturbed() {
    let mut tracker = Tracker::default();
    let (slow, quick) = (tracker.subscribe(), tracker.subscribe());
    assert!(tracker.wants_read());
    tracker.on_read(&patch(1));
    let mut seen = kinds(&quick);
    let mut version = 1;
    while !tracker.wants_read() {
        version += 1;
        tracker.on_patch(patch(version));
        seen.extend(kinds(&quick));
    }
    tracker.on_read(&patch(version));
    seen.extend(kinds(&quick));
    assert_eq!(kinds(&slow), [('S', version)]);
    let patches = (2..=version).map(|v| ('P', v));
    assert_eq!(seen, [('S', 1)].into_iter().chain(patches).collect::<Vec<_>>());
}

#[test]
fn a_second_reader_begins_with_the_state() {
    let mut tracker = Tracker::default();
    let first = tracker.subscribe();
    assert!(tracker.wants_read());
    tracker.on_read(&patch(1));
    assert_eq!(kinds(&first).len(), 1);
    let second = tracker.subscribe();
    tracker.on_patch(patch(2));
    assert!(tracker.wants_read());
    tracker.on_read(&patch(1));
    assert_eq!(kinds(&first), [('P', 2)]);
    assert_eq!(kinds(&second), [('S', 1), ('P', 2)]);
    drop((first, second));
    assert!(!tracker.has_readers());
}

#[test]
fn the_end_is_told_after_what_is_waiting() {
    let mut tracker = Tracker::default();
    let queue = tracker.subscribe();
    assert!(tracker.wants_read());
    tracker.on_read(&patch(1));
    tracker.end();
    assert_eq!(kinds(&queue), [('S', 1)]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(queue.poll_next(&mut cx), Poll::Ready(None)));
}

/// A hub in miniature: a flat object, merge patches, notifications only while subscribed.
#[derive(Default)]
struct Hub {
    state: Map<String, Value>,
    version: u64,
    wire: VecDeque<Wire>,
    subscribed: bool,
}

enum Wire {
    Patch(Value),
    Read(Value),
}

impl Hub {
    fn write(&mut self, key: String, value: Value) {
        self.version += 1;
        let told = json!({ &key: value.clone(), "$version": self.version });
        if value.is_null() {
            self.state.remove(&key);
        } else {
            self.state.insert(key, value);
        }
        if self.subscribed {
            self.wire.push_back(Wire::Patch(told));
        }
    }

    fn read(&self) -> Value {
        let mut all = self.state.clone();
        all.insert("$version".into(), self.version.into());
        Value::Object(all)
    }
}

/// What an application holds that applies every item it reads.
#[derive(Default)]
struct App {
    state: Map<String, Value>,
    version: u64,
}

impl App {
    fn apply(&mut self, item: DesiredUpdate) {
        assert!(item.version() > self.version, "versions rise: {} after {}", item.version(), self.version);
        self.version = item.version();
        let snapshot = matches!(item, DesiredUpdate::Snapshot(_));
        let mut content: Map<String, Value> = item.properties().to().unwrap();
        content.remove("$version");
        if snapshot {
            self.state.clear();
        }
        for (key, value) in content {
            if value.is_null() {
                self.state.remove(&key);
            } else {
                self.state.insert(key, value);
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 4_000, ..Default::default() })]

    /// Writes, deliveries, cuts, failed reads and slow readers in any order: once all is quiet the reader
    /// has exactly the hub's state, and versions only ever rose.
    #[test]
    fn any_schedule_ends_at_the_hubs_state(
        steps in proptest::collection::vec((0u8..9, 0u8..4, proptest::num::u8::ANY), 0..300),
    ) {
        let mut hub = Hub { version: 1, ..Hub::default() };
        let mut tracker = Tracker::default();
        let queue = tracker.subscribe();
        let mut app = App::default();
        for (step, key, value) in steps {
            match step {
                0..=3 => {
                    let value = if value % 5 == 0 { Value::Null } else { value.into() };
                    hub.write(format!("k{key}"), value);
                }
                4 => (0..70).for_each(|n| hub.write(format!("k{key}"), n.into())),
                5 | 6 => deliver(&mut hub, &mut tracker, usize::from(value) % 8),
                7 => take(&queue).into_iter().for_each(|item| app.apply(item)),
                _ => {
                    // The links are lost, with whatever was on its way.
                    hub.wire.clear();
                    hub.subscribed = false;
                    tracker.lost();
                }
            }
            start_read(&mut hub, &mut tracker);
        }
        loop {
            start_read(&mut hub, &mut tracker);
            let quiet = hub.wire.is_empty();
            deliver(&mut hub, &mut tracker, usize::MAX);
            take(&queue).into_iter().for_each(|item| app.apply(item));
            if quiet {
                break;
            }
        }
        proptest::prop_assert_eq!(app.version, hub.version);
        proptest::prop_assert_eq!(app.state, hub.state);
    }
}

fn start_read(hub: &mut Hub, tracker: &mut Tracker) {
    if tracker.wants_read() {
        hub.subscribed = true;
        let answer = hub.read();
        hub.wire.push_back(Wire::Read(answer));
    }
}

fn deliver(hub: &mut Hub, tracker: &mut Tracker, count: usize) {
    for _ in 0..count.min(hub.wire.len()) {
        match hub.wire.pop_front().unwrap() {
            Wire::Patch(patch) => tracker.on_patch(properties(&patch)),
            Wire::Read(all) => {
                tracker.on_read(&properties(&all));
            }
        }
    }
}
