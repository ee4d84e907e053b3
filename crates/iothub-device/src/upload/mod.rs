//! File uploads: a place from the hub, the file to its storage over plain HTTPS, and a word to the hub how it went
//! (rest.md 11.3).

mod options;
mod place;
mod source;

use std::pin::pin;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use iothub_common::{Error, ErrorKind, Result, Secret, Subject, error::error_from_http};
use iothub_http::Answer;
use serde_json::json;

pub use options::{UploadOptions, UploadProgress};
pub use source::UploadSource;

use self::place::{Place, Storage};
use self::source::Blocks;
use crate::{
    client::Client,
    http::{HubCall, from_json, to_json},
};

/// Blocks of a blob; the storage's limit.
const MAX_BLOCKS: usize = 50_000;

/// An upload that the hub has opened: the place to write to, and then the word how it went.
///
/// A device can have ten open at a time; one that is not ended by [`complete`](Self::complete) or
/// [`fail`](Self::fail) ends after the time the hub is set to, an hour by default.
#[derive(Debug)]
pub struct FileUpload {
    client: Client,
    place: Place,
}

/// A file that is up, and of which the hub knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadedFile {
    /// `{device id}/{name}`
    pub blob_name: String,
    /// Where it is. Reading it needs a credential of the storage.
    pub blob_uri: String,
    /// Its length in bytes.
    pub size: u64,
}

/// All three steps.
pub(crate) async fn upload(
    client: &Client,
    name: &str,
    source: UploadSource,
    options: &UploadOptions,
) -> Result<UploadedFile> {
    options.check()?;
    // Before the hub is asked: what cannot be read costs none of the ten places.
    let blocks = source.open().await?;
    let upload = FileUpload::start(client, name).await?;
    let size = match upload.write(blocks, options).await {
        Ok(size) => size,
        Err(error) => {
            let status = error.status().unwrap_or(500);
            if let Err(second) = upload.fail(status, &error.to_string()).await {
                tracing::warn!(blob = upload.blob_name(), error = %second, "the hub was not told that the upload failed");
            }
            return Err(error);
        }
    };
    upload.complete().await?;
    Ok(UploadedFile { blob_name: upload.place.blob_name.clone(), blob_uri: upload.blob_uri(), size })
}

impl FileUpload {
    pub(crate) async fn start(client: &Client, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the blob has no name"));
        }
        const WHAT: &str = "start file upload";
        let body = to_json(WHAT, &json!({ "blobName": name }))?;
        let answer = post(client, WHAT, "files", body).await.map_err(too_many)?;
        Ok(Self { client: client.clone(), place: from_json(WHAT, &answer)? })
    }

    /// The hub's name for this upload.
    #[must_use]
    pub fn correlation_id(&self) -> &str {
        &self.place.correlation_id
    }

    /// The blob's name: `{device id}/{name}`.
    #[must_use]
    pub fn blob_name(&self) -> &str {
        &self.place.blob_name
    }

    /// Where the blob is to be, without the token.
    #[must_use]
    pub fn blob_uri(&self) -> String {
        self.place.uri()
    }

    /// Where the blob is to be, with the token that allows to write it: for a storage client of your own, in place of
    /// [`send`](Self::send).
    #[must_use]
    pub fn sas_uri(&self) -> Secret {
        self.place.uri_with_token("")
    }

    /// Writes the blob and returns its length. Can be repeated; a blob that is there is replaced.
    ///
    /// Dropping the future leaves the blob as it was, or replaced.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](ErrorKind::InvalidInput): the source cannot be read, or has more than 50,000 blocks.
    /// - [`Unauthorized`](ErrorKind::Unauthorized): the token is over.
    /// - [`Connect`](ErrorKind::Connect), [`Certificate`](ErrorKind::Certificate), [`Timeout`](ErrorKind::Timeout),
    ///   [`Throttled`](ErrorKind::Throttled), [`Unavailable`](ErrorKind::Unavailable): the storage; what passes was
    ///   tried again.
    pub async fn send(&self, source: impl Into<UploadSource>) -> Result<u64> {
        self.send_with(source, &UploadOptions::default()).await
    }

    /// As [`send`](Self::send), with options.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_with(&self, source: impl Into<UploadSource>, options: &UploadOptions) -> Result<u64> {
        options.check()?;
        self.write(source.into().open().await?, options).await
    }

    /// Tells the hub that the file is there. Services that listen for file notifications hear of it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the upload is over: ended already, or too late; its
    /// [`hub_code`](Error::hub_code) tells which. Else as any call.
    pub async fn complete(&self) -> Result<()> {
        self.finish(true, 200, "OK").await
    }

    /// Tells the hub that there will be no file: its place among the ten is free again. Status and text are for the
    /// hub's logs.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub async fn fail(&self, status_code: u16, description: &str) -> Result<()> {
        self.finish(false, status_code, description).await
    }

    async fn finish(&self, is_success: bool, status_code: u16, description: &str) -> Result<()> {
        const WHAT: &str = "finish file upload";
        let body = json!({
            "correlationId": self.place.correlation_id,
            "isSuccess": is_success,
            "statusCode": status_code,
            "statusDescription": description,
        });
        let sent = post(&self.client, WHAT, "files/notifications", to_json(WHAT, &body)?).await;
        sent.map(drop).map_err(over)
    }

    async fn write(&self, mut blocks: Blocks, options: &UploadOptions) -> Result<u64> {
        let storage = Storage::new(&self.place, options, self.client.http()?.options())?;
        let total = blocks.size;
        options.report(0, total);
        let first = blocks.next(options.block_size).await?;
        let second = if first.len() < options.block_size {
            Bytes::new()
        } else {
            blocks.next(options.block_size).await?
        };
        if second.is_empty() {
            let size = first.len() as u64;
            storage.put(first).await?;
            options.report(size, total);
            return Ok(size);
        }
        write_blocks(&storage, [first, second], blocks, options).await
    }
}

/// Writes block by block, a few at a time; the first two have been read already.
async fn write_blocks(
    storage: &Storage<'_>,
    first: [Bytes; 2],
    mut blocks: Blocks,
    options: &UploadOptions,
) -> Result<u64> {
    let (mut ids, mut sent, total) = (Vec::new(), 0, blocks.size);
    let mut under_way = FuturesUnordered::new();
    let mut confirmed = |done: Result<u64>| -> Result<()> {
        sent += done?;
        options.report(sent, total);
        Ok(())
    };
    let mut first = first.into_iter();
    loop {
        let block = match first.next() {
            Some(block) => block,
            None => {
                let mut reading = pin!(blocks.next(options.block_size));
                loop {
                    tokio::select! {
                        block = &mut reading => break block?,
                        Some(done) = under_way.next() => confirmed(done)?,
                    }
                }
            }
        };
        if block.is_empty() {
            break;
        }
        if ids.len() == MAX_BLOCKS {
            let text =
                format!("the source has more than {MAX_BLOCKS} blocks of {} bytes", options.block_size);
            return Err(Error::new(ErrorKind::InvalidInput, format!("{text}; take a larger block size")));
        }
        // Eight digits are base64 too, and all ids must have one length.
        let id = format!("{:08}", ids.len());
        ids.push(id.clone());
        under_way.push(async move {
            let size = block.len() as u64;
            storage.put_block(&id, block).await.map(|()| size)
        });
        if under_way.len() >= options.parallel
            && let Some(done) = under_way.next().await
        {
            confirmed(done)?;
        }
    }
    while let Some(done) = under_way.next().await {
        confirmed(done)?;
    }
    storage.put_list(&ids).await?;
    Ok(sent)
}

async fn post(client: &Client, what: &'static str, below: &str, body: Bytes) -> Result<Answer> {
    let identity = client.identity();
    let path = format!("{}/{below}", identity.http_path("devices"));
    let call = HubCall { what, path, headers: Vec::new(), body, limit: client.call_timeout() };
    let subject = Subject::from(identity);
    let refusal = |answer: &Answer| {
        error_from_http(answer.status.as_u16(), answer.header("iothub-errorcode"), &answer.body, &subject)
    };
    client.http()?.post(&call, refusal).await
}

fn too_many(error: Error) -> Error {
    match error.hub_code() {
        Some("DeviceMaximumActiveFileUploadLimitExceeded") => error.context(
            "ten file uploads of this device are open already; end some with complete or fail, or wait an hour",
        ),
        Some("DefaultStorageEndpointNotConfigured") => error
            .context("the hub has no storage account for file uploads; set one up under File upload in the portal"),
        _ => error,
    }
}

fn over(error: Error) -> Error {
    match error.hub_code() {
        Some("ExpiredFileUploadCorrelationId") => {
            error.context("the time for this file upload is over; start it anew")
        }
        Some("InvalidFileUploadCorrelationId") => {
            error.context("the hub knows no such file upload of this device; it has ended already")
        }
        _ => error,
    }
}
