//! From the text of a query to its tokens.

use super::syntax_error::{Position, SyntaxError};

/// A word of the language and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: Position,
    /// As it was written, for errors.
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Keywords, names of functions and of members: which it is says the place.
    Name(String),
    /// `[[…]]`: always the name of a member.
    Bracketed(String),
    Number(f64),
    Text(String),
    Symbol(&'static str),
    End,
}

/// Longer ones first.
const SYMBOLS: [&str; 19] =
    ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ",", ".", "*", "+", "-", "/", "%", "[", "]", ";"];

/// All tokens, an [`Kind::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut lexer = Lexer { rest: text, at: Position::START };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == Kind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<Token, SyntaxError> {
        let spaces = self.rest.len() - self.rest.trim_start().len();
        self.take(spaces);
        let at = self.at;
        let before = self.rest;
        let kind = self.kind()?;
        let text = before[..before.len() - self.rest.len()].to_owned();
        Ok(Token { kind, at, text })
    }

    fn kind(&mut self) -> Result<Kind, SyntaxError> {
        let Some(first) = self.rest.chars().next() else { return Ok(Kind::End) };
        if self.rest.starts_with("[[") {
            return self.bracketed();
        }
        if first == '\'' || first == '"' {
            return self.quoted(first);
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if is_name_start(first) {
            let end = self.rest.find(|c| !is_name_part(c)).unwrap_or(self.rest.len());
            return Ok(Kind::Name(self.take(end).to_owned()));
        }
        match SYMBOLS.into_iter().find(|symbol| self.rest.starts_with(symbol)) {
            Some(symbol) => {
                self.take(symbol.len());
                Ok(Kind::Symbol(symbol))
            }
            None => Err(self.unexpected(first.len_utf8())),
        }
    }

    fn bracketed(&mut self) -> Result<Kind, SyntaxError> {
        let Some(length) = self.rest[2..].find("]]") else {
            return Err(self.error("No closing ']]'", self.rest.len()));
        };
        let name = self.take(length + 4);
        Ok(Kind::Bracketed(name[2..length + 2].to_owned()))
    }

    /// Decimal with an exponent or not, or `0xHEX`.
    fn number(&mut self) -> Result<Kind, SyntaxError> {
        // A number ends where a name would, so that `12abc` is one wrong word.
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(&byte) = bytes.get(end) {
            let sign_of_exponent = matches!(byte, b'+' | b'-')
                && end > 0
                && matches!(bytes[end - 1], b'e' | b'E')
                && !self.rest.starts_with("0x")
                && !self.rest.starts_with("0X");
            if !(byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || sign_of_exponent) {
                break;
            }
            end += 1;
        }
        let text = &self.rest[..end];
        let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => hex_number(hex),
            None => text.parse::<f64>().ok().filter(|value| value.is_finite()),
        };
        match value {
            Some(value) => {
                self.take(end);
                Ok(Kind::Number(value))
            }
            None => Err(self.error("Not a number", end)),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, SyntaxError> {
        let start = Self { rest: self.rest, at: self.at };
        let mut text = String::new();
        self.take(1);
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(start.error("No closing quote", start.rest.len()));
            };
            if c == '\\' {
                text.push(self.escape()?);
                continue;
            }
            self.take(c.len_utf8());
            if c == quote {
                return Ok(Kind::Text(text));
            }
            text.push(c);
        }
    }

    /// The character an escape stands for.
    fn escape(&mut self) -> Result<char, SyntaxError> {
        let simple = match self.rest[1..].chars().next() {
            Some(c @ ('\'' | '"' | '\\' | '/')) => Some(c),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            _ => None,
        };
        if let Some(c) = simple {
            self.take(2);
            return Ok(c);
        }
        let (unit, length) = match (unicode_escape(self.rest), self.rest.get(6..).and_then(unicode_escape)) {
            // Beyond the first 65,536 characters it takes two.
            (Some(high @ 0xD800..0xDC00), Some(low @ 0xDC00..0xE000)) => {
                (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12)
            }
            (Some(unit), _) => (unit, 6),
            (None, _) => return Err(self.error("Unknown escape", 2)),
        };
        let Some(c) = char::from_u32(unit) else { return Err(self.error("Half a character", length)) };
        self.take(length);
        Ok(c)
    }

    /// Steps over so many bytes.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at.step_over(taken);
        self.rest = rest;
        taken
    }

    fn unexpected(&self, bytes: usize) -> SyntaxError {
        self.error("Unexpected character", bytes)
    }

    fn error(&self, what: &str, bytes: usize) -> SyntaxError {
        // An error may point at what the query has no more of, or at half a character.
        let input = self.rest.get(..bytes).unwrap_or(self.rest);
        SyntaxError::new(self.at, what, input)
    }
}

/// The code unit of a leading `\uXXXX`.
fn unicode_escape(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Up to 64 bits.
fn hex_number(digits: &str) -> Option<f64> {
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')).map(|value| value as f64)
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn is_name_part(c: char) -> bool {
    is_name_start(c) || c.is_numeric()
}
