//! Connections from the master to worker cores: one each, opened on demand, opened again after it broke.
//!
//! Lives on the serving runtime. Invariants: callers that wait for one attempt to connect share its error; connections
//! to workers that left the map are dropped when somebody says so.

use forebay_base::{ErrorKind, KindError, ShardId, WorkerId};
use forebay_net::message::Message;
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::transport::tokio::Connection;
use forebay_net::{Endpoint, Identity};
use hashbrown::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A call that failed: the core said so itself, or nobody answered.
#[derive(Clone, Debug)]
pub(crate) struct LinkError {
    /// Why.
    pub(crate) error: KindError,
    /// Whether the core answered.
    pub(crate) answered: bool,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    failed: Option<(Instant, KindError)>,
}

type Slots = HashMap<(WorkerId, ShardId), Arc<tokio::sync::Mutex<Slot>>>;

/// All links.
pub(crate) struct Links {
    identity: Identity,
    host_id: u64,
    slots: Mutex<Slots>,
}

impl Links {
    /// None yet; `identity` is the master's own.
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, host_id: forebay_net::host_id(), slots: Mutex::default() }
    }

    /// Asks one core of a worker.
    pub(crate) async fn call<M: Message>(
        &self,
        worker: &WorkerInfo,
        shard: ShardId,
        request: &M,
        patience: Duration,
    ) -> Result<M::Reply, LinkError> {
        let silent = |error: KindError| LinkError {
            error: KindError::new(error.kind, format!("worker {:016x}: {}", worker.worker_id, error.message)),
            answered: false,
        };
        let connection = self.connection(worker, shard).await.map_err(silent)?;
        connection
            .call(request, patience)
            .await
            .map_err(|error| if connection.is_closed() { silent(error) } else { LinkError { error, answered: true } })
    }

    async fn connection(&self, worker: &WorkerInfo, shard: ShardId) -> Result<Connection, KindError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry((WorkerId(worker.worker_id), shard)).or_default().clone()
        };
        let asked = Instant::now();
        let mut slot = slot.lock().await;
        if let Some(open) = slot.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(open.clone());
        }
        slot.connection = None;
        if let Some((when, error)) = &slot.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        match self.connect(worker, shard).await {
            Ok(connection) => {
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self, worker: &WorkerInfo, shard: ShardId) -> Result<Connection, KindError> {
        let Some(address) = worker.shards.get(usize::from(shard.0)) else {
            let message = format!("shard {shard} of {}", worker.shards.len());
            return Err(KindError::new(ErrorKind::Internal, message));
        };
        if worker.host_id == self.host_id && Path::new(&address.unix).exists() {
            let endpoint = Endpoint::Unix(address.unix.clone().into());
            match Connection::connect(&endpoint, &self.identity, CONNECT_TIMEOUT).await {
                Ok(connection) => return Ok(connection),
                Err(error) => tracing::debug!(%endpoint, %error, "no Unix socket, trying TCP"),
            }
        }
        Connection::connect(&Endpoint::Tcp(address.tcp.clone()), &self.identity, CONNECT_TIMEOUT).await
    }

    /// Drops the links of workers that are not `known`.
    pub(crate) fn retain(&self, known: impl Fn(WorkerId) -> bool) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).retain(|(worker, _), _| known(*worker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::cluster::ShardAddress;
    use forebay_net::message::data::CacheStatus;
    use forebay_net::message::handshake::Role;

    #[tokio::test]
    async fn nobody_there_is_said_at_once_and_not_as_an_answer() {
        let identity = Identity {
            role: Role::Master,
            cluster_id: forebay_base::ClusterId(1),
            secret: forebay_net::Secret::none(),
        };
        let links = Links::new(identity);
        let shards = vec![ShardAddress { tcp: "127.0.0.1:1".into(), unix: String::new() }];
        let worker = WorkerInfo { worker_id: 7, weight: 1, host_id: 0, shards };
        let request = CacheStatus { files: vec![] };
        for shard in [0, 3] {
            let failed = links.call(&worker, ShardId(shard), &request, Duration::from_secs(1)).await.unwrap_err();
            assert!(!failed.answered && failed.error.message.contains("0000000000000007"), "{failed:?}");
        }
        assert_eq!(links.slots.lock().unwrap().len(), 2);
        links.retain(|worker| worker != WorkerId(7));
        assert!(links.slots.lock().unwrap().is_empty());
    }
}
