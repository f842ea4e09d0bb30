//! The mark of a clean stop: which contents were still to be compared with their checksums. Pure.

use super::FORMAT;
use forebay_base::{FileId, Version, crc32c};

const MAGIC: &[u8; 8] = b"FBCLEAN1";
const HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;
/// The mark stays within the space that a directory leaves free. More than that is not worth one: everything is compared again.
const ENTRIES_MAX: usize = 4000;

/// What a worker leaves in a directory when it stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CleanMark {
    pub(crate) unchecked: Vec<(FileId, Version)>,
}

impl CleanMark {
    /// The file's bytes: magic, format, count, entries, CRC of all before it. None if there are too many.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        if self.unchecked.len() > ENTRIES_MAX {
            return None;
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(self.unchecked.len() as u32).to_le_bytes());
        for (file_id, version) in &self.unchecked {
            bytes.extend_from_slice(&file_id.0.to_le_bytes());
            bytes.extend_from_slice(&version.0.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        Some(bytes)
    }

    /// None for anything that is not exactly such a mark of this format.
    pub(crate) fn decode(bytes: &[u8]) -> Option<CleanMark> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let head = body.first_chunk::<HEAD_BYTES>()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let entries = body[HEAD_BYTES..].chunks_exact(ENTRY_BYTES);
        let is_ours = head.starts_with(MAGIC) && word(8) == FORMAT && crc32c(body) == u32::from_le_bytes(*crc);
        if !is_ours || !entries.remainder().is_empty() || entries.len() != word(12) as usize {
            return None;
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        Some(CleanMark {
            unchecked: entries.map(|entry| (FileId(number(&entry[..8])), Version(number(&entry[8..])))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_damaged_one_is_none() {
        for unchecked in [vec![], vec![(FileId(1), Version(u64::MAX)), (FileId(0x0102_0304_0506_0708), Version(9))]] {
            let mark = CleanMark { unchecked };
            let bytes = mark.encode().unwrap();
            assert_eq!(bytes.len(), 20 + 16 * mark.unchecked.len());
            assert_eq!(CleanMark::decode(&bytes), Some(mark));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert_eq!(CleanMark::decode(&bad), None, "byte {at}");
                assert_eq!(CleanMark::decode(&bytes[..at]), None);
            }
        }
    }
}
