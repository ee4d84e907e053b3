//! Messages that tell whether they arrived whole and in order: a number, then bytes that follow from it.

/// The number in four bytes, highest first, then `number + position` in each byte, modulo 256.
pub(crate) fn body(number: u32, size: usize) -> Vec<u8> {
    let mut body: Vec<u8> = (0..size).map(|at| (number as usize + at) as u8).collect();
    body[..4].copy_from_slice(&number.to_be_bytes());
    body
}

/// The number of a body that is whole.
pub(crate) fn number(body: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(body.get(..4)?.try_into().ok()?);
    let rest = &body[4..];
    let whole = rest.iter().enumerate().all(|(at, byte)| *byte == (number as usize + at + 4) as u8);
    whole.then_some(number)
}

#[test]
fn a_changed_byte_and_a_missing_start_are_noticed() {
    let mut sound = body(300, 64);
    assert_eq!(number(&sound), Some(300));
    sound[63] ^= 1;
    assert_eq!(number(&sound), None);
    assert_eq!(number(&sound[..3]), None);
}
