//! The rules for twin keys, values and sizes (twins.md 1.2 to 1.4), for both sides: the SDK checks before it
//! sends, the local hub before it stores.

mod size;

use std::fmt;

use serde_json::Value;

use crate::error::{Error, ErrorKind};

pub use size::{check_size, section_size};

const MAX_KEY_BYTES: usize = 1024;
const MAX_STRING_BYTES: usize = 4096;
const MAX_DEPTH: usize = 10;
const INTEGERS: std::ops::RangeInclusive<i64> = -4_503_599_627_370_496..=4_503_599_627_370_495;

/// A section of a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// What the service notes about a device; devices do not see it.
    Tags,
    /// What the service wants.
    Desired,
    /// What the device says.
    Reported,
}

/// A rule of the hub, and with it what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A section is a JSON object.
    NotAnObject,
    /// No control character, `.`, `$`, `#` or space in a key.
    KeyCharacters,
    /// At most 1024 bytes in a key.
    KeyLength,
    /// At most 4096 bytes in a string.
    StringLength,
    /// Integers from -4503599627370496 to 4503599627370495.
    IntegerRange,
    /// No null in an array, nor in an object inside an array.
    NullInArray,
    /// At most ten objects or arrays inside each other.
    Depth,
    /// At most 8192 bytes of tags, 32768 of desired or reported properties.
    SectionSize,
}

/// Which rule was broken where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The section.
    pub section: Section,
    /// Where, such as `properties.reported.a.b` or `tags.list[1]`.
    pub path: String,
    /// The last key of the path, which the hub's texts name; empty for the section itself.
    pub key: String,
    /// The rule.
    pub rule: Rule,
}

/// Checks what is to be merged into a section: the keys, the values and how deep they go.
///
/// `$version` and `$metadata` are refused like any other key with `$`; the hub takes them off a service's
/// patch before it checks (twins.md 2.5). A null removes a key and is fine outside of arrays. The first
/// violation in the order of the document is reported. Integers beyond 64 bits are doubles here, and those
/// have no limits (twins.md 1.2).
///
/// # Errors
///
/// The first violation, which turns into an [`ErrorKind::InvalidInput`] with `?`.
pub fn check_patch(section: Section, patch: &Value) -> Result<(), Violation> {
    let mut walk = Walk { section, path: section.path().to_owned(), key: String::new() };
    if !patch.is_object() {
        return Err(walk.violation(Rule::NotAnObject));
    }
    walk.value(patch, 0, false)
}

struct Walk {
    section: Section,
    path: String,
    key: String,
}

impl Walk {
    /// `depth` counts the containers around `value` inside the section; deeper than ten is not looked at, so
    /// the recursion has an end whatever comes in.
    fn value(&mut self, value: &Value, depth: usize, in_array: bool) -> Result<(), Violation> {
        match value {
            Value::Object(_) | Value::Array(_) if depth > MAX_DEPTH => Err(self.violation(Rule::Depth)),
            Value::Object(members) => {
                members.iter().try_for_each(|(key, value)| self.member(key, value, depth, in_array))
            }
            Value::Array(elements) => elements.iter().enumerate().try_for_each(|(index, value)| {
                self.at(&format!("[{index}]"), |w| w.value(value, depth + 1, true))
            }),
            Value::String(text) if text.len() > MAX_STRING_BYTES => Err(self.violation(Rule::StringLength)),
            Value::Number(number) if is_integer_out_of_range(number) => {
                Err(self.violation(Rule::IntegerRange))
            }
            Value::Null if in_array => Err(self.violation(Rule::NullInArray)),
            _ => Ok(()),
        }
    }

    fn member(&mut self, key: &str, value: &Value, depth: usize, in_array: bool) -> Result<(), Violation> {
        let outer = std::mem::replace(&mut self.key, key.to_owned());
        self.at(&format!(".{key}"), |walk| {
            check_key(key).map_err(|rule| walk.violation(rule))?;
            walk.value(value, depth + 1, in_array)
        })?;
        self.key = outer;
        Ok(())
    }

    /// Goes one step down the path for the time of `check`.
    fn at(
        &mut self,
        step: &str,
        check: impl FnOnce(&mut Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let length = self.path.len();
        self.path.push_str(step);
        check(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn violation(&self, rule: Rule) -> Violation {
        Violation { section: self.section, path: self.path.clone(), key: self.key.clone(), rule }
    }
}

/// The empty key is fine (twins.md 1.2).
fn check_key(key: &str) -> Result<(), Rule> {
    if key.chars().any(|c| c.is_control() || matches!(c, '.' | '$' | '#' | ' ')) {
        return Err(Rule::KeyCharacters);
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(Rule::KeyLength);
    }
    Ok(())
}

fn is_integer_out_of_range(number: &serde_json::Number) -> bool {
    match (number.as_i64(), number.is_u64()) {
        (Some(integer), _) => !INTEGERS.contains(&integer),
        (None, beyond_i64) => beyond_i64,
    }
}

impl Section {
    /// How paths into the section start: `tags`, `properties.desired`, `properties.reported`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Desired => "properties.desired",
            Self::Reported => "properties.reported",
        }
    }

    /// The most bytes it may hold, counted as [`section_size`] does: 8192 for tags, 32768 otherwise.
    #[must_use]
    pub fn max_size(self) -> usize {
        match self {
            Self::Tags => 8 * 1024,
            Self::Desired | Self::Reported => 32 * 1024,
        }
    }

    fn hub_name(self) -> &'static str {
        match self {
            Self::Tags => "Tags",
            Self::Desired => "Properties.Desired",
            Self::Reported => "Properties.Reported",
        }
    }
}

impl Violation {
    /// The status the hub answers with: 400, or 403 for a section that grew too large.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.rule == Rule::SectionSize { 403 } else { 400 }
    }

    /// The hub's error code: 400004, or 403100 for a section that grew too large.
    #[must_use]
    pub fn error_code(&self) -> u32 {
        if self.rule == Rule::SectionSize { 403_100 } else { 400_004 }
    }

    /// The hub's text for it. Those marked in twins.md 1.4 as seen are word for word the real hub's.
    #[must_use]
    pub fn hub_text(&self) -> String {
        let key = &self.key;
        match self.rule {
            Rule::NotAnObject => format!("'{}' must be an object.", self.section.hub_name()),
            Rule::KeyCharacters => format!(
                "Property or Tag name has invalid characters. Error in Property/Tag {key}. Must not contain \
                 Control Characters, '.', '$', '#', or ' '."
            ),
            Rule::KeyLength => {
                format!("Property or Tag name should be maximum 1024 bytes. Error in Property/Tag {key}.")
            }
            Rule::StringLength => {
                format!("Property or Tag value should be maximum 4096 bytes. Error in Property/Tag {key}.")
            }
            Rule::IntegerRange => format!(
                "Property or Tag value should be between -4503599627370496 and 4503599627370495. Error in \
                 Property/Tag {key}."
            ),
            Rule::NullInArray => {
                format!("Value of Property or Tag cannot be null. Error inProperty/Tag {key}")
            }
            Rule::Depth => {
                format!("Property or Tag should be maximum 10 levels deep. Error in Property/Tag {key}.")
            }
            Rule::SectionSize => {
                format!(
                    "'{}' size should be less than {} bytes.",
                    self.section.hub_name(),
                    self.section.max_size()
                )
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", Shown(&self.path), self.what())
    }
}

impl Violation {
    fn what(&self) -> String {
        match self.rule {
            Rule::NotAnObject => "is not a JSON object".to_owned(),
            Rule::KeyCharacters => {
                let bad = self.key.chars().find(|&c| check_key(c.encode_utf8(&mut [0; 4])).is_err());
                let bad = bad.map(|c| format!("{c:?}")).unwrap_or_default();
                format!("has {bad} in a key; keys must not hold control characters, '.', '$', '#' or ' '")
            }
            Rule::KeyLength => {
                format!("has a key of {} bytes, at most {MAX_KEY_BYTES} are allowed", self.key.len())
            }
            Rule::StringLength => format!("is a string of more than {MAX_STRING_BYTES} bytes"),
            Rule::IntegerRange => {
                format!("is an integer outside of {} to {}", INTEGERS.start(), INTEGERS.end())
            }
            Rule::NullInArray => "is null inside an array, which the hub does not store".to_owned(),
            Rule::Depth => format!("is more than {MAX_DEPTH} levels deep"),
            Rule::SectionSize => {
                format!("would be larger than {} bytes, counting keys and values", self.section.max_size())
            }
        }
    }
}

/// A path that fits into a message: control characters escaped, long keys cut.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 200;
        for c in self.0.chars().take(MOST) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if self.0.chars().nth(MOST).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

impl std::error::Error for Violation {}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::new(ErrorKind::InvalidInput, format!("twin update refused before it was sent: {violation}"))
    }
}

#[cfg(test)]
mod tests;
