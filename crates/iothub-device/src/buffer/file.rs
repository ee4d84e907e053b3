//! Messages in a file, which survive the process.

use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use iothub_common::{Error, ErrorKind, Result};
use redb::{Database, DatabaseError, ReadableTable, TableDefinition};

use super::store::MessageStore;

/// The number is that of the layout: a later one gets a table of another name.
const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("iothub-telemetry-1");
/// Pages kept in memory, bytes. Messages are written once and read once.
const CACHE_SIZE: usize = 4 << 20;

/// Any of redb's errors.
type Failure = Box<dyn StdError + Send + Sync>;

/// Messages in a file: they survive the end of the process, however it comes, and of the machine.
///
/// Every push is on the disk before it is confirmed, which takes as long as the disk needs for a flush; pushes made
/// at the same time share one. The file grows up to a small multiple of the bytes that wait and is used again, not
/// shortened, as they leave. It belongs to one store at a time.
pub struct FileStore {
    path: PathBuf,
    database: Database,
    end: u64,
    len: usize,
    bytes: u64,
}

impl FileStore {
    /// Opens a file, or makes a new one. Its folder must exist. Reads the whole file once, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// - [`Unavailable`](ErrorKind::Unavailable): the file cannot be read or written, or is in use.
    /// - [`InvalidInput`](ErrorKind::InvalidInput): the file is something else, or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let mut builder = Database::builder();
        let builder = builder.set_cache_size(CACHE_SIZE).create_with_file_format_v3(true);
        let database = builder.create(&path).map_err(|error| not_opened(&path, error))?;
        let mut store = Self { path, database, end: 0, len: 0, bytes: 0 };
        store.count().map_err(|error| store.failed("read", error))?;
        Ok(store)
    }

    /// Makes the table where there is none, and counts what is in it.
    fn count(&mut self) -> Result<(), Failure> {
        let transaction = self.database.begin_write()?;
        {
            let table = transaction.open_table(MESSAGES)?;
            for entry in table.iter()? {
                let (position, message) = entry?;
                self.end = position.value() + 1;
                self.len += 1;
                self.bytes += message.value().len() as u64;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn append(&self, messages: &[Bytes]) -> Result<(), Failure> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(MESSAGES)?;
            for (position, message) in (self.end..).zip(messages) {
                table.insert(position, &message[..])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn look(&self, from: u64, max: usize) -> Result<Vec<(u64, Bytes)>, Failure> {
        let table = self.database.begin_read()?.open_table(MESSAGES)?;
        let mut found = Vec::new();
        for entry in table.range(from..)?.take(max) {
            let (position, message) = entry?;
            found.push((position.value(), Bytes::copy_from_slice(message.value())));
        }
        Ok(found)
    }

    /// How many messages left, and their bytes.
    fn take_out(&self, positions: &[u64]) -> Result<(usize, u64), Failure> {
        let transaction = self.database.begin_write()?;
        let (mut len, mut bytes) = (0, 0);
        {
            let mut table = transaction.open_table(MESSAGES)?;
            for position in positions {
                if let Some(message) = table.remove(position)? {
                    len += 1;
                    bytes += message.value().len() as u64;
                }
            }
        }
        transaction.commit()?;
        Ok((len, bytes))
    }

    fn failed(&self, what: &str, error: Failure) -> Error {
        let text = format!("the telemetry buffer `{}` could not be {what}", self.path.display());
        Error::new(ErrorKind::Unavailable, text).with_source(error)
    }
}

impl MessageStore for FileStore {
    fn push(&mut self, messages: &[Bytes]) -> Result<()> {
        self.append(messages).map_err(|error| self.failed("written", error))?;
        self.end += messages.len() as u64;
        self.len += messages.len();
        self.bytes += messages.iter().map(|message| message.len() as u64).sum::<u64>();
        Ok(())
    }

    fn read(&self, from: u64, max: usize) -> Result<Vec<(u64, Bytes)>> {
        self.look(from, max).map_err(|error| self.failed("read", error))
    }

    fn remove(&mut self, positions: &[u64]) -> Result<()> {
        let (len, bytes) = self.take_out(positions).map_err(|error| self.failed("written", error))?;
        self.len -= len;
        self.bytes -= bytes;
        Ok(())
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.path)
            .field("len", &self.len)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

fn not_opened(path: &Path, error: DatabaseError) -> Error {
    let path = path.display();
    let (kind, text) = match &error {
        DatabaseError::DatabaseAlreadyOpen => (
            ErrorKind::Unavailable,
            format!("the telemetry buffer `{path}` is in use; close its buffer first"),
        ),
        _ if is_io(&error) => {
            (ErrorKind::Unavailable, format!("the telemetry buffer `{path}` could not be opened"))
        }
        _ => {
            let text =
                format!("`{path}` is no telemetry buffer, or damaged; move it away to begin with a new one");
            (ErrorKind::InvalidInput, text)
        }
    };
    Error::new(kind, text).with_source(error)
}

/// A file that is something else is an I/O error to redb as well, with a kind of its own.
fn is_io(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(redb::StorageError::Io(error)) => {
            error.kind() != std::io::ErrorKind::InvalidData
                && error.kind() != std::io::ErrorKind::UnexpectedEof
        }
        _ => false,
    }
}
