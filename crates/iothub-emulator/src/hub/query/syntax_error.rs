//! What is wrong with a query, and where.

use std::fmt;

use crate::hub::error::{ErrorCode, HubError};

/// How much of the query an error repeats.
const MOST_INPUT: usize = 40;

/// Both count from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    line: u32,
    column: u32,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) fn step_over(&mut self, text: &str) {
        for c in text.chars() {
            if c == '\n' {
                *self = Self { line: self.line + 1, column: 1 };
            } else {
                self.column += 1;
            }
        }
    }
}

/// `Line 1:29 Unexpected character at input 'SELECT'`: the real hub's wording (twins.md 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct SyntaxError {
    at: Position,
    what: String,
    input: String,
    hint: Option<&'static str>,
}

impl SyntaxError {
    pub(super) fn new(at: Position, what: impl Into<String>, input: &str) -> Self {
        let mut shown: String = input.chars().take(MOST_INPUT).collect();
        if input.chars().nth(MOST_INPUT).is_some() {
            shown.push('…');
        }
        Self { at, what: what.into(), input: shown.replace(char::is_control, " "), hint: None }
    }

    /// Adds what would be right.
    pub(super) fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.at;
        f.write_str("SQL query parse failed due to following errors: ")?;
        write!(f, "Line {line}:{column} {} at input '{}'", self.what, self.input)?;
        match self.hint {
            Some(hint) => write!(f, ", {hint}"),
            None => Ok(()),
        }
    }
}

impl From<SyntaxError> for HubError {
    fn from(error: SyntaxError) -> Self {
        Self::new(ErrorCode::ArgumentInvalid, error.to_string())
    }
}
