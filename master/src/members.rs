//! The workers and the cluster map. In memory only: after a restart workers register again within a heartbeat.
//!
//! Invariant: the epoch grows with every change of membership, and across restarts of the master.

use forebay_base::{ClusterId, ErrorKind, Incarnation, KindError, WorkerId};
use forebay_net::message::cluster::{
    ClusterMap, Heartbeat, RegisterWorker, TierUsage, WorkerCounters, WorkerInfo, WorkerReport,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most workers remembered, live or not.
const WORKERS_MAX: usize = 4096;
/// Most shards of one worker.
const SHARDS_MAX: usize = 1024;

struct Member {
    info: WorkerInfo,
    live: bool,
    heard: Instant,
    tiers: Vec<TierUsage>,
    counters: WorkerCounters,
}

struct Inner {
    epoch: u64,
    /// Registrations since the start, of workers that the map knew already too.
    arrivals: u64,
    workers: BTreeMap<u64, Member>,
}

/// The members.
pub(crate) struct Members {
    cluster_id: ClusterId,
    incarnation: Incarnation,
    ticket_key: [u8; 32],
    timeout: Duration,
    inner: Mutex<Inner>,
}

impl Members {
    /// No workers yet; epochs of the master's `boot`-th start.
    pub(crate) fn new(own: (ClusterId, Incarnation), ticket_key: [u8; 32], timeout: Duration, boot: u64) -> Self {
        let (cluster_id, incarnation) = own;
        let inner = Inner { epoch: boot << 32, arrivals: 0, workers: BTreeMap::new() };
        Self { cluster_id, incarnation, ticket_key, timeout, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The map now.
    pub(crate) fn map(&self) -> ClusterMap {
        let inner = self.inner();
        ClusterMap {
            epoch: inner.epoch,
            cluster_id: self.cluster_id.0,
            incarnation: self.incarnation.0,
            ticket_key: self.ticket_key,
            workers: inner.workers.values().filter(|member| member.live).map(|member| member.info.clone()).collect(),
        }
    }

    /// Whether a worker is in the map.
    pub(crate) fn is_live(&self, worker: WorkerId) -> bool {
        self.inner().workers.get(&worker.0).is_some_and(|member| member.live)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.inner().epoch
    }

    /// Grows whenever a worker registers: it may have forgotten what it was told.
    pub(crate) fn arrivals(&self) -> u64 {
        self.inner().arrivals
    }

    /// A worker joins, or comes back.
    pub(crate) fn register(&self, request: RegisterWorker) -> Result<ClusterMap, KindError> {
        let invalid = |message: String| Err(KindError::new(ErrorKind::Invalid, message));
        let worker = request.worker;
        if request.cluster_id != 0 && request.cluster_id != self.cluster_id.0 {
            return invalid(format!(
                "worker {}: its directories belong to cluster {:032x}, this is cluster {}: give it empty directories",
                worker.worker_id,
                request.cluster_id,
                format_args!("{:032x}", self.cluster_id.0)
            ));
        }
        if worker.worker_id == 0 || worker.weight == 0 || worker.shards.is_empty() || worker.shards.len() > SHARDS_MAX {
            return invalid(format!(
                "worker {}: got weight {} and {} shards, want an id, a weight and 1 to {SHARDS_MAX} shards",
                worker.worker_id,
                worker.weight,
                worker.shards.len()
            ));
        }
        let mut inner = self.inner();
        // A worker whose directory was made anew has another id behind the same address: the old one is gone.
        let taken =
            |member: &Member| member.info.shards.iter().any(|old| worker.shards.iter().any(|new| new.tcp == old.tcp));
        let before = inner.workers.len();
        inner.workers.retain(|id, member| *id == worker.worker_id || !taken(member));
        let replaced = inner.workers.len() != before;
        if inner.workers.len() >= WORKERS_MAX && !inner.workers.contains_key(&worker.worker_id) {
            return Err(KindError::new(ErrorKind::Overloaded, format!("more than {WORKERS_MAX} workers")));
        }
        inner.arrivals += 1;
        let same = inner.workers.get(&worker.worker_id).is_some_and(|old| old.live && old.info == worker);
        if !same || replaced {
            inner.epoch += 1;
            tracing::info!("worker {} joined with {} shards", worker.worker_id, worker.shards.len());
        }
        let member = Member {
            live: true,
            heard: Instant::now(),
            tiers: Vec::new(),
            counters: WorkerCounters::default(),
            info: worker,
        };
        inner.workers.insert(member.info.worker_id, member);
        drop(inner);
        Ok(self.map())
    }

    /// Whether the worker is in the map, and the epoch.
    pub(crate) fn heartbeat(&self, heartbeat: Heartbeat) -> (bool, u64) {
        let mut inner = self.inner();
        let epoch = inner.epoch;
        match inner.workers.get_mut(&heartbeat.worker_id).filter(|member| member.live) {
            None => (false, epoch),
            Some(member) => {
                member.heard = Instant::now();
                (member.tiers, member.counters) = (heartbeat.tiers, heartbeat.counters);
                (true, epoch)
            }
        }
    }

    /// Takes workers that have been silent too long out of the map.
    pub(crate) fn drop_silent(&self) {
        let mut inner = self.inner();
        let mut gone = 0;
        for member in inner.workers.values_mut().filter(|member| member.live) {
            if member.heard.elapsed() > self.timeout {
                tracing::warn!("worker {} is silent for {:?}: out of the map", member.info.worker_id, self.timeout);
                member.live = false;
                gone += 1;
            }
        }
        inner.epoch += u64::from(gone > 0);
    }

    pub(crate) fn report(&self) -> Vec<WorkerReport> {
        let inner = self.inner();
        let report = |member: &Member| WorkerReport {
            worker: member.info.clone(),
            live: member.live,
            silent_ms: member.heard.elapsed().as_millis() as u64,
            tiers: member.tiers.clone(),
            counters: member.counters.clone(),
        };
        inner.workers.values().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::cluster::ShardAddress;

    fn register(id: u64, port: u16) -> RegisterWorker {
        let shards = vec![ShardAddress { tcp: format!("127.0.0.1:{port}"), unix: String::new() }];
        RegisterWorker { worker: WorkerInfo { worker_id: id, weight: 100, host_id: 1, shards }, cluster_id: 0 }
    }

    fn beat(id: u64) -> Heartbeat {
        Heartbeat { worker_id: id, tiers: vec![], counters: WorkerCounters::default(), feed_position: 0 }
    }

    #[test]
    fn epochs_follow_membership() {
        let members = Members::new((ClusterId(9), Incarnation(1)), [0; 32], Duration::from_millis(30), 4);
        let first = members.register(register(1, 7500)).unwrap();
        assert_eq!((first.epoch, first.workers.len()), ((4 << 32) + 1, 1));
        assert_eq!(members.register(register(1, 7500)).unwrap().epoch, first.epoch);
        assert_eq!(members.register(register(2, 7500)).unwrap().workers[0].worker_id, 2);
        assert!(!members.heartbeat(beat(1)).0 && members.heartbeat(beat(2)).0);
        std::thread::sleep(Duration::from_millis(50));
        members.drop_silent();
        assert!(members.map().workers.is_empty() && members.epoch() == first.epoch + 2);
        assert!(!members.heartbeat(beat(2)).0 && !members.report()[0].live);
        let foreign = RegisterWorker { cluster_id: 5, ..register(3, 7600) };
        assert_eq!(members.register(foreign).unwrap_err().kind, ErrorKind::Invalid);
    }
}
