//! Connections to worker cores, one per lane, worker and shard; workers that just failed are tried last.

use crate::lane::{Lane, Link, Slot};
use forebay_base::{ErrorKind, KindError, ShardId, WorkerId};
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::transport::tokio::Connection;
use forebay_net::{Endpoint, Identity};
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const SUSPECT_FOR: Duration = Duration::from_secs(2);

type Key = (Lane, WorkerId, ShardId);

/// The pool.
pub(crate) struct Workers {
    host_id: u64,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    suspects: Mutex<HashMap<WorkerId, Instant>>,
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self {
            host_id: forebay_net::host_id(),
            slots: Mutex::new(HashMap::new()),
            suspects: Mutex::new(HashMap::new()),
        }
    }

    /// This host, as workers name theirs.
    pub(crate) fn host_id(&self) -> u64 {
        self.host_id
    }

    /// A connection to one core of a worker: by Unix socket on the same host, else TCP.
    pub(crate) async fn link(
        &self,
        worker: &WorkerInfo,
        shard: ShardId,
        identity: &Identity,
    ) -> Result<Link, KindError> {
        let key = (Lane::current(), WorkerId(worker.worker_id), shard);
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(key).or_default().clone()
        };
        slot.get(self.connect(worker, shard, identity)).await
    }

    async fn connect(&self, worker: &WorkerInfo, shard: ShardId, identity: &Identity) -> Result<Link, KindError> {
        let Some(address) = worker.shards.get(usize::from(shard.0)) else {
            let message = format!("worker {}: shard {shard} of {}", worker.worker_id, worker.shards.len());
            return Err(KindError::new(ErrorKind::Internal, message));
        };
        if worker.host_id == self.host_id && !address.unix.is_empty() {
            let endpoint = Endpoint::Unix(address.unix.clone().into());
            match Connection::connect(&endpoint, identity, CONNECT_TIMEOUT).await {
                Ok(connection) => return Ok(Link::new(connection, true)),
                Err(error) => tracing::debug!(%endpoint, %error, "no Unix socket, trying TCP"),
            }
        }
        let endpoint = Endpoint::Tcp(address.tcp.clone());
        match Connection::connect(&endpoint, identity, CONNECT_TIMEOUT).await {
            Ok(connection) => Ok(Link::new(connection, false)),
            Err(error) => {
                let message = format!("worker {} ({endpoint}): {error}", worker.worker_id);
                Err(KindError::new(error.kind, message))
            }
        }
    }

    /// Remembers that a worker just failed.
    pub(crate) fn suspect(&self, worker: WorkerId) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.insert(worker, Instant::now() + SUSPECT_FOR);
    }

    /// Moves workers that just failed behind the others, keeping the order otherwise.
    pub(crate) fn suspects_last(&self, ranked: &mut [WorkerId]) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.is_empty() {
            return;
        }
        let now = Instant::now();
        suspects.retain(|_, until| *until > now);
        ranked.sort_by_key(|worker| suspects.contains_key(worker));
    }

    /// Drops connections to workers that left the map.
    pub(crate) fn retain(&self, known: impl Fn(WorkerId) -> bool) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| known(key.1));
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).retain(|worker, _| known(*worker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_go_last_and_order_stays() {
        let workers = Workers::new();
        let mut ranked = [WorkerId(3), WorkerId(1), WorkerId(2)];
        workers.suspect(WorkerId(3));
        workers.suspects_last(&mut ranked);
        assert_eq!(ranked, [WorkerId(1), WorkerId(2), WorkerId(3)]);
        workers.retain(|worker| worker != WorkerId(3));
        let mut ranked = [WorkerId(3), WorkerId(1)];
        workers.suspects_last(&mut ranked);
        assert_eq!(ranked, [WorkerId(3), WorkerId(1)]);
    }
}
