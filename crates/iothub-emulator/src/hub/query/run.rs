//! Runs a query, some rows at a time, so that a long one does not keep the hub from everything else.

use std::ops::ControlFlow;

use serde_json::{Map, Value};

use super::aggregate::Groups;
use super::page::{Page, PageRequest, Position};
use super::row::Row;
use super::syntax::{Query, Select, Source, What};
use crate::hub::Inner;
use crate::hub::error::HubError;
use crate::hub::twin::Subject;

/// Rows looked at under one lock.
const CHUNK: usize = 500;
/// A page with this many bytes of JSON takes no more rows; that is far above a hundred ordinary twins.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A query under way.
pub(super) struct Run<'q> {
    query: &'q Query,
    text: &'q str,
    /// Rows wanted on this page.
    size: usize,
    /// Rows that TOP still allows.
    left: usize,
    /// The key of the row looked at last.
    at: Vec<String>,
    result: Collected,
    bytes: usize,
    /// There is a row after those of this page.
    more: bool,
}

enum Collected {
    Rows(Vec<(Vec<String>, Value)>),
    Groups(Groups),
}

impl<'q> Run<'q> {
    pub(super) fn new(query: &'q Query, text: &'q str, request: &PageRequest) -> Result<Self, HubError> {
        let position = request.position(text)?;
        let top = query.top.unwrap_or(usize::MAX);
        let left = position.as_ref().and_then(|position| position.left).unwrap_or(top).min(top);
        let size = request.size().min(left);
        let after = position.map(|position| position.after).unwrap_or_default();
        let (at, result) = if query.is_aggregate() {
            let groups = Groups::new(query, after.into_iter().next(), size.saturating_add(1));
            (Vec::new(), Collected::Groups(groups))
        } else {
            (after, Collected::Rows(Vec::new()))
        };
        Ok(Self { query, text, size, left, at, result, bytes: 0, more: false })
    }

    /// Looks at the next rows; `Break` after the last.
    pub(super) fn step(&mut self, inner: &Inner) -> ControlFlow<()> {
        if self.size == 0 {
            return ControlFlow::Break(());
        }
        let at = std::mem::take(&mut self.at);
        let mut seen = 0;
        let query = self.query;
        let ended = scan(inner, query.source, &at, |key, row| {
            seen += 1;
            if query.filter.as_ref().is_none_or(|filter| filter.selects(row)) {
                self.select(key, row)?;
            }
            if seen < CHUNK {
                return ControlFlow::Continue(());
            }
            self.at = key.iter().map(|part| (*part).to_owned()).collect();
            ControlFlow::Break(())
        });
        // Left early for the size of the chunk, and not because the page is full.
        if ended.is_break() && !self.more && !self.at.is_empty() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(())
    }

    fn select(&mut self, key: &[&str], row: &Row<'_>) -> ControlFlow<()> {
        let rows = match &mut self.result {
            Collected::Groups(groups) => {
                groups.add(self.query, row);
                return ControlFlow::Continue(());
            }
            Collected::Rows(rows) => rows,
        };
        if rows.len() == self.size || self.bytes >= MAX_PAGE_BYTES {
            self.more = rows.len() < self.left;
            self.at.clear();
            return ControlFlow::Break(());
        }
        let key = key.iter().map(|part| (*part).to_owned()).collect();
        let row = project(self.query, row);
        self.bytes += row.to_string().len();
        rows.push((key, row));
        ControlFlow::Continue(())
    }

    pub(super) fn finish(self) -> Page {
        let (rows, more) = match self.result {
            Collected::Rows(rows) => (rows, self.more),
            Collected::Groups(groups) => {
                let mut rows = groups.into_rows(self.query);
                let more = rows.len() > self.size && self.size < self.left;
                rows.truncate(self.size);
                (rows.into_iter().map(|(key, row)| (vec![key], row)).collect(), more)
            }
        };
        let left = self.query.top.map(|_| self.left - rows.len());
        let continuation =
            rows.last().filter(|_| more).map(|(key, _)| Position::new(self.text, key.clone(), left).token());
        let items = rows.into_iter().map(|(_, row)| row).collect();
        Page { items, item_type: item_type(self.query), continuation }
    }
}

/// The rows of a source after the one with the key `after`, in the order of keys; an empty key is before all.
pub(in crate::hub) fn scan(
    inner: &Inner,
    source: Source,
    after: &[String],
    mut visit: impl FnMut(&[&str], &Row<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let first = after.first().map(String::as_str);
    let both = first.zip(after.get(1).map(String::as_str));
    match source {
        Source::Devices => inner.state.devices_after(first).try_for_each(|(device_id, device)| {
            visit(&[device_id], &Row::Twin(Subject { device_id, device, module: None }))
        }),
        Source::Modules => {
            inner.state.modules_after(both).try_for_each(|(device_id, device, module_id, module)| {
                let subject = Subject { device_id, device, module: Some((module_id, module)) };
                visit(&[device_id, module_id], &Row::Twin(subject))
            })
        }
        Source::Jobs => inner.jobs.rows_after(both, visit),
    }
}

fn project(query: &Query, row: &Row<'_>) -> Value {
    let Select::Items(items) = &query.select else { return row.document() };
    let members = items.iter().filter_map(|item| match &item.what {
        What::Path(path) => Some((item.name.clone(), row.value(path)?)),
        // Aggregates have no rows of their own.
        What::Count | What::Fold(..) => None,
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn item_type(query: &Query) -> &'static str {
    match (&query.select, query.source) {
        (Select::Items(_), _) => "Raw",
        (Select::All, Source::Jobs) => "DeviceJob",
        (Select::All, Source::Devices | Source::Modules) => "Twin",
    }
}
