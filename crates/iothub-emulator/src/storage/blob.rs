//! A blob and its blocks.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use super::block_list::{Listed, Place};
use super::error::{self, StorageError};

/// Bytes of a block's id once decoded.
const MAX_BLOCK_ID: usize = 64;
/// Blocks of a blob, and as many that wait for a list.
const MAX_BLOCKS: usize = 50_000;

/// A file as it was uploaded.
#[derive(Clone, Debug)]
pub struct Blob {
    /// As the client said, else `application/octet-stream`.
    pub content_type: String,
    /// When it was written last, by the hub's clock.
    pub last_modified: SystemTime,
    pub(crate) etag: String,
    /// With their ids; one without an id when it came in one piece.
    blocks: Vec<(String, Bytes)>,
}

impl Blob {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.blocks.iter().map(|(_, block)| block.len() as u64).sum()
    }

    /// Its content, copied together.
    pub fn content(&self) -> Bytes {
        if let [(_, whole)] = &self.blocks[..] {
            return whole.clone();
        }
        let mut content = BytesMut::new();
        for (_, block) in &self.blocks {
            content.extend_from_slice(block);
        }
        content.freeze()
    }
}

/// What there is under one name.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) blob: Option<Blob>,
    uncommitted: BTreeMap<String, Bytes>,
}

/// Which write it is, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) etag: u64,
    pub(super) at: SystemTime,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.blob.is_none() && self.uncommitted.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        let waiting: usize = self.uncommitted.values().map(Bytes::len).sum();
        waiting as u64 + self.blob.as_ref().map_or(0, Blob::size)
    }

    pub(super) fn put_block(&mut self, id: &str, content: Bytes) -> Result<(), StorageError> {
        let length = STANDARD.decode(id).map_or(0, |id| id.len());
        if length == 0 || length > MAX_BLOCK_ID {
            return Err(error::bad_block_id("it must be base64 of 1 to 64 bytes"));
        }
        if self.uncommitted.keys().any(|other| other.len() != id.len()) {
            return Err(error::bad_block_id("all block ids of a blob must have the same length"));
        }
        if self.uncommitted.len() >= MAX_BLOCKS && !self.uncommitted.contains_key(id) {
            return Err(error::too_many_blocks(MAX_BLOCKS));
        }
        self.uncommitted.insert(id.to_owned(), content);
        Ok(())
    }

    /// The blocks of a list.
    pub(super) fn collect(&self, list: &[Listed<'_>]) -> Result<Vec<(String, Bytes)>, StorageError> {
        if list.len() > MAX_BLOCKS {
            return Err(error::too_many_blocks(MAX_BLOCKS));
        }
        let uncommitted = |id: &str| self.uncommitted.get(id);
        let known = self.blob.iter().flat_map(|blob| &blob.blocks);
        let known: HashMap<&str, &Bytes> = known.map(|(id, block)| (id.as_str(), block)).collect();
        let committed = |id: &str| known.get(id).copied();
        list.iter()
            .map(|listed| {
                let found = match listed.place {
                    Place::Uncommitted => uncommitted(listed.id),
                    Place::Committed => committed(listed.id),
                    Place::Latest => uncommitted(listed.id).or_else(|| committed(listed.id)),
                };
                let block = found.ok_or_else(|| error::no_such_block(listed.id))?;
                Ok((listed.id.to_owned(), block.clone()))
            })
            .collect()
    }

    /// What was there before, and blocks that are not used, go.
    pub(super) fn commit(
        &mut self,
        blocks: Vec<(String, Bytes)>,
        content_type: Option<&str>,
        placement: Placement,
    ) -> Blob {
        self.uncommitted.clear();
        let content_type = content_type.unwrap_or("application/octet-stream").to_owned();
        let etag = format!("0x{:016X}", placement.etag);
        let blob = Blob { content_type, last_modified: placement.at, etag, blocks };
        self.blob.insert(blob).clone()
    }

    pub(super) fn drop_blocks(&mut self) {
        self.uncommitted.clear();
    }
}
