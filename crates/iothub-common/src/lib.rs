//! Connection strings, SAS tokens, errors and twin documents shared by the iothub crates
