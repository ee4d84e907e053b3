//! How the hub counts the size of a section (twins.md 1.3).

use serde_json::Value;

use super::{Rule, Section, Violation};

/// The size of a section: keys and strings in UTF-8 bytes without control characters, 8 for a number, 4 for
/// a boolean, objects and arrays what is in them. `$version` and `$metadata` of the section do not count.
#[must_use]
pub fn section_size(section: &Value) -> usize {
    let Value::Object(members) = section else { return 0 };
    let counted = members.iter().filter(|(key, _)| *key != "$version" && *key != "$metadata");
    let mut size = 0;
    // A list of what is left to count in place of recursion: a value made in code can be of any depth.
    let mut left: Vec<&Value> = Vec::new();
    for (key, value) in counted {
        size += text_size(key);
        left.push(value);
    }
    while let Some(value) = left.pop() {
        match value {
            Value::Null => {}
            Value::Bool(_) => size += 4,
            Value::Number(_) => size += 8,
            Value::String(text) => size += text_size(text),
            Value::Array(elements) => left.extend(elements),
            Value::Object(members) => {
                size += members.keys().map(|key| text_size(key)).sum::<usize>();
                left.extend(members.values());
            }
        }
    }
    size
}

fn text_size(text: &str) -> usize {
    text.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum()
}

/// Checks the size of a section as it would be after an update.
///
/// The hub refuses only what makes a section larger (twins.md 1.3): whoever shrinks one does not ask.
///
/// # Errors
///
/// A [`Rule::SectionSize`] violation.
pub fn check_size(section: Section, content: &Value) -> Result<(), Violation> {
    if section_size(content) <= section.max_size() {
        return Ok(());
    }
    Err(Violation { section, path: section.path().to_owned(), key: String::new(), rule: Rule::SectionSize })
}
