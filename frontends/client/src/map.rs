//! The cluster map as this process last saw it. Shared by all threads; replaced whole.

use forebay_base::{BlockIndex, FileId, WorkerId, placement};
use forebay_net::message::cluster::{ClusterMap, WorkerInfo};
use std::sync::{Arc, PoisonError, RwLock};

/// A map with what placement needs of it.
pub(crate) struct Placed {
    /// The map itself.
    pub(crate) map: Arc<ClusterMap>,
    weights: Vec<(WorkerId, u32)>,
}

impl Placed {
    fn new(map: ClusterMap) -> Self {
        // A worker without shards can serve nothing.
        let weights =
            map.workers.iter().filter(|w| !w.shards.is_empty()).map(|w| (WorkerId(w.worker_id), w.weight)).collect();
        Self { map: Arc::new(map), weights }
    }

    /// Workers for a block, best first.
    pub(crate) fn ranked(&self, file: FileId, block: BlockIndex) -> Vec<WorkerId> {
        placement::ranked_workers(file, block, &self.weights)
    }

    /// A worker of the map.
    pub(crate) fn worker(&self, id: WorkerId) -> Option<&WorkerInfo> {
        self.map.workers.iter().find(|worker| worker.worker_id == id.0)
    }
}

/// The newest map.
pub(crate) struct MapCache {
    current: RwLock<Arc<Placed>>,
}

impl MapCache {
    pub(crate) fn new(map: ClusterMap) -> Self {
        Self { current: RwLock::new(Arc::new(Placed::new(map))) }
    }

    pub(crate) fn get(&self) -> Arc<Placed> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the map that the master just sent. True when it differs.
    pub(crate) fn put(&self, map: ClusterMap) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // A master restored from a backup starts again with a lower epoch: anything different counts.
        if *current.map == map {
            return false;
        }
        *current = Arc::new(Placed::new(map));
        true
    }
}
