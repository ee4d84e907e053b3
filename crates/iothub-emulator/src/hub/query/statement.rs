//! Parses whole queries: `SELECT … FROM … WHERE … GROUP BY …`.

use super::lexer::{Kind, Token};
use super::parser::{Parser, RawPath, refusal};
use super::syntax::{Fold, Item, Query, Select, Source, What};
use super::syntax_error::SyntaxError;

/// One item of the list, before the source is known.
struct RawItem {
    start: Token,
    what: RawWhat,
    alias: Option<String>,
}

enum RawWhat {
    Path(RawPath),
    Count,
    Fold(Fold, RawPath),
}

/// `None` is `*`.
type RawSelect = Option<Vec<RawItem>>;

/// Parses a query.
pub(super) fn parse(text: &str) -> Result<Query, SyntaxError> {
    let mut parser = Parser::new(text)?;
    parser.expect_keyword("SELECT", "a query starts with SELECT")?;
    let top = if parser.keyword("TOP") { Some(top(&mut parser)?) } else { None };
    let list_start = parser.peek().clone();
    let select = select(&mut parser)?;
    parser.expect_keyword("FROM", "expected FROM")?;
    parser.source = source(&mut parser)?;
    let filter = if parser.keyword("WHERE") { Some(parser.condition()?) } else { None };
    let group_start = parser.peek().clone();
    let group_by = if parser.keyword("GROUP") { group_by(&mut parser)? } else { Vec::new() };
    if parser.peek().kind != Kind::End {
        return Err(parser.unexpected("expected the end of the query"));
    }

    if parser.source == Source::Jobs && select.is_some() {
        return Err(refusal(&list_start, "Projection not supported").hint("devices.jobs takes only SELECT *"));
    }
    if parser.source != Source::Devices && !group_by.is_empty() {
        return Err(refusal(&group_start, "GROUP BY not supported").hint("only FROM devices has it"));
    }
    if select.is_none() && !group_by.is_empty() {
        return Err(refusal(&list_start, "Unexpected character").hint("GROUP BY needs a list of items"));
    }
    let select = match select {
        None => Select::All,
        Some(items) => Select::Items(resolve(&parser, items)?),
    };
    let query = Query { top, select, source: parser.source, filter, group_by };
    if query.is_aggregate() {
        check_grouped(&query, &list_start)?;
    }
    Ok(query)
}

impl Query {
    /// Whether its rows are groups of the source's rows.
    pub(super) fn is_aggregate(&self) -> bool {
        let folds = match &self.select {
            Select::All => false,
            Select::Items(items) => items.iter().any(|item| !matches!(item.what, What::Path(_))),
        };
        folds || !self.group_by.is_empty()
    }
}

fn top(parser: &mut Parser) -> Result<usize, SyntaxError> {
    match parser.peek().kind {
        Kind::Number(number) if number.fract() == 0.0 && number <= f64::from(u32::MAX) => {
            parser.step();
            // Checked to be a whole number that fits.
            Ok(number as usize)
        }
        _ => Err(parser.unexpected("TOP needs a whole number")),
    }
}

fn select(parser: &mut Parser) -> Result<RawSelect, SyntaxError> {
    if parser.symbol("*") {
        return Ok(None);
    }
    let mut items = vec![item(parser)?];
    while parser.symbol(",") {
        items.push(item(parser)?);
    }
    Ok(Some(items))
}

fn item(parser: &mut Parser) -> Result<RawItem, SyntaxError> {
    let start = parser.peek().clone();
    let what = match aggregate(parser) {
        Some(aggregate) => arguments(parser, aggregate)?,
        None if parser.is_followed_by("(") => return Err(refusal(&start, "Unknown aggregate")),
        None => RawWhat::Path(parser.raw_path()?),
    };
    let alias = if parser.keyword("AS") { Some(parser.name("AS needs a name")?) } else { None };
    Ok(RawItem { start, what, alias })
}

/// `None` in it is COUNT.
fn aggregate(parser: &mut Parser) -> Option<Option<Fold>> {
    const AGGREGATES: [(&str, Option<Fold>); 5] = [
        ("COUNT", None),
        ("SUM", Some(Fold::Sum)),
        ("AVG", Some(Fold::Avg)),
        ("MIN", Some(Fold::Min)),
        ("MAX", Some(Fold::Max)),
    ];
    // Without a parenthesis it is the name of a member.
    if !parser.is_followed_by("(") {
        return None;
    }
    let (_, found) = AGGREGATES.into_iter().find(|(name, _)| parser.is_keyword(name))?;
    parser.step();
    Some(found)
}

fn arguments(parser: &mut Parser, aggregate: Option<Fold>) -> Result<RawWhat, SyntaxError> {
    parser.expect_symbol("(", "expected '('")?;
    let what = match aggregate {
        None => {
            // COUNT(*) is the same (inferred).
            parser.symbol("*");
            RawWhat::Count
        }
        Some(fold) => RawWhat::Fold(fold, parser.raw_path()?),
    };
    parser.expect_symbol(")", "expected ')'")?;
    Ok(what)
}

fn source(parser: &mut Parser) -> Result<Source, SyntaxError> {
    const HINT: &str = "FROM takes devices, devices.modules or devices.jobs";
    if !parser.keyword("devices") {
        return Err(parser.unexpected(HINT));
    }
    if !parser.symbol(".") {
        return Ok(Source::Devices);
    }
    if parser.keyword("modules") {
        return Ok(Source::Modules);
    }
    if parser.keyword("jobs") { Ok(Source::Jobs) } else { Err(parser.unexpected(HINT)) }
}

fn group_by(parser: &mut Parser) -> Result<Vec<super::path::Path>, SyntaxError> {
    parser.expect_keyword("BY", "expected BY after GROUP")?;
    let mut paths = vec![parser.path()?];
    while parser.symbol(",") {
        paths.push(parser.path()?);
    }
    Ok(paths)
}

fn resolve(parser: &Parser, items: Vec<RawItem>) -> Result<Vec<Item>, SyntaxError> {
    items.into_iter().map(|item| resolve_item(parser, item)).collect()
}

/// Without AS a path is called by its last name, an aggregate by its function (twins.md 5.1).
fn resolve_item(parser: &Parser, item: RawItem) -> Result<Item, SyntaxError> {
    let function = item.start.text.to_ascii_uppercase();
    let (what, name) = match item.what {
        RawWhat::Count => (What::Count, function),
        RawWhat::Fold(fold, path) => (What::Fold(fold, parser.resolve(path)?), function),
        RawWhat::Path(path) => {
            let path = parser.resolve(path)?;
            let name = path.name.clone();
            (What::Path(path), name)
        }
    };
    Ok(Item { what, name: item.alias.unwrap_or(name) })
}

/// In a group only what it was grouped by has one value.
fn check_grouped(query: &Query, list_start: &Token) -> Result<(), SyntaxError> {
    let Select::Items(items) = &query.select else { return Ok(()) };
    let is_grouped = |item: &Item| match &item.what {
        What::Path(path) => query.group_by.iter().any(|by| by.root == path.root && by.rest == path.rest),
        What::Count | What::Fold(..) => true,
    };
    if items.iter().all(is_grouped) {
        return Ok(());
    }
    Err(refusal(list_start, "Path without aggregate").hint("every path in the list must be in GROUP BY"))
}
