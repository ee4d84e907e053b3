//! Nothing is measured.

use iothub_common::Error;

/// A call that is under way.
pub(super) struct Timer;

impl Timer {
    #[inline]
    pub(super) fn start(_name: &'static str) -> Self {
        Self
    }

    #[inline]
    pub(super) fn end(self, _error: Option<&Error>) {}
}

/// Whether an identity is connected.
#[derive(Debug)]
pub(crate) struct Presence;

impl Presence {
    #[inline]
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn up(&mut self) {}

    #[inline]
    pub(crate) fn down(&mut self, _error: Option<&Error>) {}
}

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
pub(crate) fn sent(_messages: usize) {}

#[inline]
pub(crate) fn received(_what: &'static str) {}

#[inline]
pub(crate) fn token_renewed() {}

#[inline]
pub(crate) fn token_refused() {}

#[inline]
pub(crate) fn buffer_dropped(_messages: u64) {}

#[inline]
pub(crate) fn buffer_refused() {}
