//! The local hub as a program.
fn main() {}
