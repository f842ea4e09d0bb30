//! A block header: one 4 KiB slot for 256 pages of a large file. Pure.

use super::{BLOCK_PAGES, FORMAT, decode, encode};
use crate::key::FileKey;
use forebay_base::{FileId, FingerprintHash, Version};
use rkyv::{Archive, Serialize};

const MAGIC: u64 = u64::from_le_bytes(*b"FBBLOCK1");

#[derive(Archive, Serialize)]
struct Raw {
    magic: u64,
    format: u32,
    page_bytes: u32,
    slot: u32,
    block: u32,
    file_id: u64,
    version: u64,
    size_bytes: u64,
    fingerprint: [u8; 16],
    present: [u64; 4],
    row_checksums: [u32; BLOCK_PAGES as usize],
}

const _: () = assert!(size_of::<ArchivedRaw>() == 96 + 4 * BLOCK_PAGES as usize && align_of::<ArchivedRaw>() == 8);

/// What a header says. `pages` are the present pages, by their place in the block, with the checksum of their row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BlockHeader {
    pub(crate) key: FileKey,
    pub(crate) block: u32,
    pub(crate) pages: Vec<(u8, u32)>,
}

impl BlockHeader {
    pub(crate) fn encode(&self, slot: u32, page_bytes: u32, sector: &mut [u8]) {
        let mut raw = Raw {
            magic: MAGIC,
            format: FORMAT,
            page_bytes,
            slot,
            block: self.block,
            file_id: self.key.file_id.0,
            version: self.key.version.0,
            size_bytes: self.key.size_bytes,
            fingerprint: self.key.fingerprint.0.to_le_bytes(),
            present: [0; 4],
            row_checksums: [0; BLOCK_PAGES as usize],
        };
        for &(page, checksum) in &self.pages {
            raw.present[usize::from(page) / 64] |= 1 << (page % 64);
            raw.row_checksums[usize::from(page)] = checksum;
        }
        encode(&raw, sector);
    }

    /// `None` if the sector is no intact header of this slot and page size, or claims what cannot be.
    pub(crate) fn decode(sector: &[u8], slot: u32, page_bytes: u32) -> Option<BlockHeader> {
        let raw = decode::<ArchivedRaw>(sector)?;
        if raw.magic != MAGIC || raw.format != FORMAT || raw.slot != slot || raw.page_bytes != page_bytes {
            return None;
        }
        let key = FileKey {
            file_id: FileId(raw.file_id.to_native()),
            version: Version(raw.version.to_native()),
            fingerprint: FingerprintHash(u128::from_le_bytes(raw.fingerprint)),
            size_bytes: raw.size_bytes.to_native(),
        };
        let block = raw.block.to_native();
        let first = u64::from(block) * u64::from(BLOCK_PAGES);
        let file_pages = key.size_bytes.div_ceil(u64::from(page_bytes));
        let mut pages = Vec::new();
        for page in 0..=u8::MAX {
            if raw.present[usize::from(page) / 64].to_native() & 1 << (page % 64) == 0 {
                continue;
            }
            if first + u64::from(page) >= file_pages || file_pages > u64::from(u32::MAX) {
                return None;
            }
            pages.push((page, raw.row_checksums[usize::from(page)].to_native()));
        }
        Some(BlockHeader { key, block, pages })
    }

    /// Whether the sector is intact, in place.
    pub(crate) fn check(sector: &[u8]) -> bool {
        decode::<ArchivedRaw>(sector).is_some_and(|raw| raw.magic == MAGIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::AlignedBuffer;

    #[test]
    fn round_trip_and_what_it_refuses() {
        let key = FileKey {
            file_id: FileId(7),
            version: Version(8),
            fingerprint: FingerprintHash(9),
            size_bytes: (BLOCK_PAGES as u64 + 66) << 14,
        };
        let header = BlockHeader { key, block: 1, pages: vec![(0, 11), (63, 12), (65, 13)] };
        let mut buffer = AlignedBuffer::new(4096);
        let sector = buffer.bytes_mut().unwrap();
        header.encode(5, 1 << 14, sector);
        assert_eq!(BlockHeader::decode(sector, 5, 1 << 14), Some(header.clone()));
        assert_eq!(BlockHeader::decode(sector, 6, 1 << 14), None, "another slot");
        assert_eq!(BlockHeader::decode(sector, 5, 1 << 15), None, "another page size");
        for at in (0..4096).step_by(13) {
            sector[at] ^= 0x10;
            assert_eq!(BlockHeader::decode(sector, 5, 1 << 14), None, "byte {at}");
            sector[at] ^= 0x10;
        }
        let beyond = BlockHeader { pages: vec![(66, 1)], ..header };
        beyond.encode(5, 1 << 14, sector);
        assert_eq!(BlockHeader::decode(sector, 5, 1 << 14), None, "a page behind the end");
    }
}
