//! What a store is opened with. Plain data.

use crate::disk::Depth;
use crate::{EngineError, Tier};
use forebay_base::{ClusterId, Incarnation, ShardId};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which pages leave a tier first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EvictionPolicy {
    /// The page not used for the longest time, where a page gets in only if it is asked for more often than that one.
    #[default]
    ScanResistant,
    /// The page not used for the longest time.
    Lru,
    /// The page used least often, where old uses count less and less.
    Lfu,
}

impl fmt::Display for EvictionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EvictionPolicy::ScanResistant => "scan-resistant",
            EvictionPolicy::Lru => "lru",
            EvictionPolicy::Lfu => "lfu",
        })
    }
}

impl FromStr for EvictionPolicy {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "scan-resistant" => Ok(EvictionPolicy::ScanResistant),
            "lru" => Ok(EvictionPolicy::Lru),
            "lfu" => Ok(EvictionPolicy::Lfu),
            _ => Err(EngineError::Invalid(format!("eviction: got {text:?}, want scan-resistant, lru or lfu"))),
        }
    }
}

/// One directory of a disk tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryConfig {
    /// SSD or HDD.
    pub tier: Tier,
    /// The directory that the shards share; this shard's files go to `shard-N` in it.
    pub path: PathBuf,
    /// This shard's share, in bytes.
    pub capacity_bytes: u64,
    /// Why it is not to be touched, if so: it is reported, and nothing is read from it or written to it.
    pub out_of_use: Option<String>,
}

impl DirectoryConfig {
    /// A directory that is to be used.
    #[must_use]
    pub fn new(tier: Tier, path: impl Into<PathBuf>, capacity_bytes: u64) -> DirectoryConfig {
        DirectoryConfig { tier, path: path.into(), capacity_bytes, out_of_use: None }
    }
}

/// Everything one core's store needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreConfig {
    /// The cluster whose data this is; directories of another cluster are refused.
    pub cluster_id: ClusterId,
    /// How often the cluster's state was restored; directories from a later state are refused.
    pub incarnation: Incarnation,
    /// This core.
    pub shard: ShardId,
    /// Cores of this worker.
    pub shards: u16,
    /// Unit of presence: a power of two from 16 KiB to 4 MiB.
    pub page_bytes: u32,
    /// This shard's share of the MEM tier.
    pub mem_capacity_bytes: u64,
    /// The disk tiers, all of SSD before all of HDD; may be empty.
    pub directories: Vec<DirectoryConfig>,
    /// Which pages leave first.
    pub eviction: EvictionPolicy,
    /// Pages outside the MEM tier: being filled, written behind, or held by readers.
    pub buffer_memory_bytes: u64,
    /// Check the CRC of every 4 KiB that comes from a disk.
    pub verify_reads: bool,
    /// How fast pages on disks are read again in the background to find what went bad; 0 for never.
    pub scrub_bytes_per_second: u64,
}

/// Smallest page.
pub(crate) const PAGE_BYTES_MIN: u32 = 16 << 10;
/// Largest page: its row of checksums is one sector.
pub(crate) const PAGE_BYTES_MAX: u32 = 4 << 20;

/// Requests that one core has under way at one disk: more only wait inside the device.
const DISK_REQUESTS_MAX: usize = 128;
/// Of these, what writes behind and looks after the disk: enough to keep it busy when no reader does.
const DISK_BACKGROUND_MAX: usize = 16;

impl StoreConfig {
    /// The memory for direct reads that this core's executor is to be made with: reads under way fit in it, so that
    /// none of them needs a fresh allocation with its page faults.
    #[must_use]
    pub fn io_memory_bytes(&self) -> u64 {
        self.buffer_memory_bytes / 2
    }

    /// How much is under way at each disk: all of them together at most fill the memory for reads.
    pub(crate) fn depth(&self) -> Depth {
        let disks = self.directories.len().max(1) as u64;
        let bytes = (self.io_memory_bytes() / disks).max(2 * u64::from(self.page_bytes));
        Depth { requests: DISK_REQUESTS_MAX, background: DISK_BACKGROUND_MAX, bytes }
    }

    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let page = self.page_bytes;
        if !page.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page) {
            return Err(EngineError::Invalid(format!(
                "page size: got {page} bytes, want a power of two from {PAGE_BYTES_MIN} to {PAGE_BYTES_MAX}"
            )));
        }
        if self.shard.0 >= self.shards {
            return Err(EngineError::Invalid(format!("shard {} of {}: want a lower number", self.shard, self.shards)));
        }
        if self.directories.len() > usize::from(u8::MAX) {
            let count = self.directories.len();
            return Err(EngineError::Invalid(format!("directories: got {count}, want at most {}", u8::MAX)));
        }
        let tiers: Vec<Tier> = self.directories.iter().map(|directory| directory.tier).collect();
        if tiers.contains(&Tier::Mem) || !tiers.is_sorted() {
            return Err(EngineError::Invalid(format!(
                "directories: got {tiers:?}, want SSD before HDD and nothing else"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_by_name() {
        assert_eq!("scan-resistant".parse::<EvictionPolicy>().unwrap(), EvictionPolicy::default());
        assert_eq!("lru".parse::<EvictionPolicy>().unwrap(), EvictionPolicy::Lru);
        assert_eq!("lfu".parse::<EvictionPolicy>().unwrap(), EvictionPolicy::Lfu);
        let wrong = "fifo".parse::<EvictionPolicy>().unwrap_err().to_string();
        assert_eq!(wrong, "eviction: got \"fifo\", want scan-resistant, lru or lfu");
    }
}
