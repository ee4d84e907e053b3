//! How a file is uploaded.

use std::{fmt, sync::Arc, time::Duration};

use iothub_common::{Error, ErrorKind, Result};

/// Bytes of a block; also the largest file that goes up in one request.
const BLOCK_SIZE: usize = 4 * 1024 * 1024;
/// What the storage takes in one block.
const MAX_BLOCK_SIZE: usize = 100 * 1024 * 1024;
const PARALLEL: usize = 2;
/// 4 MiB within it need 14 KiB a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

type Report = dyn Fn(UploadProgress) + Send + Sync;

/// How a file is uploaded: the size of its blocks, how many are under way at a time, who hears of the progress.
///
/// An upload holds at most [`parallel`](Self::parallel) blocks in memory, and one that is being read.
#[derive(Clone)]
#[must_use = "options do nothing by themselves"]
pub struct UploadOptions {
    pub(super) block_size: usize,
    pub(super) parallel: usize,
    pub(super) request_timeout: Duration,
    pub(super) content_type: Option<String>,
    progress: Option<Arc<Report>>,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadProgress {
    /// Bytes that the storage has confirmed.
    pub sent: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

impl UploadOptions {
    /// Bytes of a block, up to 100 MiB; 4 MiB by default. A file of no more goes up in one request, a larger one in
    /// blocks, of which there can be 50,000.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.block_size = bytes;
        self
    }

    /// How many blocks are under way at a time; 2 by default, at least 1.
    pub fn parallel(mut self, blocks: usize) -> Self {
        self.parallel = blocks.max(1);
        self
    }

    /// How long the storage may take for one block, repetitions included; 5 minutes by default.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// The blob's content type, such as `text/csv`; `application/octet-stream` by default.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Called once at the start and after each block that the storage has confirmed. It should return soon: the upload
    /// waits for it.
    pub fn on_progress(mut self, report: impl Fn(UploadProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(report));
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if (1..=MAX_BLOCK_SIZE).contains(&self.block_size) {
            return Ok(());
        }
        let text = format!("the block size is {}; it must be 1 to {MAX_BLOCK_SIZE} bytes", self.block_size);
        Err(Error::new(ErrorKind::InvalidInput, text))
    }

    pub(super) fn report(&self, sent: u64, total: Option<u64>) {
        if let Some(report) = &self.progress {
            report(UploadProgress { sent, total });
        }
    }
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            block_size: BLOCK_SIZE,
            parallel: PARALLEL,
            request_timeout: REQUEST_TIMEOUT,
            content_type: None,
            progress: None,
        }
    }
}

impl fmt::Debug for UploadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadOptions")
            .field("block_size", &self.block_size)
            .field("parallel", &self.parallel)
            .field("request_timeout", &self.request_timeout)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}
