//! What both halves of the SDK do on a client connection: open it, show tokens, ask over a pair of links.
//!
//! All of it is driven by the one task that owns the [`Driver`](crate::Driver): nothing here spawns or waits,
//! except [`Endpoint::open`].

mod endpoint;
mod pair;
mod tokens;

pub use endpoint::{Endpoint, Socket, Stream, close_error, link_error};
pub use pair::{Change, Pair};
pub use tokens::{Due, TokenEvent, Tokens};
