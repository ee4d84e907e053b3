//! A [`Connection`] on a byte stream. Whoever owns the driver owns the socket: there is no task of its own,
//! so a device client or a hub connection is one task that waits for [`Driver::next`] and its own commands.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    proto::{Config, Connection, Event, Side},
    wire::{FrameReader, FrameWriter, WireError},
};

/// While this many frames wait for a peer that does not read, we do not read either.
const MAX_BACKLOG: usize = 4096;
/// Events given out before the writes they caused are flushed, so that answers share a flush.
const EVENTS_PER_FLUSH: u32 = 64;

/// A connection and its byte stream.
pub struct Driver<Io> {
    reader: FrameReader<Io>,
    writer: FrameWriter<Io>,
    connection: Connection,
    timer: Pin<Box<Sleep>>,
    needs_flush: bool,
    unflushed_events: u32,
    io_failed: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    /// Takes a stream on which the protocol headers have been exchanged ([`crate::sasl`]).
    pub fn new(io: Io, side: Side, config: Config) -> Self {
        let (read, write) = tokio::io::split(io);
        let now = Instant::now();
        Self {
            reader: FrameReader::new(read),
            writer: FrameWriter::new(write),
            connection: Connection::new(side, config, now.into_std()),
            timer: Box::pin(sleep_until(now)),
            needs_flush: false,
            unflushed_events: 0,
            io_failed: false,
        }
    }

    /// The state machine, to give it commands. They are written during [`Driver::next`].
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Writes what is due and waits for the next event. Cancelling loses nothing.
    ///
    /// After [`Event::Closed`] it stays pending for ever.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next event; see [`Driver::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.connection.poll_event() {
                self.unflushed_events += 1;
                if self.unflushed_events >= EVENTS_PER_FLUSH || self.connection.is_closed() {
                    self.write(cx);
                }
                return Poll::Ready(event);
            }
            if self.connection.is_closed() {
                self.write(cx);
                return Poll::Pending;
            }
            let may_read = self.connection.backlog() < MAX_BACKLOG;
            if may_read && self.read(cx) {
                continue;
            }
            self.write(cx);
            let has_room_again = !may_read && self.connection.backlog() < MAX_BACKLOG;
            if has_room_again || self.poll_timer(cx) || self.connection.is_closed() {
                continue;
            }
            return Poll::Pending;
        }
    }

    /// Writes what is due, without waiting for anything that the peer does but read. Cancelling loses nothing.
    pub async fn flush(&mut self) {
        poll_fn(|cx| {
            self.write(cx);
            let pending = !self.io_failed && (self.needs_flush || self.connection.backlog() > 0);
            if pending { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Closes the connection in order, waiting at most `limit` for the peer's agreement, then drops the stream.
    pub async fn close(mut self, limit: Duration) {
        self.connection.close(None);
        self.finish(limit).await;
    }

    /// Writes what is left after the connection was closed by either end, for at most `limit`.
    pub async fn finish(mut self, limit: Duration) {
        let done = async {
            while !self.connection.is_closed() {
                self.next().await;
            }
            self.flush().await;
            if !self.io_failed {
                // TLS close-notify and FIN. The peer learns nothing new when it fails.
                poll_fn(|cx| self.writer.poll_close(cx)).await.ok();
            }
        };
        timeout(limit, done).await.ok();
    }

    /// True when a frame or the end of the stream was handled.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        match self.reader.poll_frame(cx) {
            Poll::Pending => return false,
            Poll::Ready(Some(Ok(frame))) => {
                tracing::trace!(?frame, "received");
                self.connection.handle_frame(frame, Instant::now().into_std());
                let size = self.connection.remote_max_frame_size();
                self.writer.set_max_frame_size(size);
            }
            Poll::Ready(Some(Err(WireError::Frame(what)))) => self.connection.fail(&what),
            Poll::Ready(Some(Err(WireError::Io(e)))) => self.io_error(e),
            Poll::Ready(None) => self.io_error(io::ErrorKind::UnexpectedEof.into()),
        }
        true
    }

    /// Writes as much as the stream takes now.
    fn write(&mut self, cx: &mut Context<'_>) {
        self.unflushed_events = 0;
        if self.io_failed {
            return;
        }
        match self.poll_write(cx) {
            Poll::Ready(Err(WireError::Io(e))) => self.io_error(e),
            Poll::Ready(Err(WireError::Frame(what))) => {
                // Our own frame could not be encoded; the peer is not to blame, and the stream is of no use.
                self.io_error(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        loop {
            if self.writer.poll_ready(cx)?.is_pending() {
                return Poll::Pending;
            }
            let Some(frame) = self.connection.poll_transmit(Instant::now().into_std()) else { break };
            tracing::trace!(?frame, "sent");
            self.needs_flush = true;
            self.writer.start_send(frame)?;
        }
        if self.needs_flush && self.writer.poll_flush(cx)?.is_ready() {
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn io_error(&mut self, error: io::Error) {
        self.io_failed = true;
        self.connection.handle_io_error(error);
    }

    /// True when the timer fired and the state machine was told.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.connection.poll_timeout() else { return false };
        let at = Instant::from_std(at);
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.connection.handle_timeout(Instant::now().into_std());
        true
    }
}

impl<Io> std::fmt::Debug for Driver<Io> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("connection", &self.connection).finish_non_exhaustive()
    }
}
