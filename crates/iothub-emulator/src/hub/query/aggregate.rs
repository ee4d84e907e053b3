//! COUNT, SUM, AVG, MIN, MAX, and grouping.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::eval::{self, Datum};
use super::row::Row;
use super::syntax::{Fold, Item, Query, Select, What};

/// Longer keys of groups are cut here and told apart by a digest: a key goes into continuation tokens, which
/// are headers.
const MAX_KEY: usize = 400;
/// Whole numbers up to here are exact in a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The groups of one page: those with the smallest keys after a given one.
///
/// There are never more of them than fit the page and one, however many the hub has: a group that falls out
/// has that many smaller ones before it, so it belongs to a later page.
#[derive(Debug)]
pub(super) struct Groups {
    after: Option<String>,
    most: usize,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug)]
struct Group {
    /// By item of the list; those that are paths have their value.
    values: Vec<Accumulator>,
}

impl Groups {
    pub(super) fn new(query: &Query, after: Option<String>, most: usize) -> Self {
        let mut groups = BTreeMap::new();
        // Without GROUP BY there is one group, also of no rows.
        if query.group_by.is_empty() && after.is_none() {
            groups.insert(String::new(), Group::new(query, None));
        }
        Self { after, most, groups }
    }

    pub(super) fn add(&mut self, query: &Query, row: &Row<'_>) {
        let key = key(query, row);
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        if !self.groups.contains_key(&key) && self.groups.len() >= self.most {
            match self.groups.last_key_value() {
                Some((last, _)) if *last > key => self.groups.pop_last(),
                _ => return,
            };
        }
        let group = self.groups.entry(key).or_insert_with(|| Group::new(query, Some(row)));
        for (accumulator, item) in group.values.iter_mut().zip(items(query)) {
            accumulator.add(item, row);
        }
    }

    /// The rows of the result with their keys, in the order of keys.
    pub(super) fn into_rows(self, query: &Query) -> Vec<(String, Value)> {
        self.groups.into_iter().map(|(key, group)| (key, group.into_json(query))).collect()
    }
}

impl Group {
    /// `first` is its first row.
    fn new(query: &Query, first: Option<&Row<'_>>) -> Self {
        Self { values: items(query).iter().map(|item| Accumulator::new(item, first)).collect() }
    }

    /// Missing values are left out.
    fn into_json(self, query: &Query) -> Value {
        let members = items(query)
            .iter()
            .zip(self.values)
            .filter_map(|(item, value)| Some((item.name.clone(), value.into_json()?)));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

fn items(query: &Query) -> &[Item] {
    match &query.select {
        Select::All => &[],
        Select::Items(items) => items,
    }
}

/// The text groups are told apart by: their values as JSON, nothing for a missing one.
fn key(query: &Query, row: &Row<'_>) -> String {
    let mut key = String::new();
    for path in &query.group_by {
        match row.value(path) {
            // 1 and 1.0 are one group.
            Some(Value::Number(number)) => key.push_str(&number.as_f64().unwrap_or_default().to_string()),
            Some(value) => key.push_str(&value.to_string()),
            None => {}
        }
        key.push('\n');
    }
    if key.len() <= MAX_KEY {
        return key;
    }
    let digest = super::page::digest(&key);
    let end = (0..=MAX_KEY).rev().find(|&end| key.is_char_boundary(end)).unwrap_or_default();
    key.truncate(end);
    format!("{key}\n{digest:016x}")
}

/// What has been seen of one item in one group.
#[derive(Debug)]
enum Accumulator {
    Value(Option<Value>),
    Count(u64),
    Sum(f64),
    Avg { sum: f64, count: f64 },
    Extreme { wanted: Ordering, best: Option<Value> },
}

impl Accumulator {
    fn new(item: &Item, first: Option<&Row<'_>>) -> Self {
        match &item.what {
            What::Path(path) => Self::Value(first.and_then(|row| row.value(path))),
            What::Count => Self::Count(0),
            What::Fold(Fold::Sum, _) => Self::Sum(0.0),
            What::Fold(Fold::Avg, _) => Self::Avg { sum: 0.0, count: 0.0 },
            What::Fold(Fold::Min, _) => Self::Extreme { wanted: Ordering::Less, best: None },
            What::Fold(Fold::Max, _) => Self::Extreme { wanted: Ordering::Greater, best: None },
        }
    }

    /// SUM and AVG take numbers; MIN and MAX take numbers or texts, of which type says the first.
    fn add(&mut self, item: &Item, row: &Row<'_>) {
        if let Self::Count(count) = self {
            *count += 1;
            return;
        }
        let What::Fold(_, path) = &item.what else { return };
        let datum = row.datum(path);
        match (self, &datum) {
            (Self::Sum(sum), Datum::Number(number)) => *sum += number,
            (Self::Avg { sum, count }, Datum::Number(number)) => {
                *sum += number;
                *count += 1.0;
            }
            (Self::Extreme { wanted, best }, Datum::Number(_) | Datum::Text(_)) => {
                let is_better = match best {
                    None => true,
                    Some(best) => eval::order(&datum, &Datum::from(&*best)) == Some(*wanted),
                };
                if is_better {
                    *best = row.value(path);
                }
            }
            _ => {}
        }
    }

    fn into_json(self) -> Option<Value> {
        match self {
            Self::Value(value) => value,
            Self::Count(count) => Some(count.into()),
            Self::Sum(sum) => Some(number(sum)),
            Self::Avg { count: 0.0, .. } => None,
            Self::Avg { sum, count } => Some(number(sum / count)),
            Self::Extreme { best, .. } => best,
        }
    }
}

/// Whole numbers have no fraction in the result; what is too large for a double is null.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < MAX_EXACT {
        // Checked to fit.
        return Value::from(value as i64);
    }
    Value::from(value)
}
