//! Which workers own a block, and which of a worker's cores owns a file. Pure: the same answer everywhere.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; the weighted form by the logarithm method): each worker
//! scores the block, the best R own it. A worker that joins or leaves moves only its own share.

use crate::{BlockIndex, FileId, ShardId, WorkerId};

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): spreads every input bit over the result.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn score(file: FileId, block: BlockIndex, worker: WorkerId, weight: u32) -> f64 {
    let hash = mix(mix(file.0 ^ mix(u64::from(block.0))) ^ mix(worker.0));
    // 53 bits in (0, 1): never 0, so the logarithm is finite.
    let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    f64::from(weight.max(1)) / -unit.ln()
}

/// The workers for one block, best first: the first R of them own it, the next ones are where a reader goes on when
/// an owner is away. `workers` are (id, weight); the order of the input does not matter.
#[must_use]
pub fn ranked_workers(file: FileId, block: BlockIndex, workers: &[(WorkerId, u32)]) -> Vec<WorkerId> {
    let mut scored: Vec<(f64, WorkerId)> =
        workers.iter().map(|&(worker, weight)| (score(file, block, worker, weight), worker)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().map(|(_, worker)| worker).collect()
}

/// The core of a worker that owns all of a file's pages held there. `shards` must not be 0.
#[must_use]
pub fn shard_of(file: FileId, shards: u16) -> ShardId {
    assert!(shards > 0, "a worker has at least one shard");
    ShardId((mix(file.0) % u64::from(shards)) as u16)
}

/// The partition of a new directory, from its parent and name: any fixed spread serves, it is written into the `FileId`.
#[must_use]
pub fn partition_of_new_directory(parent: FileId, name: &[u8], partitions: u16) -> crate::PartitionId {
    assert!((1..=256).contains(&partitions), "1 to 256 partitions, got {partitions}");
    let hash = name.chunks(8).fold(mix(parent.0), |hash, chunk| {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    });
    crate::PartitionId((hash % u64::from(partitions)) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_leaves_moves_only_its_own_blocks() {
        let all: Vec<(WorkerId, u32)> = (1..=5).map(|id| (WorkerId(id), 100)).collect();
        let fewer: Vec<(WorkerId, u32)> = all[..4].to_vec();
        let mut share = [0u32; 6];
        for block in 0..10_000 {
            let before = ranked_workers(FileId(9), BlockIndex(block), &all);
            let after = ranked_workers(FileId(9), BlockIndex(block), &fewer);
            share[before[0].0 as usize] += 1;
            if before[0] != WorkerId(5) {
                assert_eq!(before[0], after[0]);
            } else {
                assert_eq!(before[1], after[0]);
            }
        }
        assert!(share[1..].iter().all(|&count| (1_700..2_300).contains(&count)), "{share:?}");
    }

    #[test]
    fn weights_are_shares() {
        let workers = [(WorkerId(1), 300), (WorkerId(2), 100)];
        let first = (0..10_000)
            .filter(|&block| ranked_workers(FileId(3), BlockIndex(block), &workers)[0] == WorkerId(1))
            .count();
        assert!((7_200..7_800).contains(&first), "{first}");
    }

    #[test]
    fn shards_are_even() {
        let mut counts = [0u32; 4];
        for id in 0..10_000 {
            counts[usize::from(shard_of(FileId(id), 4).0)] += 1;
        }
        assert!(counts.iter().all(|&count| (2_300..2_700).contains(&count)), "{counts:?}");
    }
}
