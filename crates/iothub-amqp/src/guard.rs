//! A look at encoded AMQP values before the codec decodes them.
//!
//! The codec recurses as deep as the bytes say and believes element counts; a peer could overflow the stack
//! or fill the memory with one small frame. This scanner walks the bytes once, with bounded depth, allocates
//! nothing, and tells where a value ends.

/// No performative or message section of a real peer nests deeper.
const MAX_DEPTH: u8 = 24;
/// Elements of an array that take no bytes (null, true, empty list): the count alone decides the memory.
const MAX_EMPTY_ELEMENTS: usize = 1024;

/// The bytes are no AMQP value, or nest deeper than any real peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed AMQP value at byte {0}")]
pub struct Malformed(pub usize);

/// Where the value that starts at `at` ends.
pub fn end_of_value(buf: &[u8], at: usize) -> Result<usize, Malformed> {
    value(buf, at, 0)
}

/// The descriptor code of the described value at `at` (numeric or 0 for a symbolic one) and where the
/// described value itself starts.
pub fn descriptor(buf: &[u8], at: usize) -> Result<(u64, usize), Malformed> {
    if byte(buf, at)? != 0x00 {
        return Err(Malformed(at));
    }
    let code = match byte(buf, at + 1)? {
        0x53 => u64::from(byte(buf, at + 2)?),
        0x80 => {
            let bytes = buf.get(at + 2..at + 10).ok_or(Malformed(at))?;
            bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
        }
        0x44 => 0,
        _ => 0,
    };
    Ok((code, value(buf, at + 1, 0)?))
}

fn value(buf: &[u8], at: usize, depth: u8) -> Result<usize, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed(at));
    }
    match byte(buf, at)? {
        0x00 => {
            let described = value(buf, at + 1, depth + 1)?;
            value(buf, described, depth + 1)
        }
        code => after_constructor(buf, code, at + 1, depth),
    }
}

/// The high half of a constructor says how wide its value is (AMQP 1.0 part 1, 1.2).
fn after_constructor(buf: &[u8], code: u8, at: usize, depth: u8) -> Result<usize, Malformed> {
    let skip = |n: usize| match at.checked_add(n) {
        Some(end) if end <= buf.len() => Ok(end),
        _ => Err(Malformed(at)),
    };
    match code >> 4 {
        0x4 => Ok(at),
        0x5 => skip(1),
        0x6 => skip(2),
        0x7 => skip(4),
        0x8 => skip(8),
        0x9 => skip(16),
        0xA | 0xB => {
            let (len, width) = length(buf, at, code >> 4 == 0xA)?;
            skip(width + len)
        }
        0xC..=0xF => compound(buf, code, at, depth),
        _ => Err(Malformed(at)),
    }
}

fn compound(buf: &[u8], code: u8, at: usize, depth: u8) -> Result<usize, Malformed> {
    let short = matches!(code >> 4, 0xC | 0xE);
    let (size, width) = length(buf, at, short)?;
    let end = at + width + size;
    let inside = buf.get(..end).ok_or(Malformed(at))?;
    let (count, _) = length(inside, at + width, short)?;
    let mut next = at + 2 * width;
    if code >> 4 < 0xE {
        for _ in 0..count {
            next = value(inside, next, depth + 1)?;
        }
    } else {
        next = array(inside, next, count, depth)?;
    }
    if next == end { Ok(end) } else { Err(Malformed(next)) }
}

fn array(buf: &[u8], at: usize, count: usize, depth: u8) -> Result<usize, Malformed> {
    let mut code = byte(buf, at)?;
    let mut next = at + 1;
    if code == 0x00 {
        next = value(buf, next, depth + 1)?;
        code = byte(buf, next)?;
        next += 1;
    }
    if code >> 4 == 0x4 && count > MAX_EMPTY_ELEMENTS {
        return Err(Malformed(at));
    }
    if depth >= MAX_DEPTH {
        return Err(Malformed(at));
    }
    for _ in 0..count {
        next = after_constructor(buf, code, next, depth + 1)?;
    }
    Ok(next)
}

fn length(buf: &[u8], at: usize, short: bool) -> Result<(usize, usize), Malformed> {
    if short {
        return Ok((usize::from(byte(buf, at)?), 1));
    }
    let bytes = buf.get(at..at + 4).ok_or(Malformed(at))?;
    let len = bytes.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    Ok((len, 4))
}

fn byte(buf: &[u8], at: usize) -> Result<u8, Malformed> {
    buf.get(at).copied().ok_or(Malformed(at))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_amqp::{Value, to_vec};

    #[test]
    fn finds_the_end_of_what_the_codec_wrote() {
        let list = Value::List(vec![
            Value::String("a".repeat(300)),
            Value::Null,
            Value::Uint(70_000),
            Value::List(vec![Value::Bool(true)]),
        ]);
        let mut bytes = to_vec(&list).unwrap();
        let len = bytes.len();
        bytes.extend_from_slice(b"payload");
        assert_eq!(end_of_value(&bytes, 0), Ok(len));
    }

    #[test]
    fn refuses_deep_nesting_and_counts_without_bytes() {
        let deep = vec![0x00; 60_000];
        assert!(end_of_value(&deep, 0).is_err());
        // An array of 2^32-1 `true`: nine bytes that would become gigabytes.
        let bomb = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x41];
        assert!(end_of_value(&bomb, 0).is_err());
        // A list whose count exceeds what its bytes can hold.
        assert!(end_of_value(&[0xc0, 2, 200, 0x40], 0).is_err());
    }

    #[test]
    fn reads_descriptors_in_both_widths() {
        assert_eq!(descriptor(&[0, 0x53, 0x75, 0xa0, 0], 0), Ok((0x75, 3)));
        let wide = [0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x75, 0xa0, 0];
        assert_eq!(descriptor(&wide, 0), Ok((0x75, 10)));
        assert!(descriptor(&[0x40], 0).is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_never_passes_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(end) = end_of_value(&bytes, 0) {
                prop_assert!(end <= bytes.len());
            }
        }
    }
}
