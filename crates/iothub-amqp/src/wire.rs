//! Frames over a byte stream: fe2o3-amqp's decoder and transport, with the checks they leave to us.
//!
//! Reading and writing are separate halves, so that a peer that stops reading cannot stop our reading.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use fe2o3_amqp::{
    frames::amqp::{Frame, FrameDecoder},
    transport::Transport,
};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, Empty, Join, ReadHalf, WriteHalf};
use tokio_util::codec::{Decoder, FramedRead, LengthDelimitedCodec};

use crate::guard;

/// Frames we accept and advertise; also what the hub advertises (amqp.md 1.4).
pub(crate) const MAX_FRAME_SIZE: u32 = 65_536;
/// Smaller frames may not be refused by anybody (AMQP 1.0 part 2, 2.7.1).
pub(crate) const MIN_MAX_FRAME_SIZE: u32 = 512;

/// What can go wrong between bytes and frames.
#[derive(Debug)]
pub(crate) enum WireError {
    Io(io::Error),
    /// The bytes are no frame; the text names what was wrong.
    Frame(String),
}

pub(crate) struct FrameReader<Io> {
    inner: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> FrameReader<Io> {
    pub(crate) fn new(io: ReadHalf<Io>) -> Self {
        let codec = LengthDelimitedCodec::builder()
            .big_endian()
            .length_field_length(4)
            .length_adjustment(-4)
            .max_frame_length(MAX_FRAME_SIZE as usize)
            .new_codec();
        Self { inner: FramedRead::new(io, codec) }
    }

    /// The next frame, or `None` at the end of the stream.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, WireError>>> {
        match Pin::new(&mut self.inner).poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(decode(bytes))),
            Poll::Ready(Some(Err(e))) if e.kind() == io::ErrorKind::InvalidData => {
                Poll::Ready(Some(Err(WireError::Frame(format!("frame over {MAX_FRAME_SIZE} bytes")))))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(Some(Err(WireError::Io(e)))),
        }
    }
}

/// `bytes` is a frame without its length field.
fn decode(mut bytes: BytesMut) -> Result<Frame, WireError> {
    if bytes.len() < 4 {
        // The decoder would panic on it.
        return Err(WireError::Frame("frame shorter than its header".into()));
    }
    let extended = (usize::from(bytes[0]) * 4).saturating_sub(8);
    if bytes[0] < 2 || bytes.len() < 4 + extended {
        return Err(WireError::Frame("data offset outside the frame".into()));
    }
    if extended > 0 {
        // An extended header means nothing in AMQP frames and may be skipped; the decoder wants none.
        let header = [2, bytes[1], bytes[2], bytes[3]];
        bytes.advance(extended);
        bytes[..4].copy_from_slice(&header);
    }
    if bytes.len() > 4 {
        guard::end_of_value(&bytes, 4).map_err(|e| WireError::Frame(e.to_string()))?;
    }
    match (FrameDecoder {}).decode(&mut bytes) {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(WireError::Frame("incomplete frame".into())),
        Err(e) => Err(WireError::Frame(e.to_string())),
    }
}

pub(crate) struct FrameWriter<Io> {
    inner: Transport<Join<Empty, WriteHalf<Io>>, Frame>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> FrameWriter<Io> {
    pub(crate) fn new(io: WriteHalf<Io>) -> Self {
        let io = tokio::io::join(tokio::io::empty(), io);
        Self { inner: Transport::bind(io, MIN_MAX_FRAME_SIZE as usize, None) }
    }

    /// Frames never exceed what the peer can take, nor what we would take ourselves.
    pub(crate) fn set_max_frame_size(&mut self, peer: u32) {
        self.inner.set_encoder_max_frame_size(peer.clamp(MIN_MAX_FRAME_SIZE, MAX_FRAME_SIZE) as usize);
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        Pin::new(&mut self.inner).poll_ready(cx).map_err(write_error)
    }

    pub(crate) fn start_send(&mut self, frame: Frame) -> Result<(), WireError> {
        Pin::new(&mut self.inner).start_send(frame).map_err(write_error)
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(write_error)
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(write_error)
    }
}

fn write_error(error: fe2o3_amqp::transport::Error) -> WireError {
    match error {
        fe2o3_amqp::transport::Error::Io(e) => WireError::Io(e),
        other => WireError::Frame(other.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use fe2o3_amqp::frames::amqp::FrameBody;

    #[test]
    fn short_frames_and_wrong_offsets_are_errors_and_no_panics() {
        for bytes in [&[][..], &[2], &[2, 0, 0], &[1, 0, 0, 0], &[9, 0, 0, 0, 1]] {
            assert!(matches!(decode(BytesMut::from(bytes)), Err(WireError::Frame(_))), "{bytes:?}");
        }
    }

    #[test]
    fn an_extended_header_is_skipped() {
        let frame = decode(BytesMut::from(&[3, 0, 0, 7, 0xde, 0xad, 0xbe, 0xef][..])).unwrap();
        assert_eq!(frame.channel, 7);
        assert!(matches!(frame.body, FrameBody::Empty));
    }

    #[test]
    fn garbage_and_nesting_bombs_are_errors() {
        assert!(decode(BytesMut::from(&[2, 0, 0, 0, 0xff, 0xff][..])).is_err());
        let mut bomb = vec![2, 0, 0, 0];
        bomb.resize(60_000, 0);
        assert!(decode(BytesMut::from(&bomb[..])).is_err());
    }
}
