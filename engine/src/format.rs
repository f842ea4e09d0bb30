//! What stands on disk, byte by byte (docs/formats/disk.md). Pure.
//!
//! Every table sector is 4 KiB: an rkyv-archived struct of fixed size at its start, read in place, and the CRC32C of
//! the 4092 bytes before it in the last four. rkyv checks structure only, so the CRC is checked first. Invariants: a
//! released layout never changes, a change is a new `FORMAT`; nothing is interpreted before its CRC matches.

mod clean;
mod header;
mod small;
mod superblock;

pub(crate) use clean::CleanMark;
pub(crate) use header::BlockHeader;
pub(crate) use small::{SMALL_RECORDS, SmallRecord, SmallSector};
pub(crate) use superblock::Superblock;

use forebay_base::{UNIT_BYTES, crc32c};
use rkyv::Portable;
use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;

/// The disk format that this release writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// Pages in one block header.
pub(crate) const BLOCK_PAGES: u32 = 256;
/// A table sector.
pub(crate) const SECTOR_BYTES: usize = UNIT_BYTES;
const CRC_AT: usize = SECTOR_BYTES - 4;

/// Bytes of a page's row: one CRC32C per 4 KiB unit.
pub(crate) fn row_bytes(page_bytes: u32) -> u64 {
    u64::from(page_bytes) / UNIT_BYTES as u64 * 4
}

/// A row as bytes.
pub(crate) fn row_to_bytes(row: &[u32]) -> Vec<u8> {
    row.iter().flat_map(|crc| crc.to_le_bytes()).collect()
}

/// The row in `bytes`, if it is what `checksum` was made of.
pub(crate) fn row_from_bytes(bytes: &[u8], checksum: u32) -> Option<Box<[u32]>> {
    if crc32c(bytes) != checksum {
        return None;
    }
    Some(bytes.as_chunks::<4>().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect())
}

/// Archives `value` at the start of a zeroed sector and sums it.
fn encode<T>(value: &T, sector: &mut [u8])
where
    T: for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>,
{
    let bytes = rkyv::to_bytes::<RkyvError>(value).expect("a struct of fixed size without pointers");
    sector.fill(0);
    sector[..bytes.len()].copy_from_slice(&bytes);
    let crc = crc32c(&sector[..CRC_AT]);
    sector[CRC_AT..SECTOR_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// The archived value of a sector; `None` if the CRC or the structure is wrong.
fn decode<T>(sector: &[u8]) -> Option<&T>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, RkyvError>>,
{
    let (body, crc) = sector.get(..SECTOR_BYTES)?.split_at(CRC_AT);
    if crc32c(body).to_le_bytes() != *crc {
        return None;
    }
    rkyv::access::<T, RkyvError>(body.get(..size_of::<T>())?).ok()
}

/// Whether a sector was never written.
pub(crate) fn is_blank(sector: &[u8]) -> bool {
    sector.iter().all(|&byte| byte == 0)
}
