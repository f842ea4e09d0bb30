//! Newtypes for every id that crosses a crate boundary. Owned by no core; all are plain integers.
//!
//! Invariants: a `FileId` is never reused and names its home partition for ever; a (`FileId`, `Version`) pair names
//! one immutable content for ever. Both carry the cluster's incarnation, so that a restored master never reissues one.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// A file or directory: 8 bits home partition, 16 bits incarnation, 40 bits counter. 0 is no file; 1 is the root directory.
    FileId(u64)
);
id!(
    /// One immutable content of a file: 16 bits incarnation, 48 bits counter. Grows; 0 means "no content" (a directory).
    Version(u64)
);
id!(
    /// A block's place in its file: the unit of placement, `block_size` bytes each.
    BlockIndex(u32)
);
id!(
    /// A page's place in its file (not in its block): the unit of fetch and presence, `page_size` bytes each.
    PageIndex(u32)
);
id!(
    /// A worker process; drawn at random once and kept in the worker's directory.
    WorkerId(u64)
);
id!(
    /// A core of one worker.
    ShardId(u16)
);
id!(
    /// A mount of an under store; never reused.
    MountId(u32)
);
id!(
    /// A partition of the namespace.
    PartitionId(u8)
);
id!(
    /// The cluster map's age; grows with each change of membership.
    MapEpoch(u64)
);
id!(
    /// How many times the cluster's state was restored, imported or forced; part of every new `FileId` and `Version`.
    Incarnation(u16)
);
id!(
    /// The cluster's own identity, drawn once when its master is formatted. 0 means "not known yet".
    ClusterId(u128)
);

impl FileId {
    /// The root of the namespace, home in partition 0.
    pub const ROOT: FileId = FileId(1);

    const COUNTER_BITS: u32 = 40;
    const PARTITION_SHIFT: u32 = 56;

    /// Packs an id. Panics if `counter` needs more than 40 bits: a partition never makes 10^12 files.
    #[must_use]
    pub fn new(partition: PartitionId, incarnation: Incarnation, counter: u64) -> Self {
        assert!(counter < 1 << Self::COUNTER_BITS, "file counter {counter} out of range");
        FileId(
            u64::from(partition.0) << Self::PARTITION_SHIFT | u64::from(incarnation.0) << Self::COUNTER_BITS | counter,
        )
    }

    /// The partition in which this inode lives for ever.
    #[must_use]
    pub fn partition(self) -> PartitionId {
        PartitionId((self.0 >> Self::PARTITION_SHIFT) as u8)
    }
}

impl Version {
    /// Packs a version. Panics if `counter` needs more than 48 bits.
    #[must_use]
    pub fn new(incarnation: Incarnation, counter: u64) -> Self {
        assert!(counter < 1 << 48, "version counter {counter} out of range");
        Version(u64::from(incarnation.0) << 48 | counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_id_packs_and_names_its_partition() {
        let id = FileId::new(PartitionId(63), Incarnation(7), 42);
        assert_eq!(id.partition(), PartitionId(63));
        assert_eq!(id.0, 63 << 56 | 7 << 40 | 42);
        assert_eq!(FileId::ROOT.partition(), PartitionId(0));
    }
}
