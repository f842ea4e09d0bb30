//! The superblock: whose directory this is. Pure.

use super::{FORMAT, SECTOR_BYTES, decode, encode};
use forebay_base::{ClusterId, Incarnation, ShardId};
use rkyv::{Archive, Serialize};

const MAGIC: u64 = u64::from_le_bytes(*b"FBSUPER1");

#[derive(Archive, Serialize)]
struct Raw {
    magic: u64,
    format: u32,
    page_bytes: u32,
    cluster_id: [u8; 16],
    shard: u16,
    shards: u16,
    incarnation: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<ArchivedRaw>() == 40 && align_of::<ArchivedRaw>() == 8);

/// What a superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Superblock {
    pub(crate) format: u32,
    pub(crate) page_bytes: u32,
    pub(crate) cluster_id: ClusterId,
    pub(crate) shard: ShardId,
    pub(crate) shards: u16,
    pub(crate) incarnation: Incarnation,
}

impl Superblock {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut sector = vec![0; SECTOR_BYTES];
        let raw = Raw {
            magic: MAGIC,
            format: self.format,
            page_bytes: self.page_bytes,
            cluster_id: self.cluster_id.0.to_le_bytes(),
            shard: self.shard.0,
            shards: self.shards,
            incarnation: self.incarnation.0,
            reserved: 0,
        };
        encode(&raw, &mut sector);
        sector
    }

    /// `None` if this is no superblock. Of a later format only `format` means anything: magic, format and CRC stay
    /// where they are in every format.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Superblock> {
        let mut sector = rkyv::util::AlignedVec::<16>::with_capacity(SECTOR_BYTES);
        sector.extend_from_slice(bytes.get(..SECTOR_BYTES)?);
        let raw = decode::<ArchivedRaw>(&sector)?;
        (raw.magic == MAGIC).then(|| Superblock {
            format: raw.format.to_native(),
            page_bytes: raw.page_bytes.to_native(),
            cluster_id: ClusterId(u128::from_le_bytes(raw.cluster_id)),
            shard: ShardId(raw.shard.to_native()),
            shards: raw.shards.to_native(),
            incarnation: Incarnation(raw.incarnation.to_native()),
        })
    }

    /// Whether this release can read the directory.
    pub(crate) fn is_newer(&self) -> bool {
        self.format > FORMAT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_any_flipped_byte_is_noticed() {
        let superblock = Superblock {
            format: FORMAT,
            page_bytes: 1 << 20,
            cluster_id: ClusterId(0x1234_5678_9abc),
            shard: ShardId(1),
            shards: 2,
            incarnation: Incarnation(3),
        };
        let bytes = superblock.encode();
        assert_eq!(bytes[..12], *b"FBSUPER1\x01\0\0\0");
        assert_eq!(Superblock::decode(&bytes), Some(superblock));
        for at in [0, 9, 30, 39, 4000, 4095] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(Superblock::decode(&wrong), None);
        }
        assert_eq!(Superblock::decode(&bytes[..100]), None);
    }
}
