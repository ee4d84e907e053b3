//! The query language (twins.md 5): text to [`Query`], and running it over twins and device jobs.

mod aggregate;
mod condition;
mod eval;
mod lexer;
mod page;
mod parser;
mod path;
mod row;
mod run;
mod statement;
mod syntax;
mod syntax_error;

#[cfg(test)]
mod tests;

pub(super) use page::Position;
pub use page::{Page, PageRequest};
pub(super) use row::Row;
pub(super) use run::scan;
pub(super) use syntax::{Query, Source};

use self::run::Run;
use self::syntax::Expr;
use super::error::{ErrorCode, HubError};
use super::{Hub, Inner};

/// Longest text of a query, in characters (twins.md 5.1).
const MAX_LENGTH: usize = 8192;

impl Hub {
    /// One page of the result of a query (twins.md 5).
    ///
    /// The hub is free for others while a long query runs; rows written meanwhile are seen or not.
    /// Dropping the future has no effect.
    ///
    /// # Errors
    ///
    /// 400004 for a text that is no query, with the place, and for a token that is not of this query.
    pub async fn query(&self, text: &str, request: &PageRequest) -> Result<Page, HubError> {
        let query = Query::parse(text)?;
        let mut run = Run::new(&query, text, request)?;
        // Jobs are always as they are.
        if query.source != Source::Jobs
            && let Some(copy) = self.faults().query()
        {
            while run.step(&copy).is_continue() {
                tokio::task::yield_now().await;
            }
            return Ok(run.finish());
        }
        while run.step(&self.lock()).is_continue() {
            tokio::task::yield_now().await;
        }
        Ok(run.finish())
    }
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, HubError> {
        check_length(text)?;
        Ok(statement::parse(text)?)
    }

    /// How many rows it has.
    pub(super) fn count(&self, inner: &Inner) -> u64 {
        let mut count = 0;
        if self.is_aggregate() {
            let mut groups = aggregate::Groups::new(self, None, usize::MAX);
            self.for_each(inner, |_, row| groups.add(self, row));
            count = groups.into_rows(self).len() as u64;
        } else {
            self.for_each(inner, |_, _| count += 1);
        }
        count.min(self.top.map_or(u64::MAX, |top| top as u64))
    }

    fn for_each(&self, inner: &Inner, mut visit: impl FnMut(&[&str], &Row<'_>)) {
        // Never breaks.
        let _ = run::scan(inner, self.source, &[], |key, row| {
            if self.filter.as_ref().is_none_or(|filter| filter.selects(row)) {
                visit(key, row);
            }
            std::ops::ControlFlow::Continue(())
        });
    }
}

/// The condition of a job or a configuration: the part of a query after WHERE.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    source: Source,
    /// `None` holds for all.
    filter: Option<Expr>,
}

impl Condition {
    /// The condition every row meets.
    pub(super) fn all(source: Source) -> Self {
        Self { source, filter: None }
    }

    /// Reads a condition on device twins, or one on module twins that starts with `FROM devices.modules WHERE`
    /// (twins.md 6.1). Positions in errors count from the start of the query it stands for, as the real
    /// hub's do.
    pub(super) fn parse(text: &str) -> Result<Self, HubError> {
        check_length(text)?;
        let has_source = text.trim_start().get(..4).is_some_and(|start| start.eq_ignore_ascii_case("FROM"));
        let query = if has_source {
            statement::parse(&format!("SELECT * {text}"))?
        } else {
            statement::parse(&format!("SELECT * FROM devices WHERE {text}"))?
        };
        Ok(Self { source: query.source, filter: query.filter })
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// Whether it holds for a row of its source.
    pub(super) fn holds(&self, row: &Row<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.selects(row))
    }
}

fn check_length(text: &str) -> Result<(), HubError> {
    let length = text.chars().count();
    if length <= MAX_LENGTH {
        return Ok(());
    }
    Err(HubError::new(
        ErrorCode::ArgumentInvalid,
        format!("the query has {length} characters, more than the {MAX_LENGTH} that are allowed"),
    ))
}
