//! Nothing is measured.

/// Messages that wait in a buffer.
#[derive(Debug)]
pub(crate) struct Waiting;

impl Waiting {
    #[inline]
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn set(&mut self, _messages: usize) {}
}

#[inline]
pub(crate) fn buffer_sent() {}

#[inline]
pub(crate) fn buffer_dropped(_messages: u64) {}

#[inline]
pub(crate) fn buffer_refused() {}
