//! Who holds which part of a file: the first worker in rank for each block, at one core of it. Pure.

use forebay_base::{BlockIndex, FileId, ShardId, WorkerId, limits, placement};
use forebay_net::message::cluster::{ClusterMap, WorkerInfo};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One core.
pub(super) type Core = (WorkerId, ShardId);

/// Most blocks of a file that can be pinned: 16 TiB.
const BLOCKS_MAX: u64 = 1 << 16;

/// What one core is to hold of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: u64,
    /// Ranges of blocks, the end excluded; none when the file is one block.
    pub(super) blocks: Vec<(u32, u32)>,
}

/// The live workers.
pub(super) struct Owners {
    weights: Vec<(WorkerId, u32)>,
    workers: HashMap<WorkerId, Arc<WorkerInfo>>,
}

impl Owners {
    pub(super) fn new(map: ClusterMap) -> Self {
        let usable: Vec<WorkerInfo> = map.workers.into_iter().filter(|worker| !worker.shards.is_empty()).collect();
        Self {
            weights: usable.iter().map(|worker| (WorkerId(worker.worker_id), worker.weight)).collect(),
            workers: usable.into_iter().map(|worker| (WorkerId(worker.worker_id), Arc::new(worker))).collect(),
        }
    }

    pub(super) fn worker(&self, worker: WorkerId) -> Option<Arc<WorkerInfo>> {
        self.workers.get(&worker).cloned()
    }

    fn core(&self, id: FileId, block: u32) -> Option<Core> {
        let worker = *placement::ranked_workers(id, BlockIndex(block), &self.weights).first()?;
        let shards = u16::try_from(self.workers.get(&worker)?.shards.len()).unwrap_or(u16::MAX);
        Some((worker, placement::shard_of(id, shards)))
    }

    /// The parts of a file by core; none without workers. The error says why it cannot be pinned.
    pub(super) fn parts(&self, id: FileId, size: u64) -> Result<BTreeMap<Core, Part>, String> {
        let blocks = size.div_ceil(limits::BLOCK_BYTES);
        if blocks > BLOCKS_MAX {
            return Err(format!("it has {size} bytes, at most {} can be pinned", BLOCKS_MAX * limits::BLOCK_BYTES));
        }
        let mut parts: BTreeMap<Core, Part> = BTreeMap::new();
        for block in 0..blocks as u32 {
            let Some(core) = self.core(id, block) else { break };
            let part = parts.entry(core).or_default();
            part.bytes += limits::BLOCK_BYTES.min(size - u64::from(block) * limits::BLOCK_BYTES);
            match part.blocks.last_mut() {
                Some((_, end)) if *end == block => *end += 1,
                _ if blocks == 1 => {}
                _ => part.blocks.push((block, block + 1)),
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::cluster::ShardAddress;

    fn owners(ids: &[u64]) -> Owners {
        let shard = ShardAddress { tcp: "h:1".into(), unix: String::new() };
        let worker = |id: &u64| WorkerInfo { worker_id: *id, weight: 100, host_id: 1, shards: vec![shard.clone(); 2] };
        Owners::new(ClusterMap {
            epoch: 1,
            cluster_id: 1,
            incarnation: 1,
            ticket_key: [0; 32],
            workers: ids.iter().map(worker).collect(),
        })
    }

    #[test]
    fn parts_cover_the_file_once() {
        let size = 9 * limits::BLOCK_BYTES + 5;
        let parts = owners(&[1, 2, 3]).parts(FileId(77), size).expect("it is not too large");
        assert!(parts.len() > 1, "{parts:?}");
        assert_eq!(parts.values().map(|part| part.bytes).sum::<u64>(), size);
        let mut blocks: Vec<u32> =
            parts.values().flat_map(|part| part.blocks.iter().flat_map(|&(first, end)| first..end)).collect();
        blocks.sort_unstable();
        assert_eq!(blocks, (0..10).collect::<Vec<u32>>());
        let one = owners(&[1]);
        let whole: Vec<Part> = one.parts(FileId(77), size).expect("it is not too large").into_values().collect();
        assert_eq!(whole, [Part { bytes: size, blocks: vec![(0, 10)] }]);
        let small: Vec<Part> = one.parts(FileId(77), 5).expect("it is not too large").into_values().collect();
        assert_eq!(small, [Part { bytes: 5, blocks: vec![] }]);
        assert!(owners(&[]).parts(FileId(77), size).expect("it is not too large").is_empty());
        assert!(one.parts(FileId(77), u64::MAX).is_err());
    }
}
