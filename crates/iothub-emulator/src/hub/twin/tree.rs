//! One section of a twin: values and their metadata in one tree, so that both stay in step.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hub::timestamp::Timestamp;

/// When a node was last written, and by which version of the section (twins.md 2.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) at: Timestamp,
    /// Only in desired, and there from the first write on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u64>,
    /// Only on leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<Box<Writer>>,
}

/// A configuration that wrote a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::hub) struct Writer {
    /// The configuration's id.
    pub(in crate::hub) id: String,
    /// The ticks of its last change.
    pub(in crate::hub) digest: u64,
}

/// A section or an object in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::hub) struct Branch {
    stamp: Stamp,
    members: IndexMap<String, Node>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Node {
    Branch(Branch),
    /// A scalar or an array: arrays are replaced whole and have one node (twins.md 2.6).
    Leaf(Stamp, Value),
}

/// What a path into a section leads to.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) enum Found<'a> {
    Branch(&'a Branch),
    /// A scalar or an array.
    Leaf(&'a Value),
}

impl Branch {
    pub(super) fn empty(stamp: &Stamp) -> Self {
        Self { stamp: stamp.without_writer(), members: IndexMap::new() }
    }

    /// A branch with these members. Nulls are not stored, the objects around them are (twins.md 2.3 rule 2).
    pub(super) fn new(members: &Map<String, Value>, stamp: &Stamp) -> Self {
        let nodes = members
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), Node::new(value, stamp)?)))
            .collect();
        Self { stamp: stamp.without_writer(), members: nodes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.members.keys()
    }

    /// Marks this node only as written.
    pub(super) fn touch(&mut self, stamp: &Stamp) {
        self.stamp = stamp.without_writer();
    }

    /// Applies a merge patch, stamps what it touches and all above it, and tells whether it was effective:
    /// it set a scalar or array (equal values count), removed a member or made an object (twins.md 2.3).
    pub(super) fn merge(&mut self, patch: &Map<String, Value>, stamp: &Stamp) -> bool {
        let mut effective = false;
        for (name, value) in patch {
            effective |= self.merge_member(name, value, stamp);
        }
        if effective {
            self.touch(stamp);
        }
        effective
    }

    fn merge_member(&mut self, name: &str, value: &Value, stamp: &Stamp) -> bool {
        if let (Value::Object(patch), Some(Node::Branch(branch))) = (value, self.members.get_mut(name)) {
            return branch.merge(patch, stamp);
        }
        match Node::new(value, stamp) {
            Some(node) => {
                self.members.insert(name.to_owned(), node);
                true
            }
            // Keeps the order of the others.
            None => self.members.shift_remove(name).is_some(),
        }
    }

    /// What a device is told when `self` replaces `before`: all of `self`, and null for each member that is
    /// gone, at every level that exists on both sides (twins.md 2.4).
    pub(super) fn existence_diff(&self, before: &Self) -> Map<String, Value> {
        let mut diff = Map::new();
        for (name, node) in &self.members {
            let value = match (node, before.members.get(name)) {
                (Node::Branch(new), Some(Node::Branch(old))) => Value::Object(new.existence_diff(old)),
                _ => node.value(),
            };
            diff.insert(name.clone(), value);
        }
        for name in before.members.keys().filter(|name| !self.members.contains_key(*name)) {
            diff.insert(name.clone(), Value::Null);
        }
        diff
    }

    /// What is at the end of `path`.
    pub(in crate::hub) fn find(&self, path: &[String]) -> Option<Found<'_>> {
        let Some((first, rest)) = path.split_first() else { return Some(Found::Branch(self)) };
        match self.members.get(first)? {
            Node::Branch(branch) => branch.find(rest),
            Node::Leaf(_, value) if rest.is_empty() => Some(Found::Leaf(value)),
            Node::Leaf(..) => None,
        }
    }

    /// What `$metadata` has at the end of `path`.
    pub(super) fn find_metadata(&self, path: &[String]) -> Option<Value> {
        let Some((first, rest)) = path.split_first() else { return Some(self.metadata().into()) };
        match (self.members.get(first), rest) {
            (Some(Node::Branch(branch)), _) => branch.find_metadata(rest),
            (Some(Node::Leaf(stamp, _)), []) => Some(stamp.to_json().into()),
            (Some(Node::Leaf(stamp, _)), [name]) => stamp.to_json().shift_remove(name),
            (Some(Node::Leaf(..)), _) => None,
            (None, []) => self.stamp.to_json().shift_remove(first),
            (None, _) => None,
        }
    }

    /// The leaves that configurations wrote, with their paths.
    pub(in crate::hub) fn written(&self) -> Vec<(Vec<String>, &Writer)> {
        let mut written = Vec::new();
        self.collect_written(&mut Vec::new(), &mut written);
        written
    }

    fn collect_written<'a>(&'a self, path: &mut Vec<String>, written: &mut Vec<(Vec<String>, &'a Writer)>) {
        for (name, node) in &self.members {
            path.push(name.clone());
            match node {
                Node::Branch(branch) => branch.collect_written(path, written),
                Node::Leaf(Stamp { by: Some(writer), .. }, _) => written.push((path.clone(), writer)),
                Node::Leaf(..) => {}
            }
            path.pop();
        }
    }

    pub(in crate::hub) fn values(&self) -> Map<String, Value> {
        self.members.iter().map(|(name, node)| (name.clone(), node.value())).collect()
    }

    /// The `$metadata` object: this node's stamp, then one member for each below.
    pub(super) fn metadata(&self) -> Map<String, Value> {
        let mut metadata = self.stamp.to_json();
        for (name, node) in &self.members {
            let below = match node {
                Node::Branch(branch) => branch.metadata(),
                Node::Leaf(stamp, _) => stamp.to_json(),
            };
            metadata.insert(name.clone(), Value::Object(below));
        }
        metadata
    }
}

impl Node {
    /// `None` for null, which means "remove".
    fn new(value: &Value, stamp: &Stamp) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Object(members) => Some(Self::Branch(Branch::new(members, stamp))),
            leaf => Some(Self::Leaf(stamp.clone(), leaf.clone())),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Branch(branch) => Value::Object(branch.values()),
            Self::Leaf(_, value) => value.clone(),
        }
    }
}

impl Stamp {
    /// A write by somebody who is not a configuration.
    pub(super) fn new(at: Timestamp, version: Option<u64>) -> Self {
        Self { at, version, by: None }
    }

    fn without_writer(&self) -> Self {
        Self { by: None, ..*self }
    }

    fn to_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("$lastUpdated".to_owned(), self.at.for_twin().into());
        if let Some(version) = self.version {
            json.insert("$lastUpdatedVersion".to_owned(), version.into());
        }
        if let Some(writer) = &self.by {
            json.insert("$lastUpdatedBy".to_owned(), writer.id.as_str().into());
            json.insert("$lastUpdatedByDigest".to_owned(), writer.digest.to_string().into());
        }
        json
    }
}

#[cfg(test)]
impl Branch {
    /// Puts a ready branch in place, for states that are not made by updates.
    pub(super) fn put_branch(&mut self, name: &str, branch: Branch) {
        self.members.insert(name.to_owned(), Node::Branch(branch));
    }
}
