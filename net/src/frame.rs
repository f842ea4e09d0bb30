//! The 32-byte little-endian frame header. Pure.
//!
//! Layout: magic u32 | version u8 | flags u8 | op u16 | request id u64 | body length u32 | payload length u32 |
//! deadline or status u32 | CRC32C u32. A request's word at offset 24 is its deadline in milliseconds from arrival; a
//! reply's is its status: 0, or an `ErrorKind` code (the body is then the UTF-8 message). The CRC covers the first 28
//! bytes and the body, not the payload: payload units carry their own checksums.
//!
//! Invariant: lengths are checked against `limits` before anyone allocates by them.

use forebay_base::{crc32c, crc32c_append, limits};

/// Size of a header on the wire.
pub const FRAME_HEADER_BYTES: usize = 32;
/// First four bytes of every frame: "FBY1".
pub const MAGIC: u32 = u32::from_le_bytes(*b"FBY1");
/// The wire version this build speaks, and the oldest one it understands.
pub const WIRE_VERSION: u8 = 1;
/// The oldest wire version this build understands.
pub const WIRE_VERSION_MIN: u8 = 1;

/// Bits of the flags byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// Set on every reply.
    pub const REPLY: Flags = Flags(1);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bits.
    pub flags: Flags,
    /// Operation, see `message::Op`.
    pub op: u16,
    /// Chosen by the requester, echoed by the reply.
    pub request_id: u64,
    /// Bytes of rkyv body (or of error text).
    pub body_bytes: u32,
    /// Bytes of raw payload behind the body.
    pub payload_bytes: u32,
    /// Request: deadline in milliseconds. Reply: status.
    pub deadline_ms_or_status: u32,
}

/// Why a header was refused: the connection is closed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Not a Forebay frame.
    #[error("frame magic: got {got:#010x}, want {MAGIC:#010x}")]
    Magic {
        /// What stood there.
        got: u32,
    },
    /// A version outside what the handshake agreed.
    #[error("frame version: got {got}, want {WIRE_VERSION_MIN} to {WIRE_VERSION}")]
    Version {
        /// What stood there.
        got: u8,
    },
    /// A length above the limit.
    #[error("frame {what}: got {got} bytes, want at most {max}")]
    TooLong {
        /// body or payload.
        what: &'static str,
        /// The length.
        got: u32,
        /// The limit.
        max: u32,
    },
    /// The checksum over header and body is wrong.
    #[error("frame checksum: got {got:#010x}, want {want:#010x}")]
    Checksum {
        /// In the frame.
        got: u32,
        /// Computed.
        want: u32,
    },
}

impl Header {
    /// Writes the header for `body`.
    #[must_use]
    pub fn encode(&self, body: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
        debug_assert_eq!(self.body_bytes as usize, body.len());
        let mut out = [0u8; FRAME_HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4] = WIRE_VERSION;
        out[5] = self.flags.0;
        out[6..8].copy_from_slice(&self.op.to_le_bytes());
        out[8..16].copy_from_slice(&self.request_id.to_le_bytes());
        out[16..20].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[20..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[24..28].copy_from_slice(&self.deadline_ms_or_status.to_le_bytes());
        let crc = crc32c_append(crc32c(&out[..28]), body);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; its lengths are within the limits afterwards. The checksum is checked by `verify`, once the body is in.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if u32_at(0) != MAGIC {
            return Err(FrameError::Magic { got: u32_at(0) });
        }
        if !(WIRE_VERSION_MIN..=WIRE_VERSION).contains(&bytes[4]) {
            return Err(FrameError::Version { got: bytes[4] });
        }
        let header = Header {
            flags: Flags(bytes[5]),
            op: u16::from_le_bytes([bytes[6], bytes[7]]),
            request_id: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            body_bytes: u32_at(16),
            payload_bytes: u32_at(20),
            deadline_ms_or_status: u32_at(24),
        };
        header.check_lengths(limits::BODY_BYTES_MAX, limits::PAYLOAD_BYTES_MAX)?;
        Ok(header)
    }

    /// Refuses lengths above what this side takes at this moment.
    pub fn check_lengths(&self, body_bytes_max: u32, payload_bytes_max: u32) -> Result<(), FrameError> {
        for (what, got, max) in
            [("body", self.body_bytes, body_bytes_max), ("payload", self.payload_bytes, payload_bytes_max)]
        {
            if got > max {
                return Err(FrameError::TooLong { what, got, max });
            }
        }
        Ok(())
    }

    /// Checks the CRC of header and body.
    pub fn verify(bytes: &[u8; FRAME_HEADER_BYTES], body: &[u8]) -> Result<(), FrameError> {
        let got = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
        let want = crc32c_append(crc32c(&bytes[..28]), body);
        if got == want { Ok(()) } else { Err(FrameError::Checksum { got, want }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_header() {
        let header = Header {
            flags: Flags::REPLY,
            op: 0x0203,
            request_id: 0x1122_3344_5566_7788,
            body_bytes: 3,
            payload_bytes: 4096,
            deadline_ms_or_status: 10,
        };
        let bytes = header.encode(b"abc");
        assert_eq!(
            bytes[..28],
            [
                b'F', b'B', b'Y', b'1', 1, 1, 3, 2, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3, 0, 0, 0, 0, 16,
                0, 0, 10, 0, 0, 0
            ]
        );
        assert_eq!(Header::decode(&bytes), Ok(header));
        assert_eq!(Header::verify(&bytes, b"abc"), Ok(()));
        assert!(matches!(Header::verify(&bytes, b"abd"), Err(FrameError::Checksum { .. })));
    }

    #[test]
    fn bad_headers_are_refused_before_allocation() {
        let header =
            Header { flags: Flags(0), op: 1, request_id: 1, body_bytes: 0, payload_bytes: 0, deadline_ms_or_status: 0 };
        let good = header.encode(b"");
        let mut bad = good;
        bad[0] = b'X';
        assert!(matches!(Header::decode(&bad), Err(FrameError::Magic { .. })));
        bad = good;
        bad[4] = 9;
        assert_eq!(Header::decode(&bad), Err(FrameError::Version { got: 9 }));
        for at in [16, 20] {
            bad = good;
            bad[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(matches!(Header::decode(&bad), Err(FrameError::TooLong { .. })));
        }
    }
}
