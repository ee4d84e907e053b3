//! How large a section may become.

use std::io;

use iothub_common::twin_rules::{Rule, Section, Violation, section_size};
use serde_json::Value;

use super::tree::Branch;

/// The hub counts keys and values only, so `[[],[],…]` would count nothing however long it is. What a section
/// really takes is therefore limited too, to this many times its counted size (inferred).
const TEXT_FACTOR: usize = 8;

/// Refuses a section that is too large, if it became larger (twins.md 1.3).
pub(super) fn check(section: Section, before: &Branch, after: &Branch) -> Result<(), Violation> {
    let after = Size::of(after);
    let most = Size { counted: section.max_size(), text: section.max_size() * TEXT_FACTOR };
    if after.fits(most) || after.fits(Size::of(before)) {
        return Ok(());
    }
    Err(Violation { section, path: section.path().to_owned(), key: String::new(), rule: Rule::SectionSize })
}

#[derive(Clone, Copy)]
struct Size {
    /// As the hub counts.
    counted: usize,
    /// As JSON text.
    text: usize,
}

impl Size {
    fn of(branch: &Branch) -> Self {
        let values = Value::Object(branch.values());
        let mut text = Counter(0);
        // Values of JSON always have a text, and counting cannot fail.
        let _ = serde_json::to_writer(&mut text, &values);
        Self { counted: section_size(&values), text: text.0 }
    }

    fn fits(self, most: Self) -> bool {
        self.counted <= most.counted && self.text <= most.text
    }
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
