//! What configurations want of one twin, and what has to be written for that.
//!
//! For each path of settings the configuration with the highest priority counts, of equals the newest. Whatever a
//! configuration wrote carries its name (twins.md 2.6), so what is not wanted any more can be found in the twin.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::content::{Settings, at_path};
use crate::hub::timestamp::Timestamp;
use crate::hub::twin::{Branch, ConfigurationStatus, Found, Twin, Writer};

/// A configuration that targets the twin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) id: &'a str,
    pub(super) priority: u64,
    pub(super) created: Timestamp,
    /// Ticks of its last change.
    pub(super) digest: u64,
    pub(super) settings: &'a Settings,
}

/// What is to be done to one twin.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Settings of configurations that do not target it any more.
    pub(super) removals: Map<String, Value>,
    /// Settings by the configuration that writes them, lowest priority first.
    pub(super) writes: Vec<(Writer, Map<String, Value>)>,
    pub(super) statuses: BTreeMap<String, ConfigurationStatus>,
}

/// A value at the end of a path, and whose it is.
type Wanted<'a> = BTreeMap<Vec<String>, (&'a Value, Source<'a>)>;

impl Plan {
    pub(super) fn new(twin: &Twin, mut sources: Vec<Source<'_>>) -> Self {
        sources.sort_by_key(|source| (source.priority, source.created, Reverse(source.id)));
        let wanted = wanted(&sources);
        let is_applied = |source: &Source<'_>| wanted.values().any(|(_, winner)| winner.id == source.id);
        let statuses = sources.iter().map(|source| {
            let status =
                if is_applied(source) { ConfigurationStatus::Applied } else { ConfigurationStatus::Targeted };
            (source.id.to_owned(), status)
        });
        Self {
            statuses: statuses.collect(),
            removals: removals(twin.desired(), &wanted),
            writes: sources.iter().filter_map(|source| write(twin.desired(), source, &wanted)).collect(),
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_done(&self, twin: &Twin) -> bool {
        self.removals.is_empty() && self.writes.is_empty() && twin.has_configurations(&self.statuses)
    }
}

/// Every leaf that some configuration sets, with the winner. `sources` come with the lowest priority first.
fn wanted<'a>(sources: &[Source<'a>]) -> Wanted<'a> {
    let mut wanted = Wanted::new();
    for (index, source) in sources.iter().enumerate() {
        for (path, value) in source.settings {
            add_leaves(&mut wanted, path.clone(), value, *source, &sources[index + 1..]);
        }
    }
    wanted
}

/// What is at or below a path that a higher configuration sets is that one's alone.
fn add_leaves<'a>(
    wanted: &mut Wanted<'a>,
    path: Vec<String>,
    value: &'a Value,
    source: Source<'a>,
    higher: &[Source<'_>],
) {
    let mut paths = higher.iter().flat_map(|higher| higher.settings).map(|(path, _)| path);
    if paths.any(|other| path.starts_with(other)) {
        return;
    }
    if let Value::Object(members) = value
        && (!members.is_empty() || path.is_empty())
    {
        for (name, value) in members {
            let mut inner = path.clone();
            inner.push(name.clone());
            add_leaves(wanted, inner, value, source, higher);
        }
        return;
    }
    // A leaf has nothing below it and is below no other leaf.
    wanted.retain(|other, _| !other.starts_with(&path) && !path.starts_with(other));
    wanted.insert(path, (value, source));
}

/// Null for each leaf that was written by a configuration and is not wanted any more, or for the object around
/// it when that becomes empty.
fn removals(desired: &Branch, wanted: &Wanted<'_>) -> Map<String, Value> {
    let is_wanted =
        |path: &[String]| wanted.keys().any(|wanted| path.starts_with(wanted) || wanted.starts_with(path));
    let unwanted: Vec<_> =
        desired.written().into_iter().map(|(path, _)| path).filter(|path| !is_wanted(path)).collect();
    let mut removals = Map::new();
    if unwanted.is_empty() {
        return removals;
    }
    let mut after = desired.values();
    for path in &unwanted {
        remove(&mut after, path);
    }
    for mut path in unwanted {
        while path.len() > 1 && !is_wanted(&path[..path.len() - 1]) && !has(&after, &path[..path.len() - 1]) {
            path.pop();
        }
        merge(&mut removals, at_path(&path, Value::Null));
    }
    removals
}

/// What of a configuration's settings is not in the twin yet.
fn write(desired: &Branch, source: &Source<'_>, wanted: &Wanted<'_>) -> Option<(Writer, Map<String, Value>)> {
    let written = desired.written();
    let is_there = |path: &Vec<String>, value: &Value| match (desired.find(path), value) {
        (found, Value::Null) => found.is_none(),
        (Some(Found::Branch(_)), Value::Object(_)) => true,
        (Some(Found::Leaf(found)), value) => {
            found == value && written.iter().any(|(at, writer)| at == path && writer.id == source.id)
        }
        _ => false,
    };
    let mut patch = Map::new();
    for (path, (value, winner)) in wanted {
        if winner.id == source.id && !is_there(path, value) {
            merge(&mut patch, at_path(path, (*value).clone()));
        }
    }
    let writer = Writer { id: source.id.to_owned(), digest: source.digest };
    (!patch.is_empty()).then_some((writer, patch))
}

/// Puts merge patches together.
pub(super) fn merge(into: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(members)), Value::Object(inner)) => merge(members, inner),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// Removes what is at a path, and the objects around it that become empty.
fn remove(members: &mut Map<String, Value>, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            members.shift_remove(last);
        }
        [first, rest @ ..] => {
            let Some(Value::Object(inner)) = members.get_mut(first) else { return };
            remove(inner, rest);
            if inner.is_empty() {
                members.shift_remove(first);
            }
        }
    }
}

fn has(members: &Map<String, Value>, path: &[String]) -> bool {
    match path {
        [] => true,
        [last] => members.contains_key(last),
        [first, rest @ ..] => {
            members.get(first).and_then(Value::as_object).is_some_and(|inner| has(inner, rest))
        }
    }
}
