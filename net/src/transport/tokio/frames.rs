//! Frames on a tokio stream: one reader and one writer per connection.
//!
//! Invariant: nothing is allocated by a length that the header's check or the handshake's smaller limit has not bounded.

use crate::NetError;
use crate::frame::{FRAME_HEADER_BYTES, Header};
use crate::transport::reply::Outgoing;
use crate::transport::{
    COALESCE_BYTES_MAX, HANDSHAKE_BODY_BYTES_MAX, PAYLOAD_ALIGN_BYTES, RECEIVE_BUFFER_BYTES, WRITE_TIMEOUT,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use forebay_base::limits;
use rkyv::util::AlignedVec;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// A frame as received, its checksum checked.
pub(super) struct Frame {
    /// Its header.
    pub(super) header: Header,
    /// rkyv bytes, or the text of an error.
    pub(super) body: AlignedVec,
    /// Raw bytes.
    pub(super) payload: Bytes,
}

/// Reads frames. Not cancel-safe: a dropped `next` ends the connection's use.
pub(super) struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    address: String,
    body_bytes_max: u32,
    payload_bytes_max: u32,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that takes only small bodies and no payloads until `end_handshake`.
    pub(super) fn new(source: R, address: String) -> Self {
        let buffer = BytesMut::with_capacity(RECEIVE_BUFFER_BYTES);
        FrameReader { source, buffer, address, body_bytes_max: HANDSHAKE_BODY_BYTES_MAX, payload_bytes_max: 0 }
    }

    /// From now on bodies may be as long as `limits` allows, and payloads as long as said.
    pub(super) fn end_handshake(&mut self, payload_bytes_max: u32) {
        self.body_bytes_max = limits::BODY_BYTES_MAX;
        self.payload_bytes_max = payload_bytes_max;
    }

    fn broken(&self, error: impl ToString) -> NetError {
        NetError::Broken { address: self.address.clone(), error: error.to_string() }
    }

    /// The next frame; `None` when the other side closed between frames.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, NetError> {
        while self.buffer.len() < FRAME_HEADER_BYTES {
            // Nothing borrows the buffer, so this only moves the rest to its front.
            self.buffer.reserve(RECEIVE_BUFFER_BYTES - self.buffer.len());
            let got = self.source.read_buf(&mut self.buffer).await.map_err(|error| self.broken(error))?;
            if got == 0 && self.buffer.is_empty() {
                return Ok(None);
            }
            if got == 0 {
                return Err(self.broken("closed in the middle of a header"));
            }
        }
        let mut head = [0u8; FRAME_HEADER_BYTES];
        self.buffer.copy_to_slice(&mut head);
        let header = Header::decode(&head)?;
        header.check_lengths(self.body_bytes_max, self.payload_bytes_max)?;
        let body = self.body(header.body_bytes as usize).await?;
        Header::verify(&head, &body)?;
        let payload = self.payload(header.payload_bytes as usize).await?;
        Ok(Some(Frame { header, body, payload }))
    }

    async fn body(&mut self, length: usize) -> Result<AlignedVec, NetError> {
        let mut body = AlignedVec::with_capacity(length);
        let buffered = self.buffer.len().min(length);
        body.extend_from_slice(&self.buffer[..buffered]);
        self.buffer.advance(buffered);
        if buffered < length {
            body.resize(length, 0);
            self.source.read_exact(&mut body[buffered..]).await.map_err(|error| self.broken(error))?;
        }
        Ok(body)
    }

    async fn payload(&mut self, length: usize) -> Result<Bytes, NetError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        // Begins where direct I/O may begin, so that whoever writes it to a disk needs no copy.
        let mut payload = BytesMut::with_capacity(length + PAYLOAD_ALIGN_BYTES - 1);
        let gap = payload.as_ptr().align_offset(PAYLOAD_ALIGN_BYTES).min(PAYLOAD_ALIGN_BYTES - 1);
        payload.resize(gap, 0);
        payload.advance(gap);
        let buffered = self.buffer.len().min(length);
        payload.extend_from_slice(&self.buffer[..buffered]);
        self.buffer.advance(buffered);
        while payload.len() < length {
            let rest = length - payload.len();
            let got =
                self.source.read_buf(&mut (&mut payload).limit(rest)).await.map_err(|error| self.broken(error))?;
            if got == 0 {
                return Err(self.broken("closed in the middle of a payload"));
            }
        }
        Ok(payload.freeze())
    }
}

/// Writes one frame at once: the handshake's way.
pub(super) async fn write_one<W: AsyncWrite + Unpin>(sink: &mut W, frame: &Outgoing) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + frame.body.len());
    bytes.extend_from_slice(&frame.header);
    bytes.extend_from_slice(&frame.body);
    write_within(sink, &bytes).await
}

/// Writes what arrives in the queue until all its senders are gone.
pub(super) async fn write_queue<W: AsyncWrite + Unpin>(
    mut sink: W,
    mut queue: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    const FRAMES_AT_ONCE: usize = 64;
    let mut frames = Vec::with_capacity(FRAMES_AT_ONCE);
    let mut bytes = Vec::with_capacity(4 * COALESCE_BYTES_MAX);
    while queue.recv_many(&mut frames, FRAMES_AT_ONCE).await > 0 {
        for frame in frames.drain(..) {
            bytes.extend_from_slice(&frame.header);
            if frame.body.len() <= COALESCE_BYTES_MAX {
                bytes.extend_from_slice(&frame.body);
                if bytes.len() < 2 * COALESCE_BYTES_MAX {
                    continue;
                }
                write_within(&mut sink, &bytes).await?;
            } else {
                write_within(&mut sink, &bytes).await?;
                write_within(&mut sink, &frame.body).await?;
            }
            bytes.clear();
        }
        if !bytes.is_empty() {
            write_within(&mut sink, &bytes).await?;
            bytes.clear();
        }
    }
    sink.shutdown().await
}

async fn write_within<W: AsyncWrite + Unpin>(sink: &mut W, bytes: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, sink.write_all(bytes)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")),
    }
}
