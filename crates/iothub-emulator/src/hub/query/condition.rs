//! Parses conditions: what may stand after WHERE. Binds from loose to tight: OR, AND, NOT, comparisons and IN,
//! `+ -`, `* / %`, signs.

use super::lexer::{Kind, Token};
use super::parser::{Parser, refusal};
use super::syntax::{Comparison, Constant, Expr, Operator, TypeTest};
use super::syntax_error::SyntaxError;
use serde_json::Value;

type Parsed = Result<Expr, SyntaxError>;

const OPERAND: &str = "expected a path, a constant, a function or '('";

impl Parser {
    pub(super) fn condition(&mut self) -> Parsed {
        let mut terms = vec![self.conjunction()?];
        while self.keyword("OR") {
            terms.push(self.conjunction()?);
        }
        Ok(single_or(terms, Expr::Or))
    }

    fn conjunction(&mut self) -> Parsed {
        let mut terms = vec![self.negation()?];
        while self.keyword("AND") {
            terms.push(self.negation()?);
        }
        Ok(single_or(terms, Expr::And))
    }

    fn negation(&mut self) -> Parsed {
        if self.keyword("NOT") {
            return Ok(Expr::Not(Box::new(self.nested(Self::negation)?)));
        }
        self.comparison()
    }

    /// Does not chain: `a = b = c` is an error.
    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        if let Some(comparison) = self.comparison_sign() {
            let right = self.sum()?;
            return Ok(Expr::Compare(comparison, Box::new(left), Box::new(right)));
        }
        let negated = self.is_keyword("NIN");
        if negated || self.is_keyword("IN") {
            self.step();
            let list = self.array()?;
            return Ok(Expr::In { item: Box::new(left), list, negated });
        }
        Ok(left)
    }

    fn comparison_sign(&mut self) -> Option<Comparison> {
        let comparison = match self.peek().kind {
            Kind::Symbol("=") => Comparison::Equal,
            Kind::Symbol("!=" | "<>") => Comparison::NotEqual,
            Kind::Symbol("<") => Comparison::Less,
            Kind::Symbol("<=") => Comparison::LessOrEqual,
            Kind::Symbol(">") => Comparison::Greater,
            Kind::Symbol(">=") => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.step();
        Some(comparison)
    }

    fn sum(&mut self) -> Parsed {
        self.chain(Self::product, &[("+", Operator::Add), ("-", Operator::Subtract)])
    }

    fn product(&mut self) -> Parsed {
        let operators = [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)];
        self.chain(Self::signed, &operators)
    }

    fn chain(&mut self, operand: fn(&mut Self) -> Parsed, operators: &[(&str, Operator)]) -> Parsed {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(&(_, operator)) = operators.iter().find(|(symbol, _)| self.symbol(symbol)) {
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) })
    }

    fn signed(&mut self) -> Parsed {
        if self.symbol("-") {
            return Ok(Expr::Negate(Box::new(self.nested(Self::signed)?)));
        }
        self.operand()
    }

    fn operand(&mut self) -> Parsed {
        match &self.peek().kind {
            Kind::Symbol("(") => {
                self.step();
                let inner = self.nested(Self::condition)?;
                self.expect_symbol(")", "expected ')'")?;
                Ok(inner)
            }
            Kind::Name(_) if self.is_followed_by("(") => self.function(),
            Kind::Name(_) if !self.is_constant_word() => self.path().map(Expr::Path),
            Kind::Bracketed(_) => self.path().map(Expr::Path),
            _ => self.constant().map(Expr::Constant),
        }
    }

    fn is_constant_word(&self) -> bool {
        ["TRUE", "FALSE", "NULL", "UNDEFINED"].iter().any(|word| self.is_keyword(word))
    }

    fn constant(&mut self) -> Result<Constant, SyntaxError> {
        let value = match &self.peek().kind {
            Kind::Number(number) => Value::from(*number),
            Kind::Text(text) => Value::from(text.as_str()),
            Kind::Name(_) if self.is_keyword("TRUE") => Value::Bool(true),
            Kind::Name(_) if self.is_keyword("FALSE") => Value::Bool(false),
            Kind::Name(_) if self.is_keyword("NULL") => Value::Null,
            Kind::Name(_) if self.is_keyword("UNDEFINED") => {
                self.step();
                return Ok(Constant::Undefined);
            }
            Kind::Symbol("[") => {
                let elements = self.array()?.into_iter().filter_map(|element| match element {
                    Constant::Value(value) => Some(value),
                    Constant::Undefined => None,
                });
                return Ok(Constant::Value(elements.collect()));
            }
            Kind::Symbol("-") => {
                self.step();
                let Kind::Number(number) = self.peek().kind else {
                    return Err(self.unexpected("expected a number"));
                };
                Value::from(-number)
            }
            _ => return Err(self.unexpected(OPERAND)),
        };
        self.step();
        Ok(Constant::Value(value))
    }

    /// Constants in brackets, at least one.
    fn array(&mut self) -> Result<Vec<Constant>, SyntaxError> {
        self.expect_symbol("[", "expected constants in brackets, like ['a', 'b']")?;
        let mut elements = vec![self.nested(Self::constant)?];
        while self.symbol(",") {
            elements.push(self.nested(Self::constant)?);
        }
        self.expect_symbol("]", "expected ',' or ']'")?;
        Ok(elements)
    }

    /// Functions are those of the hub's twin queries, and the type tests of message routes (twins.md 5.1).
    fn function(&mut self) -> Parsed {
        let name = self.step();
        self.expect_symbol("(", "expected '('")?;
        let function = match name.text.to_ascii_uppercase().as_str() {
            "IS_DEFINED" => Expr::IsDefined(self.path()?),
            "STARTSWITH" | "STARTS_WITH" => self.affix(false)?,
            "ENDSWITH" | "ENDS_WITH" => self.affix(true)?,
            other => match type_test(other) {
                Some(test) => Expr::IsType(test, Box::new(self.nested(Self::condition)?)),
                None => return Err(unknown_function(&name)),
            },
        };
        self.expect_symbol(")", "expected ')'")?;
        Ok(function)
    }

    fn affix(&mut self, at_end: bool) -> Parsed {
        let text = Box::new(self.nested(Self::condition)?);
        self.expect_symbol(",", "expected ',' and the text to look for")?;
        let affix = Box::new(self.nested(Self::condition)?);
        Ok(Expr::Affix { at_end, text, affix })
    }
}

fn type_test(name: &str) -> Option<TypeTest> {
    Some(match name {
        "IS_NULL" => TypeTest::Null,
        "IS_BOOL" => TypeTest::Bool,
        "IS_NUMBER" => TypeTest::Number,
        "IS_STRING" => TypeTest::String,
        "IS_OBJECT" => TypeTest::Object,
        "IS_ARRAY" => TypeTest::Array,
        "IS_PRIMITIVE" => TypeTest::Primitive,
        _ => return None,
    })
}

fn unknown_function(name: &Token) -> SyntaxError {
    refusal(name, "Unknown function").hint("known are IS_DEFINED, IS_NULL and the like, STARTSWITH, ENDSWITH")
}

/// A chain of one is its element.
fn single_or(mut terms: Vec<Expr>, chain: fn(Vec<Expr>) -> Expr) -> Expr {
    if terms.len() > 1 {
        return chain(terms);
    }
    // The callers put the first in before they look for more.
    terms.pop().unwrap_or_else(|| chain(Vec::new()))
}
