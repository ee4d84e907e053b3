//! The body of a Put Block List: `<BlockList><Latest>id</Latest>…</BlockList>`.

use super::error::{self, StorageError};

/// Where a block is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Committed,
    Uncommitted,
    /// Uncommitted, else committed.
    Latest,
}

/// One block of the blob to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    pub(super) place: Place,
    pub(super) id: &'a str,
}

/// Reads the list. Ids are base64, so nothing in it is ever escaped; attributes and comments are not taken.
pub(super) fn parse(xml: &str) -> Result<Vec<Listed<'_>>, StorageError> {
    let mut rest = xml.trim_start_matches('\u{feff}').trim();
    if let Some(declaration) = rest.strip_prefix("<?xml") {
        rest = declaration.split_once("?>").ok_or_else(error::bad_list)?.1.trim_start();
    }
    if matches!(rest, "<BlockList/>" | "<BlockList />") {
        return Ok(Vec::new());
    }
    rest = rest.strip_prefix("<BlockList>").ok_or_else(error::bad_list)?;
    let mut list = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(end) = rest.strip_prefix("</BlockList>") {
            return if end.trim().is_empty() { Ok(list) } else { Err(error::bad_list()) };
        }
        let (listed, after) = element(rest).ok_or_else(error::bad_list)?;
        list.push(listed);
        rest = after;
    }
}

fn element(text: &str) -> Option<(Listed<'_>, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let place = match name {
        "Latest" => Place::Latest,
        "Committed" => Place::Committed,
        "Uncommitted" => Place::Uncommitted,
        _ => return None,
    };
    let (id, rest) = rest.split_once("</")?;
    let rest = rest.strip_prefix(name)?.strip_prefix('>')?;
    Some((Listed { place, id: id.trim() }, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_order() {
        let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n  <Latest>YQ==</Latest>\
                   <Committed> Yg== </Committed>\n<Uncommitted>Yw==</Uncommitted></BlockList>\n";
        let expected = [(Place::Latest, "YQ=="), (Place::Committed, "Yg=="), (Place::Uncommitted, "Yw==")];
        assert_eq!(parse(xml).unwrap(), expected.map(|(place, id)| Listed { place, id }));
        assert_eq!(parse("<BlockList></BlockList>").unwrap(), []);
        assert_eq!(parse("<BlockList />").unwrap(), []);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for xml in [
            "",
            "<BlockList>",
            "<BlockList><Latest>YQ==</Latest>",
            "<BlockList><Latest>YQ==</Committed></BlockList>",
            "<BlockList><Newest>YQ==</Newest></BlockList>",
            "<BlockList></BlockList><BlockList></BlockList>",
            "{}",
        ] {
            assert_eq!(parse(xml).unwrap_err().code, "InvalidXmlDocument", "{xml}");
        }
    }
}
