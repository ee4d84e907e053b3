//! The rows queries run over, and reading values from them.

use serde_json::Value;

use super::eval::Datum;
use super::path::{Path, Root};
use crate::hub::twin::{Found, Place, Subject};

/// One row of a source.
#[derive(Clone, Copy)]
pub(in crate::hub) enum Row<'a> {
    /// A device's or module's twin.
    Twin(Subject<'a>),
    /// One device of a scheduled job.
    Job(&'a Value),
}

impl<'a> Row<'a> {
    /// What conditions see of a value; nothing is copied of properties and tags.
    pub(super) fn datum(&self, path: &Path) -> Datum<'a> {
        let (place, subject) = match (self, path.root) {
            (Self::Twin(subject), Root::Section(place)) => (place, subject),
            _ => return self.value(path).map_or(Datum::Undefined, |value| Datum::from(&value).into_owned()),
        };
        match subject.twin().find(place, &path.rest) {
            Some(Found::Leaf(value)) => Datum::from(value),
            Some(Found::Branch(_)) if is_missing(subject, place, path) => Datum::Undefined,
            Some(Found::Branch(_)) => Datum::Object,
            None => self.value(path).map_or(Datum::Undefined, |value| Datum::from(&value).into_owned()),
        }
    }

    /// What projections show of a value, `None` when it is missing.
    pub(super) fn value(&self, path: &Path) -> Option<Value> {
        let inside = |value: Value| path.rest.iter().try_fold(value, take);
        match (self, path.root) {
            (Self::Twin(subject), Root::Section(place)) => section_value(subject, place, path),
            (Self::Twin(subject), Root::Member(member)) => inside(subject.member(member)?),
            (Self::Job(job), Root::Job(name)) => inside(job.get(name)?.clone()),
            _ => None,
        }
    }

    /// The whole row, for `SELECT *`.
    pub(super) fn document(&self) -> Value {
        match self {
            Self::Twin(subject) => subject.document(),
            Self::Job(job) => (*job).clone(),
        }
    }
}

fn section_value(subject: &Subject<'_>, place: Place, path: &Path) -> Option<Value> {
    if path.rest.is_empty() {
        return (!is_missing(subject, place, path)).then(|| subject.twin().section_json(place));
    }
    match subject.twin().find(place, &path.rest) {
        Some(Found::Leaf(value)) => Some(value.clone()),
        Some(Found::Branch(branch)) => Some(branch.values().into()),
        None => subject.twin().hub_value(place, &path.rest),
    }
}

/// A twin without tags shows none.
fn is_missing(subject: &Subject<'_>, place: Place, path: &Path) -> bool {
    place == Place::Tags && path.rest.is_empty() && !subject.twin().has_tags()
}

fn take(value: Value, name: &String) -> Option<Value> {
    match value {
        Value::Object(mut members) => members.shift_remove(name),
        _ => None,
    }
}
