//! Properties of frames: what is encoded is decoded, and what is damaged is refused.

use forebay_net::frame::FrameError;
use forebay_net::{FRAME_HEADER_BYTES, Flags, Header};
use proptest::prelude::*;

fn header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let body = prop::collection::vec(any::<u8>(), 0..200);
    (any::<u8>(), any::<u16>(), any::<u64>(), body, 0..=8u32 << 20, any::<u32>()).prop_map(
        |(flags, op, request_id, body, payload_bytes, word)| {
            let header = Header {
                flags: Flags(flags),
                op,
                request_id,
                body_bytes: body.len() as u32,
                payload_bytes,
                deadline_ms_or_status: word,
            };
            (header, body)
        },
    )
}

/// What a receiver does with a frame's bytes.
fn receive(bytes: &[u8]) -> Result<Header, Option<FrameError>> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(None)?;
    let header = Header::decode(head)?;
    let body = rest.get(..header.body_bytes as usize).ok_or(None)?;
    Header::verify(head, body)?;
    Ok(header)
}

proptest! {
    #[test]
    fn headers_round_trip((header, body) in header()) {
        let bytes = [&header.encode(&body)[..], &body].concat();
        prop_assert_eq!(receive(&bytes), Ok(header));
    }

    #[test]
    fn every_flipped_bit_is_refused((header, body) in header(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let mut bytes = [&header.encode(&body)[..], &body].concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(receive(&bytes).is_err());
    }

    #[test]
    fn damaged_runs_are_refused(
        (header, body) in header(),
        at in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let good = [&header.encode(&body)[..], &body].concat();
        let mut bad = good.clone();
        let at = at.index(bad.len());
        for (byte, noise) in bad[at..].iter_mut().zip(noise) {
            *byte = noise;
        }
        prop_assert!(bad == good || receive(&bad).is_err());
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(receive(&bytes).is_err());
    }
}
