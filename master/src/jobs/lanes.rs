//! Where a step goes: the worker and core that own its block, and the queue in front of each. Owned by one job's task.
//!
//! Invariant: a queue and what is under way behind it are bounded; a worker that just failed is passed over for a while.

use super::ledger::Seq;
use forebay_base::{BlockIndex, FileId, ShardId, WorkerId, limits, placement};
use forebay_net::message::cluster::{ClusterMap, WorkerInfo};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches under way to one core.
pub(super) const BATCHES: usize = 4;
/// Most steps of a batch.
pub(super) const BATCH_STEPS: usize = 64;
/// Most bytes of a batch, unless it is one step.
pub(super) const BATCH_BYTES: u64 = 16 << 20;
/// Most steps and bytes that wait in front of a core.
const QUEUE_STEPS: usize = 2 * BATCHES * BATCH_STEPS;
const QUEUE_BYTES: u64 = 2 * BATCHES as u64 * BATCH_BYTES;
/// A worker that did not answer is passed over this long.
const SUSPECT_FOR: Duration = Duration::from_secs(2);

/// A range of a file to load.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) seq: Seq,
    pub(super) attempt: u8,
    pub(super) id: FileId,
    /// The file's size when the walk met it.
    pub(super) size: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Which of the replicas.
    pub(super) copy: u16,
    pub(super) tries: u32,
}

/// One core.
pub(super) type Core = (WorkerId, ShardId);

#[derive(Default)]
struct Lane {
    queue: VecDeque<Step>,
    bytes: u64,
    flying: usize,
    rest_until: Option<Instant>,
}

impl Lane {
    fn is_ready(&self, now: Instant) -> bool {
        !self.queue.is_empty() && self.flying < BATCHES && self.rest_until.is_none_or(|until| until <= now)
    }
}

/// Where a step is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// To this core.
    Core(Core),
    /// There are fewer workers than replicas: nowhere.
    Nowhere,
    /// There is no worker: later.
    Later,
}

/// All cores.
#[derive(Default)]
pub(super) struct Lanes {
    epoch: u64,
    weights: Vec<(WorkerId, u32)>,
    workers: HashMap<WorkerId, Arc<WorkerInfo>>,
    suspects: HashMap<WorkerId, Instant>,
    lanes: HashMap<Core, Lane>,
}

impl Lanes {
    /// The map's epoch, as known here.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Another map; gives the steps that waited for cores that are gone.
    pub(super) fn set_map(&mut self, map: ClusterMap) -> Vec<Step> {
        let usable = || map.workers.iter().filter(|worker| !worker.shards.is_empty());
        self.epoch = map.epoch;
        self.weights = usable().map(|worker| (WorkerId(worker.worker_id), worker.weight)).collect();
        self.workers = usable().map(|worker| (WorkerId(worker.worker_id), Arc::new(worker.clone()))).collect();
        let mut homeless = Vec::new();
        self.lanes.retain(|(worker, shard), lane| {
            let stays = self.workers.get(worker).is_some_and(|worker| usize::from(shard.0) < worker.shards.len());
            if !stays {
                homeless.extend(lane.queue.drain(..));
            }
            stays
        });
        homeless
    }

    /// Workers in the map.
    pub(super) fn worker_count(&self) -> usize {
        self.weights.len()
    }

    /// Where a step goes now.
    pub(super) fn target(&mut self, step: &Step, now: Instant) -> Target {
        if self.weights.is_empty() {
            return Target::Later;
        }
        let block = BlockIndex((step.offset / limits::BLOCK_BYTES).min(u64::from(u32::MAX)) as u32);
        let mut ranked = placement::ranked_workers(step.id, block, &self.weights);
        if !self.suspects.is_empty() {
            self.suspects.retain(|_, until| *until > now);
            ranked.sort_by_key(|worker| self.suspects.contains_key(worker));
        }
        let Some(worker) = ranked.get(usize::from(step.copy)) else { return Target::Nowhere };
        let Some(info) = self.workers.get(worker) else { return Target::Later };
        Target::Core((*worker, placement::shard_of(step.id, info.shards.len() as u16)))
    }

    /// Whether a core's queue takes another step.
    pub(super) fn has_room(&self, core: Core) -> bool {
        self.lanes.get(&core).is_none_or(|lane| lane.queue.len() < QUEUE_STEPS && lane.bytes < QUEUE_BYTES)
    }

    /// Puts a step into its core's queue.
    pub(super) fn push(&mut self, core: Core, step: Step) {
        let lane = self.lanes.entry(core).or_default();
        lane.bytes += step.length;
        lane.queue.push_back(step);
    }

    /// Cores that take a batch now.
    pub(super) fn ready(&self, now: Instant) -> Vec<Core> {
        self.lanes.iter().filter(|(_, lane)| lane.is_ready(now)).map(|(core, _)| *core).collect()
    }

    /// Whether this core takes a batch now.
    pub(super) fn ready_for(&self, core: Core, now: Instant) -> bool {
        self.lanes.get(&core).is_some_and(|lane| lane.is_ready(now))
    }

    /// The next batch of a core, which flies from now on.
    pub(super) fn take_batch(&mut self, core: Core, bytes_max: u64) -> Option<(Arc<WorkerInfo>, Vec<Step>)> {
        let worker = self.workers.get(&core.0)?.clone();
        let lane = self.lanes.get_mut(&core)?;
        let (mut steps, mut bytes) = (Vec::new(), 0);
        while let Some(step) = lane.queue.front() {
            if !steps.is_empty() && (steps.len() == BATCH_STEPS || bytes + step.length > bytes_max) {
                break;
            }
            bytes += step.length;
            steps.extend(lane.queue.pop_front());
        }
        lane.bytes -= bytes;
        lane.flying += 1;
        Some((worker, steps))
    }

    /// A batch came back.
    pub(super) fn landed(&mut self, core: Core) {
        if let Some(lane) = self.lanes.get_mut(&core) {
            lane.flying = lane.flying.saturating_sub(1);
        }
    }

    /// A core has too much to do.
    pub(super) fn rest(&mut self, core: Core, until: Instant) {
        if let Some(lane) = self.lanes.get_mut(&core) {
            lane.rest_until = Some(until);
        }
    }

    /// A worker did not answer; gives what waits for it.
    pub(super) fn suspect(&mut self, worker: WorkerId, now: Instant) -> Vec<Step> {
        self.suspects.insert(worker, now + SUSPECT_FOR);
        let mut waiting = Vec::new();
        for (_, lane) in self.lanes.iter_mut().filter(|((own, _), _)| *own == worker) {
            waiting.extend(lane.queue.drain(..));
            lane.bytes = 0;
        }
        waiting
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.queue.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::cluster::ShardAddress;

    fn map(epoch: u64, ids: &[u64]) -> ClusterMap {
        let shard = ShardAddress { tcp: "h:1".into(), unix: String::new() };
        let worker = |id: &u64| WorkerInfo { worker_id: *id, weight: 100, host_id: 1, shards: vec![shard.clone(); 2] };
        ClusterMap {
            epoch,
            cluster_id: 1,
            incarnation: 1,
            ticket_key: [0; 32],
            workers: ids.iter().map(worker).collect(),
        }
    }

    fn step(id: u64, copy: u16, length: u64) -> Step {
        Step { seq: 0, attempt: 0, id: FileId(id), size: length, offset: 0, length, copy, tries: 0 }
    }

    #[test]
    fn steps_follow_the_map_and_avoid_who_just_failed() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        assert_eq!(lanes.target(&step(1, 0, 1), now), Target::Later);
        assert!(lanes.set_map(map(1, &[1, 2])).is_empty());
        let Target::Core(first) = lanes.target(&step(1, 0, 1), now) else { panic!("a core") };
        let Target::Core(second) = lanes.target(&step(1, 1, 1), now) else { panic!("a core") };
        assert!(first.0 != second.0 && lanes.target(&step(1, 2, 1), now) == Target::Nowhere);
        lanes.push(first, step(1, 0, 5));
        assert_eq!(lanes.suspect(first.0, now).len(), 1);
        assert_eq!(lanes.target(&step(1, 0, 1), now), Target::Core(second));
        assert_eq!(lanes.target(&step(1, 0, 1), now + SUSPECT_FOR * 2), Target::Core(first));
        lanes.push(first, step(1, 0, 5));
        let other = if first.0 == WorkerId(1) { 2 } else { 1 };
        assert_eq!(lanes.set_map(map(2, &[other])).len(), 1);
        assert!(lanes.is_empty());
    }

    #[test]
    fn batches_and_queues_are_bounded() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.set_map(map(1, &[1]));
        let Target::Core(core) = lanes.target(&step(1, 0, 1), now) else { panic!("a core") };
        let mut queued = 0;
        while lanes.has_room(core) {
            lanes.push(core, step(1, 0, 1000));
            queued += 1;
        }
        assert_eq!(queued, QUEUE_STEPS);
        for _ in 0..BATCHES {
            assert_eq!(lanes.ready(now), [core]);
            assert_eq!(lanes.take_batch(core, BATCH_BYTES).expect("one").1.len(), BATCH_STEPS);
        }
        assert!(lanes.ready(now).is_empty());
        lanes.landed(core);
        assert_eq!(lanes.take_batch(core, 2500).expect("one").1.len(), 2);
        lanes.landed(core);
        assert_eq!(lanes.take_batch(core, 10).expect("one").1.len(), 1, "one step always goes");
        lanes.landed(core);
        lanes.rest(core, now + Duration::from_secs(1));
        assert!(lanes.ready(now).is_empty());
    }
}
