//! What all parts of the parser share: the tokens and where it is in them.

use super::lexer::{self, Kind, Token};
use super::path::Path;
use super::syntax::Source;
use super::syntax_error::SyntaxError;

/// How deep parentheses, NOT, signs and arrays may be nested, so that hostile text does not use up the stack.
const MAX_DEPTH: usize = 50;

/// Names of members must not be these, except in double brackets.
const KEYWORDS: [&str; 16] = [
    "SELECT",
    "TOP",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "NIN",
    "TRUE",
    "FALSE",
    "NULL",
    "UNDEFINED",
];

pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    /// What paths are resolved against.
    pub(super) source: Source,
}

/// The names of a path before its source is known, and where it starts.
pub(super) struct RawPath {
    pub(super) names: Vec<String>,
    pub(super) start: Token,
}

impl Parser {
    pub(super) fn new(text: &str) -> Result<Self, SyntaxError> {
        Ok(Self { tokens: lexer::tokens(text)?, next: 0, depth: 0, source: Source::Devices })
    }

    pub(super) fn peek(&self) -> &Token {
        // The last token is an End, which is never stepped over.
        &self.tokens[self.next]
    }

    /// Steps over the next token and gives it.
    pub(super) fn step(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// Whether the next token but one is this symbol.
    pub(super) fn is_followed_by(&self, symbol: &str) -> bool {
        matches!(self.tokens.get(self.next + 1), Some(Token { kind: Kind::Symbol(found), .. }) if *found == symbol)
    }

    /// Steps over the symbol when it is next.
    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek().kind, Kind::Symbol(found) if found == symbol);
        if found {
            self.step();
        }
        found
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str, hint: &'static str) -> Result<(), SyntaxError> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.unexpected(hint)) }
    }

    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(&self.peek().kind, Kind::Name(name) if name.eq_ignore_ascii_case(keyword))
    }

    /// Steps over the keyword when it is next.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        if found {
            self.step();
        }
        found
    }

    pub(super) fn expect_keyword(&mut self, keyword: &str, hint: &'static str) -> Result<(), SyntaxError> {
        if self.keyword(keyword) { Ok(()) } else { Err(self.unexpected(hint)) }
    }

    /// The name of a member.
    pub(super) fn name(&mut self, hint: &'static str) -> Result<String, SyntaxError> {
        let name = match &self.peek().kind {
            Kind::Name(name) if !is_keyword(name) => name.clone(),
            Kind::Name(_) => return Err(self.unexpected("a keyword is a name only in double brackets")),
            Kind::Bracketed(name) => name.clone(),
            _ => return Err(self.unexpected(hint)),
        };
        self.step();
        Ok(name)
    }

    pub(super) fn raw_path(&mut self) -> Result<RawPath, SyntaxError> {
        let start = self.peek().clone();
        let mut names = vec![self.name("expected a path, like tags.color")?];
        while self.symbol(".") {
            names.push(self.name("expected the name of a member")?);
        }
        Ok(RawPath { names, start })
    }

    pub(super) fn path(&mut self) -> Result<Path, SyntaxError> {
        let raw = self.raw_path()?;
        self.resolve(raw)
    }

    pub(super) fn resolve(&self, raw: RawPath) -> Result<Path, SyntaxError> {
        Path::resolve(self.source, raw.names).ok_or_else(|| {
            refusal(&raw.start, "Not a member of a device job")
                .hint("devices.jobs has no conditions on twins")
        })
    }

    /// Does `inner` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        if self.depth >= MAX_DEPTH {
            return Err(refusal(self.peek(), "Too deeply nested"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// The next token has no place here.
    pub(super) fn unexpected(&self, hint: &'static str) -> SyntaxError {
        let token = self.peek();
        let what = if token.kind == Kind::End { "Unexpected end" } else { "Unexpected character" };
        refusal(token, what).hint(hint)
    }
}

/// Something is wrong with this token.
pub(super) fn refusal(token: &Token, what: &str) -> SyntaxError {
    SyntaxError::new(token.at, what, &token.text)
}

fn is_keyword(name: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name))
}
