//! Replies as frames, the same on both runtimes. Pure.

use crate::NetError;
use crate::frame::{FRAME_HEADER_BYTES, Flags, Header};
use forebay_base::{ErrorKind, KindError, limits};
use rkyv::util::AlignedVec;

/// A frame's header and body, ready to be written.
pub(super) struct Outgoing {
    /// Encoded.
    pub(super) header: [u8; FRAME_HEADER_BYTES],
    /// What follows it.
    pub(super) body: AlignedVec,
}

/// A request; refuses a body that no frame may carry.
pub(super) fn request(op: u16, request_id: u64, body: AlignedVec, deadline_ms: u32) -> Result<Outgoing, NetError> {
    let body_bytes = check("body", limits::BODY_BYTES_MAX, body.len(), op)?;
    let header =
        Header { flags: Flags(0), op, request_id, body_bytes, payload_bytes: 0, deadline_ms_or_status: deadline_ms };
    Ok(Outgoing { header: header.encode(&body), body })
}

/// A reply of either outcome; one that no frame may carry becomes an error.
pub(super) fn reply(op: u16, request_id: u64, payload_bytes: usize, result: Result<AlignedVec, KindError>) -> Outgoing {
    let checked = result.and_then(|body| {
        let internal = |error: NetError| KindError::new(ErrorKind::Internal, format!("reply to {error}"));
        let body_bytes = check("body", limits::BODY_BYTES_MAX, body.len(), op).map_err(internal)?;
        let payload_bytes = check("payload", limits::PAYLOAD_BYTES_MAX, payload_bytes, op).map_err(internal)?;
        Ok((body, body_bytes, payload_bytes))
    });
    let (body, body_bytes, payload_bytes, status) = match checked {
        Ok((body, body_bytes, payload_bytes)) => (body, body_bytes, payload_bytes, 0),
        Err(error) => {
            let text = error_text(&error.message);
            let mut body = AlignedVec::with_capacity(text.len());
            body.extend_from_slice(text.as_bytes());
            (body, text.len() as u32, 0, u32::from(error.kind.code()))
        }
    };
    let header =
        Header { flags: Flags::REPLY, op, request_id, body_bytes, payload_bytes, deadline_ms_or_status: status };
    Outgoing { header: header.encode(&body), body }
}

fn check(what: &'static str, max: u32, bytes: usize, op: u16) -> Result<u32, NetError> {
    u32::try_from(bytes).ok().filter(|bytes| *bytes <= max).ok_or_else(|| NetError::TooLarge {
        op: format!("{op:#06x}"),
        what,
        bytes,
        max,
    })
}

/// Error texts are for people: one line, never longer than this many bytes.
const ERROR_TEXT_BYTES_MAX: usize = 2048;

fn error_text(text: &str) -> &str {
    let mut end = text.len().min(ERROR_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_travel_as_text_of_bounded_length() {
        let text = "\u{e9}".repeat(3000);
        let sent = reply(7, 9, 0, Err(KindError::new(ErrorKind::Stale, text)));
        let header = Header::decode(&sent.header).unwrap();
        assert_eq!((header.op, header.request_id, header.deadline_ms_or_status), (7, 9, 10));
        assert_eq!(sent.body.len(), 2048);
        assert!(std::str::from_utf8(&sent.body).is_ok());
    }

    #[test]
    fn a_reply_no_frame_can_carry_becomes_an_internal_error() {
        let body = AlignedVec::new();
        let sent = reply(7, 9, limits::PAYLOAD_BYTES_MAX as usize + 1, Ok(body));
        let header = Header::decode(&sent.header).unwrap();
        assert_eq!(header.deadline_ms_or_status, u32::from(ErrorKind::Internal.code()));
        assert_eq!(header.payload_bytes, 0);
    }
}
