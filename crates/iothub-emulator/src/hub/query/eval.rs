//! Evaluates conditions on a row. Only `true` selects; what is compared with a missing value is neither true
//! nor false (twins.md 5.1).

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::row::Row;
use super::syntax::{Comparison, Constant, Expr, Operator, TypeTest};

/// A value as far as conditions can tell: the contents of arrays and objects cannot be compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    Array,
    Object,
}

impl Expr {
    /// Whether the row is selected.
    pub(super) fn selects(&self, row: &Row<'_>) -> bool {
        self.eval(row) == Datum::Bool(true)
    }

    fn eval<'a>(&'a self, row: &Row<'a>) -> Datum<'a> {
        match self {
            Self::Constant(constant) => Datum::from(constant),
            Self::Path(path) => row.datum(path),
            Self::Not(inner) => match inner.eval(row) {
                Datum::Bool(value) => Datum::Bool(!value),
                _ => Datum::Undefined,
            },
            Self::And(terms) => decide(terms, row, false),
            Self::Or(terms) => decide(terms, row, true),
            Self::Compare(comparison, left, right) => {
                Datum::from(compare(*comparison, &left.eval(row), &right.eval(row)))
            }
            Self::Arithmetic(first, rest) => {
                let number = |expr: &'a Self| match expr.eval(row) {
                    Datum::Number(number) => Some(number),
                    _ => None,
                };
                let result = rest.iter().try_fold(number(first), |left, (operator, right)| {
                    Some(Some(calculate(*operator, left?, number(right)?)?))
                });
                result.flatten().map_or(Datum::Undefined, Datum::Number)
            }
            Self::Negate(inner) => match inner.eval(row) {
                Datum::Number(number) => Datum::Number(-number),
                _ => Datum::Undefined,
            },
            Self::In { item, list, negated } => {
                let item = item.eval(row);
                if item == Datum::Undefined {
                    return Datum::Undefined;
                }
                let is_in = list.iter().any(|element| equal(&item, &Datum::from(element)) == Some(true));
                Datum::Bool(is_in != *negated)
            }
            Self::IsDefined(path) => Datum::Bool(row.datum(path) != Datum::Undefined),
            Self::IsType(test, inner) => Datum::Bool(test.holds(&inner.eval(row))),
            Self::Affix { at_end, text, affix } => match (text.eval(row), affix.eval(row)) {
                (Datum::Text(text), Datum::Text(affix)) if *at_end => Datum::Bool(text.ends_with(&*affix)),
                (Datum::Text(text), Datum::Text(affix)) => Datum::Bool(text.starts_with(&*affix)),
                _ => Datum::Undefined,
            },
        }
    }
}

/// AND is decided by the first false, OR by the first true. What is neither makes the rest undecided.
fn decide<'a>(terms: &'a [Expr], row: &Row<'a>, decisive: bool) -> Datum<'a> {
    let mut undecided = false;
    for term in terms {
        match term.eval(row) {
            Datum::Bool(value) if value == decisive => return Datum::Bool(decisive),
            Datum::Bool(_) => {}
            _ => undecided = true,
        }
    }
    if undecided { Datum::Undefined } else { Datum::Bool(!decisive) }
}

fn compare(comparison: Comparison, left: &Datum<'_>, right: &Datum<'_>) -> Option<bool> {
    let holds = match comparison {
        Comparison::Equal => return equal(left, right),
        Comparison::NotEqual => return equal(left, right).map(|equal| !equal),
        Comparison::Less => Ordering::is_lt,
        Comparison::LessOrEqual => Ordering::is_le,
        Comparison::Greater => Ordering::is_gt,
        Comparison::GreaterOrEqual => Ordering::is_ge,
    };
    order(left, right).map(holds)
}

/// Values of different types are different; two arrays or two objects cannot be compared.
fn equal(left: &Datum<'_>, right: &Datum<'_>) -> Option<bool> {
    match (left, right) {
        (Datum::Undefined, _) | (_, Datum::Undefined) => None,
        (Datum::Array, Datum::Array) | (Datum::Object, Datum::Object) => None,
        (left, right) => Some(left == right),
    }
}

/// Numbers by value, texts by their characters, false before true; nothing else has an order.
pub(super) fn order(left: &Datum<'_>, right: &Datum<'_>) -> Option<Ordering> {
    match (left, right) {
        (Datum::Number(left), Datum::Number(right)) => left.partial_cmp(right),
        (Datum::Text(left), Datum::Text(right)) => Some(left.cmp(right)),
        (Datum::Bool(left), Datum::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// What is no number, like a division by zero, is no value.
fn calculate(operator: Operator, left: f64, right: f64) -> Option<f64> {
    let result = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Remainder => left % right,
    };
    result.is_finite().then_some(result)
}

impl TypeTest {
    fn holds(self, datum: &Datum<'_>) -> bool {
        match self {
            Self::Null => *datum == Datum::Null,
            Self::Bool => matches!(datum, Datum::Bool(_)),
            Self::Number => matches!(datum, Datum::Number(_)),
            Self::String => matches!(datum, Datum::Text(_)),
            Self::Object => *datum == Datum::Object,
            Self::Array => *datum == Datum::Array,
            Self::Primitive => !matches!(datum, Datum::Undefined | Datum::Array | Datum::Object),
        }
    }
}

impl<'a> From<&'a Constant> for Datum<'a> {
    fn from(constant: &'a Constant) -> Self {
        match constant {
            Constant::Undefined => Self::Undefined,
            Constant::Value(value) => Self::from(value),
        }
    }
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => number.as_f64().map_or(Self::Undefined, Self::Number),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}

impl Datum<'_> {
    /// The same without what it borrows.
    pub(super) fn into_owned(self) -> Datum<'static> {
        match self {
            Self::Undefined => Datum::Undefined,
            Self::Null => Datum::Null,
            Self::Bool(value) => Datum::Bool(value),
            Self::Number(number) => Datum::Number(number),
            Self::Text(text) => Datum::Text(Cow::Owned(text.into_owned())),
            Self::Array => Datum::Array,
            Self::Object => Datum::Object,
        }
    }
}

impl From<Option<bool>> for Datum<'_> {
    fn from(value: Option<bool>) -> Self {
        value.map_or(Self::Undefined, Self::Bool)
    }
}
