//! Calls to the master: finds the one that leads, reconnects with back-off, retries what may be repeated.
//!
//! Invariant: a request that changes something is never sent twice after a connection broke under it.

use crate::config::ClientConfig;
use crate::lane::{Lane, Link, Slot};
use crate::metrics::ClientMetrics;
use crate::retry::Backoff;
use forebay_base::metrics::PerCore;
use forebay_base::{ClusterId, ErrorKind, KindError};
use forebay_net::message::{Message, Op};
use forebay_net::transport::tokio::Connection;
use forebay_net::{Endpoint, Identity};
use hashbrown::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The masters of one cluster.
pub(crate) struct Masters {
    config: ClientConfig,
    cluster_id: Mutex<ClusterId>,
    slots: Mutex<HashMap<Lane, Arc<Slot>>>,
    preferred: AtomicUsize,
    metrics: Arc<PerCore<ClientMetrics>>,
}

impl Masters {
    pub(crate) fn new(config: ClientConfig, metrics: Arc<PerCore<ClientMetrics>>) -> Self {
        Self {
            config,
            cluster_id: Mutex::new(ClusterId(0)),
            slots: Mutex::new(HashMap::new()),
            preferred: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Who this process is; the cluster is known after the first connection.
    pub(crate) fn identity(&self) -> Identity {
        let cluster_id = *self.cluster_id.lock().unwrap_or_else(PoisonError::into_inner);
        Identity { role: self.config.role, cluster_id, secret: self.config.secret.clone() }
    }

    /// Calls the leading master.
    pub(crate) async fn call<M: Message>(&self, request: &M) -> Result<M::Reply, KindError> {
        let began = Instant::now();
        let result = self.try_until_answered(request).await;
        let counters = self.metrics.here();
        counters.master_seconds.record_since(began);
        counters.failed_master_calls.add(u64::from(result.is_err()));
        result
    }

    async fn try_until_answered<M: Message>(&self, request: &M) -> Result<M::Reply, KindError> {
        let mut backoff = Backoff::new(self.config.rpc_timeout);
        loop {
            let slot = {
                let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
                slots.entry(Lane::current()).or_default().clone()
            };
            let error = match slot.get(self.connect()).await {
                Err(error) if refused_for_good(error.kind) => return Err(error),
                Err(error) => error,
                Ok(link) => match link.connection.call(request, deadline(M::OP, self.config.rpc_timeout)).await {
                    Ok(reply) => return Ok(reply),
                    Err(error) if error.kind == ErrorKind::NotLeader => {
                        self.preferred.fetch_add(1, Ordering::Relaxed);
                        slot.forget(link.serial).await;
                        error
                    }
                    Err(error) if error.kind == ErrorKind::Closed || link.connection.is_closed() => {
                        if changes_something(M::OP) {
                            let message = format!(
                                "the connection to the master broke during {:?}, which may or may not have happened: {error}",
                                M::OP
                            );
                            return Err(KindError::new(ErrorKind::Unavailable, message));
                        }
                        slot.forget(link.serial).await;
                        error
                    }
                    Err(error) => return Err(error),
                },
            };
            tracing::debug!(%error, "no answer from a master");
            if !backoff.wait().await {
                let message = format!(
                    "no master answered within {:?} ({}): {error}",
                    self.config.rpc_timeout,
                    self.config.masters.join(", ")
                );
                return Err(KindError::new(ErrorKind::Unavailable, message));
            }
            self.metrics.here().master_retries.add(1);
        }
    }

    async fn connect(&self) -> Result<Link, KindError> {
        let count = self.config.masters.len();
        let mut last = KindError::new(ErrorKind::Invalid, "cluster.masters: got an empty list, want host:port");
        for attempt in 0..count {
            let index = (self.preferred.load(Ordering::Relaxed) + attempt) % count;
            for endpoint in endpoints(&self.config.masters[index], &self.config.socket_dir) {
                let timeout = self.config.rpc_timeout.min(CONNECT_TIMEOUT);
                match Connection::connect(&endpoint, &self.identity(), timeout).await {
                    Ok(connection) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        *self.cluster_id.lock().unwrap_or_else(PoisonError::into_inner) = connection.cluster_id();
                        return Ok(Link::new(connection, matches!(endpoint, Endpoint::Unix(_))));
                    }
                    Err(error) if refused_for_good(error.kind) => {
                        return Err(KindError::new(error.kind, format!("master {endpoint}: {error}")));
                    }
                    Err(error) => last = KindError::new(error.kind, format!("{endpoint}: {error}")),
                }
            }
        }
        Err(last)
    }
}

/// A master on this host is reached by its socket first.
fn endpoints(address: &str, socket_dir: &Path) -> Vec<Endpoint> {
    let mut found = Vec::with_capacity(2);
    if let Some((host, port)) = address.rsplit_once(':')
        && is_this_host(host)
    {
        let socket = socket_dir.join(format!("master-{port}.sock"));
        if socket.exists() {
            found.push(Endpoint::Unix(socket));
        }
    }
    found.push(Endpoint::Tcp(address.to_string()));
    found
}

fn is_this_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        || std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|name| name.trim() == bare)
}

fn refused_for_good(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Invalid)
}

fn changes_something(op: Op) -> bool {
    matches!(
        op,
        Op::Mount
            | Op::Unmount
            | Op::UpdateMount
            | Op::SetPathPolicy
            | Op::RemovePathPolicy
            | Op::CreateFile
            | Op::MakeDirectory
            | Op::Remove
            | Op::Rename
    )
}

/// Calls behind which the master may have to ask a store get longer than the master's own deadline for that.
fn deadline(op: Op, rpc_timeout: Duration) -> Duration {
    match op {
        // The master says after this long how far a listing is.
        Op::ReadDir => (rpc_timeout * 3).max(Duration::from_secs(20)),
        Op::Lookup
        | Op::GetAttr
        | Op::OpenRead
        | Op::Resolve
        | Op::GrantWrite
        | Op::RecordWrite
        | Op::CreateFile
        | Op::GrantSession
        | Op::RecordSaved => rpc_timeout * 3,
        // The store is changed.
        Op::MakeDirectory | Op::Remove | Op::SetAttr => rpc_timeout * 6,
        // A directory's objects are copied one by one.
        Op::Rename => rpc_timeout * 60,
        Op::Mount | Op::Unmount | Op::UpdateMount | Op::SubmitJob => rpc_timeout * 6,
        // A whole directory is listed; the store's own deadlines end it.
        Op::Refresh => rpc_timeout * 60,
        _ => rpc_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_master_is_reached_by_its_socket_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("master-7400.sock"), "").unwrap();
        assert_eq!(endpoints("127.0.0.1:7400", dir.path()).len(), 2);
        assert_eq!(endpoints("localhost:7400", dir.path()).len(), 2);
        assert_eq!(endpoints("[::1]:7400", dir.path()).len(), 2);
        assert_eq!(endpoints("127.0.0.1:7401", dir.path()).len(), 1);
        assert_eq!(endpoints("192.0.2.1:7400", dir.path()).len(), 1);
    }

    #[tokio::test]
    async fn no_master_is_one_clear_line() {
        let config = ClientConfig {
            masters: vec!["127.0.0.1:1".into()],
            secret: forebay_net::Secret::none(),
            role: forebay_net::message::handshake::Role::Frontend,
            socket_dir: "/nonexistent".into(),
            rpc_timeout: Duration::from_millis(100),
            io_timeout: Duration::from_secs(1),
            verify: true,
        };
        let request = forebay_net::message::cluster::GetClusterMap::default();
        let error = Masters::new(config, Arc::default()).call(&request).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains("no master answered") && error.message.contains("127.0.0.1:1"), "{error}");
    }
}
