//! A query as it is understood: what the parser makes and the rest reads.

use serde_json::Value;

use super::path::Path;

/// A whole query (twins.md 5.1).
#[derive(Clone, Debug, PartialEq)]
pub(in crate::hub) struct Query {
    pub(super) top: Option<usize>,
    pub(super) select: Select,
    pub(super) source: Source,
    pub(super) filter: Option<Expr>,
    pub(super) group_by: Vec<Path>,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Source {
    Devices,
    Modules,
    /// One row for each device of each scheduled job.
    Jobs,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Select {
    /// `*`
    All,
    Items(Vec<Item>),
}

/// One member of the result's rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) what: What,
    pub(super) name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Path(Path),
    Count,
    /// Of all values the path has in the group.
    Fold(Fold, Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Avg,
    Min,
    Max,
}

/// A condition or an operand of one.
///
/// Chains are flat, so that only what is nested in the text is nested here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Constant(Constant),
    Path(Path),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// From left to right.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    Negate(Box<Expr>),
    In {
        item: Box<Expr>,
        list: Vec<Constant>,
        negated: bool,
    },
    IsDefined(Path),
    IsType(TypeTest, Box<Expr>),
    Affix {
        at_end: bool,
        text: Box<Expr>,
        affix: Box<Expr>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Undefined,
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypeTest {
    Null,
    Bool,
    Number,
    String,
    Object,
    Array,
    Primitive,
}
