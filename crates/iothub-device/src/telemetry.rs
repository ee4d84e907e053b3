//! Sending messages to the hub; the same for modules and devices.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, try_join_all},
};
use iothub_amqp::message::BATCH_FORMAT;
use iothub_common::Result;

use crate::{
    client::Client,
    measure,
    message::{self, Message},
};

/// Message format of a single message.
const SINGLE: u32 = 0;

pub(crate) async fn send(
    client: &Client,
    message: Message,
    output: Option<&str>,
    limit: Duration,
) -> Result<()> {
    client.send(message.encode(output)?, SINGLE, limit).await?;
    measure::sent(1);
    Ok(())
}

pub(crate) async fn send_batch(client: &Client, messages: &[Message], limit: Duration) -> Result<()> {
    let batches = message::batches(messages)?;
    try_join_all(batches.into_iter().map(|batch| client.send(batch, BATCH_FORMAT, limit))).await?;
    measure::sent(messages.len());
    Ok(())
}

/// Hands an encoded message over, after those handed over before. Returns its outcome, to be waited for.
pub(crate) async fn start(
    client: Client,
    message: Bytes,
    limit: Duration,
) -> Result<BoxFuture<'static, Result<()>>> {
    Ok(client.start_send(message, SINGLE, limit).await?.boxed())
}
