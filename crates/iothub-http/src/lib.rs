//! One request over HTTPS and its whole answer: in time, through a proxy where there is one, with words for what went
//! wrong and with the knowledge whether it may be sent again. Both halves of the SDK stand on it; who is asked for
//! what, and what the answer means, is theirs.
//!
//! Internal to the iothub crates: no stability is promised.

mod answer;
mod caller;
mod connector;
mod retry;
mod transport;
mod tunnel;

pub use answer::Answer;
pub use caller::{Caller, Outgoing, Terms};
pub use retry::{Attempts, Failure, Reach, Repeat, default_policy};
pub use transport::{Server, Transport};

use std::error::Error as StdError;

/// The first among an error and its causes that is a `T`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `io::Error` hides what it wraps from `source`.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
