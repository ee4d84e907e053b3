//! What is uploaded, and reading it block by block.

use std::{fmt, io, path::PathBuf, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt as _;
use iothub_common::{Error, ErrorKind, Result};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _},
};
use tokio_util::io::StreamReader;

/// The content of an upload: bytes, a file, or something that is read as it goes, of which only a few blocks are in
/// memory at a time.
#[must_use = "nothing is read before it is uploaded"]
pub struct UploadSource(Kind);

enum Kind {
    Bytes(Bytes),
    File(PathBuf),
    Reader { reader: Pin<Box<dyn AsyncRead + Send>>, size: Option<u64> },
}

impl UploadSource {
    /// What is in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// A file, opened before the hub is asked for a place.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into()))
    }

    /// Whatever can be read, to its end.
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self(Kind::Reader { reader: Box::pin(reader), size: None })
    }

    /// A stream of pieces of any size.
    pub fn stream<S, B, E>(stream: S) -> Self
    where
        S: Stream<Item = std::result::Result<B, E>> + Send + 'static,
        B: Into<Bytes> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        Self::reader(StreamReader::new(stream.map(|piece| piece.map(Into::into).map_err(io::Error::other))))
    }

    /// Says how many bytes a reader or stream has, for the progress. It is not checked.
    pub fn with_size(mut self, bytes: u64) -> Self {
        if let Kind::Reader { size, .. } = &mut self.0 {
            *size = Some(bytes);
        }
        self
    }

    pub(super) async fn open(self) -> Result<Blocks> {
        let (name, reader, size): (String, Pin<Box<dyn AsyncRead + Send>>, _) = match self.0 {
            Kind::Bytes(bytes) => {
                let size = bytes.len() as u64;
                ("the bytes".to_owned(), Box::pin(io::Cursor::new(bytes)), Some(size))
            }
            Kind::Reader { reader, size } => ("the source".to_owned(), reader, size),
            Kind::File(path) => {
                let name = format!("the file {}", path.display());
                let failed = |error| unreadable(&name, error);
                let file = File::open(&path).await.map_err(failed)?;
                let metadata = file.metadata().await.map_err(failed)?;
                if metadata.is_dir() {
                    return Err(unreadable(&name, io::ErrorKind::IsADirectory.into()));
                }
                (name, Box::pin(file), Some(metadata.len()))
            }
        };
        Ok(Blocks { name, reader, size })
    }
}

impl From<Bytes> for UploadSource {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Vec<u8>> for UploadSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<String> for UploadSource {
    fn from(text: String) -> Self {
        Self::bytes(text)
    }
}

impl fmt::Debug for UploadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("UploadSource");
        match &self.0 {
            Kind::Bytes(bytes) => out.field("bytes", &bytes.len()),
            Kind::File(path) => out.field("file", path),
            Kind::Reader { size, .. } => out.field("size", size),
        };
        out.finish_non_exhaustive()
    }
}

/// An opened source.
pub(super) struct Blocks {
    name: String,
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// How many bytes there are, where that is known.
    pub(super) size: Option<u64>,
}

impl Blocks {
    /// The next `size` bytes, fewer at the end, none after it.
    pub(super) async fn next(&mut self, size: usize) -> Result<Bytes> {
        let mut block = BytesMut::new();
        let mut rest = (&mut self.reader).take(size as u64);
        loop {
            match rest.read_buf(&mut block).await {
                Ok(0) => return Ok(block.freeze()),
                Ok(_) => {}
                Err(error) => return Err(unreadable(&self.name, error)),
            }
        }
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

fn unreadable(name: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{name} cannot be read")).with_source(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::error::Error as _;

    use futures_util::stream;

    use super::*;

    async fn read(source: UploadSource, size: usize) -> Vec<Bytes> {
        let mut blocks = source.open().await.unwrap();
        let mut read = Vec::new();
        loop {
            let block = blocks.next(size).await.unwrap();
            if block.is_empty() {
                return read;
            }
            read.push(block);
        }
    }

    #[tokio::test]
    async fn pieces_of_any_size_become_blocks_of_one() {
        let pieces = ["a", "", "bcdefg", "h"].map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        assert_eq!(read(UploadSource::stream(stream::iter(pieces)), 3).await, ["abc", "def", "gh"]);
        assert_eq!(read(UploadSource::bytes("abcdef"), 3).await, ["abc", "def"]);
        assert_eq!(read(UploadSource::bytes(""), 3).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        let error = UploadSource::file("no/such/file").open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no/such/file"), "{error}");
        let error = UploadSource::file(".").open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);

        let pieces = [Ok(Bytes::from("a")), Err("the sensor is gone")];
        let mut blocks = UploadSource::stream(stream::iter(pieces)).open().await.unwrap();
        let error = blocks.next(3).await.unwrap_err();
        assert_eq!(error.to_string(), "the source cannot be read");
        assert_eq!(error.source().unwrap().to_string(), "the sensor is gone");
    }

    #[tokio::test]
    async fn sizes_are_known_where_they_can_be() {
        assert_eq!(UploadSource::bytes("abc").open().await.unwrap().size, Some(3));
        let stream = || UploadSource::stream(stream::iter([Ok::<_, io::Error>(Bytes::from("abc"))]));
        assert_eq!(stream().open().await.unwrap().size, None);
        assert_eq!(stream().with_size(3).open().await.unwrap().size, Some(3));
    }
}
