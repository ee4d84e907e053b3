//! The common name in a certificate's subject: as much of DER as that takes (RFC 5280 4.1).

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The optional version comes first in what is signed, in a tag of its own.
const VERSION: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// The string types for names: UTF-8, printable and IA5. The other two are history.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The last common name of the subject, which is the most specific one. `None` when there is none that is text.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let mut certificate = Reader(Reader(certificate).take(SEQUENCE)?);
    let mut signed = Reader(certificate.take(SEQUENCE)?);
    if signed.peek() == Some(VERSION) {
        signed.next()?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        signed.next()?;
    }
    let mut subject = Reader(signed.take(SEQUENCE)?);
    let mut found = None;
    while !subject.0.is_empty() {
        let mut relative = Reader(subject.take(SET)?);
        while !relative.0.is_empty() {
            let mut attribute = Reader(relative.take(SEQUENCE)?);
            let kind = attribute.take(OBJECT_IDENTIFIER)?;
            let (tag, value) = attribute.next()?;
            if kind == COMMON_NAME && STRINGS.contains(&tag) {
                found = std::str::from_utf8(value).ok().map(str::to_owned);
            }
        }
    }
    found
}

/// The values that follow one another in some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next value, which must be of this kind.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// Tag and content of the next value. Lengths beyond what a certificate has are none.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x83 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte))
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }
}
