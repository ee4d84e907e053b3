//! A small blob storage for the files that devices upload: blobs, blocks, and the tokens that open one of them.
//!
//! What clients of the real one need for an upload, no more. It lives in memory and is gone with the hub. No sockets
//! here: `front/http/blobs.rs` speaks for it.

mod blob;
mod block_list;
mod error;
mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use iothub_common::SymmetricKey;

pub use blob::Blob;
pub(crate) use error::{StorageError, no_blob};
pub(crate) use token::{Purpose, Sas};

use self::blob::{Entry, Placement};
use crate::hub::Clock;

/// All blobs together, and their blocks, take no more than this unless the configuration says otherwise.
const DEFAULT_LIMIT: u64 = 256 * 1024 * 1024;
/// The one container there is.
const CONTAINER: &str = "uploads";
/// Characters of a blob's name.
const MAX_NAME: usize = 1024;

/// What a storage is made with.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Where clients find it: `host`, or `host:port` where the port is not 443.
    pub host: String,
    /// Bytes it holds at most.
    pub limit: u64,
}

impl StorageConfig {
    /// A storage at `host` of 256 MiB.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), limit: DEFAULT_LIMIT }
    }
}

/// A blob storage. Clones are the same storage. Every method returns at once.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

struct Shared {
    config: StorageConfig,
    clock: Clock,
    /// Signs tokens.
    key: SymmetricKey,
    blobs: Mutex<Blobs>,
}

#[derive(Default)]
struct Blobs {
    entries: BTreeMap<String, Entry>,
    /// Counts writes; etags come of it.
    writes: u64,
}

impl Storage {
    /// An empty storage.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers for its key.
    pub fn new(config: StorageConfig, clock: Clock) -> iothub_common::Result<Self> {
        let key = SymmetricKey::generate()?;
        Ok(Self { shared: Arc::new(Shared { config, clock, key, blobs: Mutex::default() }) })
    }

    /// Where clients find it.
    pub fn host(&self) -> &str {
        &self.shared.config.host
    }

    /// The one container there is.
    pub fn container(&self) -> &'static str {
        CONTAINER
    }

    /// The names of all blobs, in order: `{device id}/{name the device gave}`.
    pub fn names(&self) -> Vec<String> {
        let blobs = self.lock();
        blobs.entries.iter().filter(|(_, entry)| entry.blob.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// A blob by its name.
    pub fn blob(&self, name: &str) -> Option<Blob> {
        self.lock().entries.get(name)?.blob.clone()
    }

    /// What follows the blob's URI in a request: allows to write and read this blob until then.
    pub(crate) fn sign(&self, name: &str, until: SystemTime) -> String {
        token::sign(&self.shared.key, CONTAINER, name, until)
    }

    /// What follows the container's URI in a request: allows to write and read all its blobs until then.
    pub(crate) fn sign_container(&self, until: SystemTime) -> String {
        token::sign(&self.shared.key, CONTAINER, "", until)
    }

    /// Whether a request with this token may do this to a blob.
    pub(crate) fn check(
        &self,
        container: &str,
        name: &str,
        sas: &Sas<'_>,
        purpose: Purpose,
    ) -> Result<(), StorageError> {
        if container != CONTAINER {
            return Err(error::no_container());
        }
        let now = self.shared.clock.now();
        let check = |name| sas.check(&self.shared.key, container, name, purpose, now);
        // A token for the container opens every blob in it.
        check(name).or_else(|error| check("").map_err(|_| error))
    }

    /// Writes a whole blob.
    pub(crate) fn put_blob(
        &self,
        name: &str,
        content_type: Option<&str>,
        content: Bytes,
    ) -> Result<Blob, StorageError> {
        check_name(name)?;
        self.change(name, content.len(), |entry, stamp| {
            let blocks = vec![(String::new(), content)];
            Ok(entry.commit(blocks, content_type, stamp))
        })
    }

    /// Keeps a block for a later list.
    pub(crate) fn put_block(&self, name: &str, id: &str, content: Bytes) -> Result<(), StorageError> {
        check_name(name)?;
        self.change(name, content.len(), |entry, _| entry.put_block(id, content))
    }

    /// Makes a blob of blocks.
    pub(crate) fn put_block_list(
        &self,
        name: &str,
        content_type: Option<&str>,
        xml: &str,
    ) -> Result<Blob, StorageError> {
        check_name(name)?;
        let list = block_list::parse(xml)?;
        let limit = self.shared.config.limit;
        self.change(name, 0, |entry, stamp| {
            let blocks = entry.collect(&list)?;
            // A list may name a block many times: what it costs to read is what counts.
            if blocks.iter().map(|(_, block)| block.len() as u64).sum::<u64>() > limit {
                return Err(error::full(limit));
            }
            Ok(entry.commit(blocks, content_type, stamp))
        })
    }

    /// Drops the blocks that became no part of the blob.
    pub(crate) fn drop_blocks(&self, name: &str) {
        let mut blobs = self.lock();
        if let Some(entry) = blobs.entries.get_mut(name) {
            entry.drop_blocks();
        }
        blobs.entries.retain(|_, entry| !entry.is_empty());
    }

    /// Changes one blob, if there is room for so many bytes more.
    fn change<R>(
        &self,
        name: &str,
        more: usize,
        work: impl FnOnce(&mut Entry, Placement) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        let mut blobs = self.lock();
        let used: u64 = blobs.entries.values().map(Entry::bytes).sum();
        if used + more as u64 > self.shared.config.limit {
            return Err(error::full(self.shared.config.limit));
        }
        blobs.writes += 1;
        let stamp = Placement { etag: blobs.writes, at: self.shared.clock.now() };
        let done = work(blobs.entries.entry(name.to_owned()).or_default(), stamp);
        blobs.entries.retain(|_, entry| !entry.is_empty());
        done
    }

    fn lock(&self) -> MutexGuard<'_, Blobs> {
        // A change is one insertion into one entry, so what is in it is whole even after a panic.
        self.shared.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the storage takes a name.
pub(crate) fn check_name(name: &str) -> Result<(), StorageError> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME || name.ends_with(['/', '.']) || name.contains(char::is_control) {
        return Err(error::bad_name());
    }
    Ok(())
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
