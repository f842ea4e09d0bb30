//! Frames on a glommio stream. The stream brings its own receive buffer; large bodies pass it by.
//!
//! Invariant: nothing is allocated by a length that the header's check or the handshake's smaller limit has not bounded.

use super::PayloadPart;
use crate::NetError;
use crate::frame::{FRAME_HEADER_BYTES, Header};
use crate::transport::reply::Outgoing;
use crate::transport::{COALESCE_BYTES_MAX, HANDSHAKE_BODY_BYTES_MAX, WRITE_TIMEOUT};
use forebay_base::limits;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use rkyv::util::AlignedVec;
use std::io;
use std::rc::Rc;

/// A request as received, its checksum checked.
pub(super) struct Frame {
    /// Its header.
    pub(super) header: Header,
    /// rkyv bytes.
    pub(super) body: AlignedVec,
}

/// Reads requests, which have no payload. Not cancel-safe: a dropped `next` ends the connection's use.
pub(super) struct FrameReader<R> {
    source: R,
    address: Rc<str>,
    body_bytes_max: u32,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that takes only small bodies until `end_handshake`.
    pub(super) fn new(source: R, address: Rc<str>) -> Self {
        FrameReader { source, address, body_bytes_max: HANDSHAKE_BODY_BYTES_MAX }
    }

    /// From now on bodies may be as long as `limits` allows.
    pub(super) fn end_handshake(&mut self) {
        self.body_bytes_max = limits::BODY_BYTES_MAX;
    }

    fn broken(&self, error: impl ToString) -> NetError {
        NetError::Broken { address: self.address.to_string(), error: error.to_string() }
    }

    /// The next frame; `None` when the other side closed between frames.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, NetError> {
        let mut head = [0u8; FRAME_HEADER_BYTES];
        let mut got = 0;
        while got < head.len() {
            match self.source.read(&mut head[got..]).await.map_err(|error| self.broken(error))? {
                0 if got == 0 => return Ok(None),
                0 => return Err(self.broken("closed in the middle of a header")),
                more => got += more,
            }
        }
        let header = Header::decode(&head)?;
        header.check_lengths(self.body_bytes_max, 0)?;
        let length = header.body_bytes as usize;
        let mut body = AlignedVec::with_capacity(length);
        body.resize(length, 0);
        self.source.read_exact(&mut body).await.map_err(|error| self.broken(error))?;
        Header::verify(&head, &body)?;
        Ok(Some(Frame { header, body }))
    }
}

/// A reply with its payload.
pub(super) struct Reply {
    /// Header and body.
    pub(super) frame: Outgoing,
    /// What follows them.
    pub(super) payload: Vec<PayloadPart>,
}

/// Writes replies: small pieces together, large ones from where they lie.
pub(super) struct FrameWriter<W> {
    sink: W,
    address: Rc<str>,
    gathered: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(sink: W, address: Rc<str>) -> Self {
        FrameWriter { sink, address, gathered: Vec::new() }
    }

    /// Writes all of them; the payloads' owners live until their bytes are in the kernel.
    pub(super) async fn write(&mut self, replies: &[Reply]) -> Result<(), NetError> {
        for reply in replies {
            self.gathered.extend_from_slice(&reply.frame.header);
            self.put(&reply.frame.body).await?;
            for part in &reply.payload {
                self.put(part.bytes()).await?;
            }
        }
        self.flush().await
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        if bytes.len() > COALESCE_BYTES_MAX {
            self.flush().await?;
            return write_within(&mut self.sink, &self.address, bytes).await;
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= 2 * COALESCE_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), NetError> {
        if !self.gathered.is_empty() {
            write_within(&mut self.sink, &self.address, &self.gathered).await?;
            self.gathered.clear();
        }
        Ok(())
    }
}

async fn write_within<W: AsyncWrite + Unpin>(sink: &mut W, address: &str, bytes: &[u8]) -> Result<(), NetError> {
    // The timer starts only if the first attempt would block.
    let written = glommio::timer::timeout(WRITE_TIMEOUT, async { Ok(sink.write_all(bytes).await) }).await;
    let result = written.unwrap_or_else(|_| Err(io::Error::other("the other side does not read")));
    result.map_err(|error| NetError::Broken { address: address.into(), error: error.to_string() })
}
