//! What the storage says when it refuses: the codes of the real one, with texts that help.

use std::fmt;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageError {
    /// HTTP status.
    pub(crate) status: u16,
    /// Goes into `x-ms-error-code` and the body.
    pub(crate) code: &'static str,
    pub(crate) text: String,
}

impl StorageError {
    pub(crate) fn new(status: u16, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into() }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for StorageError {}

pub(super) fn no_container() -> StorageError {
    StorageError::new(404, "ContainerNotFound", "The specified container does not exist.")
}

pub(crate) fn no_blob() -> StorageError {
    StorageError::new(404, "BlobNotFound", "The specified blob does not exist.")
}

pub(super) fn unauthorized(why: &str) -> StorageError {
    let text = format!("Server failed to authenticate the request: {why}.");
    StorageError::new(403, "AuthenticationFailed", text)
}

pub(super) fn bad_name() -> StorageError {
    let text = "A blob's name has 1 to 1024 characters and does not end with a slash or dot.";
    StorageError::new(400, "InvalidResourceName", text)
}

pub(super) fn bad_block_id(why: &str) -> StorageError {
    StorageError::new(400, "InvalidBlobOrBlock", format!("The block id is invalid: {why}."))
}

pub(super) fn bad_list() -> StorageError {
    StorageError::new(400, "InvalidXmlDocument", "The body is no list of blocks.")
}

pub(super) fn no_such_block(id: &str) -> StorageError {
    StorageError::new(400, "InvalidBlockList", format!("The blob has no block {id}."))
}

pub(super) fn too_many_blocks(limit: usize) -> StorageError {
    StorageError::new(409, "BlockCountExceedsLimit", format!("A blob has at most {limit} blocks."))
}

pub(super) fn full(limit: u64) -> StorageError {
    let text = format!("This storage holds at most {limit} bytes, they would be exceeded.");
    StorageError::new(413, "RequestBodyTooLarge", text)
}
