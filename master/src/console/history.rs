//! What the workers served over the last minutes: sums of their counters, sampled by one task, read by any.
//!
//! Invariants: at most `POINTS_MAX` points; the sums only grow, although a worker that starts anew counts from 0.

use forebay_net::message::cluster::{WorkerCounters, WorkerReport};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time between points.
pub(crate) const STEP: Duration = Duration::from_secs(2);
/// Ten minutes.
const POINTS_MAX: usize = 300;

/// Bytes from memory, from SSD, from HDD, fetched for a reader, and read from stores.
type Sums = [u64; 5];

/// The sums at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Point {
    /// Milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) sums: Sums,
}

#[derive(Default)]
struct Inner {
    /// What each worker said last.
    last: BTreeMap<u64, Sums>,
    sums: Sums,
    points: VecDeque<Point>,
}

/// The last minutes.
#[derive(Default)]
pub(crate) struct History(Mutex<Inner>);

fn sums_of(counters: &WorkerCounters) -> Sums {
    let (disks, stores) =
        ([counters.ssd_hit_bytes, counters.hdd_hit_bytes], [counters.miss_bytes, counters.store_read_bytes]);
    [counters.mem_hit_bytes, disks[0], disks[1], stores[0], stores[1]]
}

impl History {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a point.
    pub(crate) fn sample(&self, workers: &[WorkerReport], at_ms: u64) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.last.retain(|id, _| workers.iter().any(|worker| worker.worker.worker_id == *id));
        // One that has just registered has not said yet what it counts.
        for worker in workers.iter().filter(|worker| !worker.tiers.is_empty()) {
            let now = sums_of(&worker.counters);
            let last = inner.last.insert(worker.worker.worker_id, now);
            // What it did before this master saw it belongs to no time that is shown.
            let Some(last) = last else { continue };
            let began_anew = now.iter().zip(last).any(|(now, last)| *now < last);
            for ((sum, now), last) in inner.sums.iter_mut().zip(now).zip(last) {
                *sum = sum.saturating_add(if began_anew { now } else { now - last });
            }
        }
        inner.points.push_back(Point { at_ms, sums: inner.sums });
        while inner.points.len() > POINTS_MAX {
            inner.points.pop_front();
        }
    }

    /// The points, oldest first.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.inner().points.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::cluster::{TierUsage, WorkerInfo};

    fn worker(id: u64, mem_hit_bytes: u64) -> WorkerReport {
        let tier = TierUsage {
            tier: "MEM".into(),
            directory: String::new(),
            capacity_bytes: 1,
            used_bytes: 0,
            pinned_bytes: 0,
            leased_bytes: 0,
            trouble: String::new(),
        };
        WorkerReport {
            worker: WorkerInfo { worker_id: id, weight: 1, host_id: 1, shards: Vec::new() },
            live: true,
            silent_ms: 0,
            tiers: vec![tier],
            counters: WorkerCounters { mem_hit_bytes, ..WorkerCounters::default() },
        }
    }

    #[test]
    fn sums_grow_whatever_workers_do() {
        let history = History::default();
        let silent = WorkerReport { tiers: Vec::new(), ..worker(1, 0) };
        let seen = [
            vec![worker(1, 1_000)],
            vec![worker(1, 1_010)],
            vec![worker(1, 1_015), worker(2, 7_000)],
            // It registered again and has said nothing yet.
            vec![silent, worker(2, 7_001)],
            vec![worker(1, 1_020), worker(2, 7_001)],
            // It was started anew.
            vec![worker(1, 3), worker(2, 7_001)],
            vec![worker(2, 7_002)],
        ];
        for (at_ms, workers) in (0..).zip(&seen) {
            history.sample(workers, at_ms);
        }
        let sums: Vec<u64> = history.points().iter().map(|point| point.sums[0]).collect();
        assert_eq!(sums, [0, 10, 15, 16, 21, 24, 25]);
        for at_ms in 0..2 * POINTS_MAX as u64 {
            history.sample(&[], at_ms);
        }
        assert_eq!(history.points().len(), POINTS_MAX);
    }
}
