//! The client itself: one per process, shared by all threads; its background tasks end when the last clone is gone.

use crate::config::ClientConfig;
use crate::grant::Grant;
use crate::hold::{Holds, keep_told, tell_closed};
use crate::local_files::{LocalFiles, keep_swept};
use crate::map::MapCache;
use crate::masters::Masters;
use crate::metrics::ClientMetrics;
use crate::open_file::OpenFile;
use crate::read_many;
use crate::session::WriteSession;
use crate::session_keeper::{Sessions, keep_renewed};
use crate::sweep;
use crate::workers::Workers;
use crate::write::{self, WriteSource};
use bytes::Bytes;
use forebay_base::metrics::PerCore;
use forebay_base::{BlockIndex, ErrorKind, FileId, KindError, ShardId, Version, WorkerId, limits};
use forebay_net::Message;
use forebay_net::message::cluster::{ClusterMap, GetClusterMap, WorkerInfo};
use forebay_net::message::data::{BlockBytes, CachedBytes, ExplainReply, VerifyReply};
use forebay_net::message::namespace::{
    Attr, GetAttr, GetFeedPosition, Lookup, OpenRead, ReadDir, ReadDirReply, Resolve,
};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

const MAP_REFRESH: Duration = Duration::from_secs(3);
/// A failed read may ask for the map this often.
const MAP_REFRESH_MIN: Duration = Duration::from_millis(100);

/// A connection to a cluster.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What all clones and open files share.
pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pub(crate) masters: Masters,
    pub(crate) workers: Workers,
    pub(crate) map: MapCache,
    pub(crate) holds: Arc<Holds>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) local_files: LocalFiles,
    pub(crate) metrics: Arc<PerCore<ClientMetrics>>,
    refreshed: tokio::sync::Mutex<Instant>,
    /// When a read last waited for a worker in vain; none since one was served.
    outage: Mutex<Option<Instant>>,
}

/// While no worker serves anything, reads that come this soon after one that waited in vain do not wait as long again.
const OUTAGE_MEMORY: Duration = Duration::from_secs(5);
const OUTAGE_PATIENCE: Duration = Duration::from_secs(1);

impl Inner {
    /// How long a read may go on looking for a worker.
    pub(crate) fn patience(&self) -> Duration {
        let outage = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match outage {
            Some(when) if when.elapsed() < OUTAGE_MEMORY => self.config.io_timeout.min(OUTAGE_PATIENCE),
            _ => self.config.io_timeout,
        }
    }

    /// A read waited in vain, or was served.
    pub(crate) fn set_outage(&self, in_vain: bool) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if in_vain || outage.is_some() {
            *outage = in_vain.then(Instant::now);
        }
    }

    /// Asks the master for the map, unless that was just done. Failures keep the old one.
    pub(crate) async fn refresh_map(&self, patience: Duration) {
        let asked = Instant::now();
        let mut refreshed = self.refreshed.lock().await;
        if *refreshed >= asked || refreshed.elapsed() < MAP_REFRESH_MIN {
            return;
        }
        match tokio::time::timeout(patience, self.masters.call(&GetClusterMap::default())).await {
            Ok(Ok(map)) => {
                if self.map.put(map) {
                    self.metrics.here().map_changes.add(1);
                    let placed = self.map.get();
                    self.workers.retain(|worker| placed.worker(WorkerId(worker.0)).is_some());
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "cluster map not refreshed"),
            Err(_) => tracing::debug!("cluster map not refreshed in time"),
        }
        *refreshed = Instant::now();
    }
}

async fn keep_map_fresh(client: Weak<Inner>) {
    loop {
        tokio::time::sleep(MAP_REFRESH).await;
        let Some(inner) = client.upgrade() else { return };
        inner.refresh_map(inner.config.rpc_timeout).await;
    }
}

impl Client {
    /// Reaches a master and fetches the cluster map. Fails when no master answers within `rpc_timeout`.
    pub async fn connect(config: ClientConfig) -> Result<Client, KindError> {
        let metrics = Arc::<PerCore<ClientMetrics>>::default();
        let masters = Masters::new(config.clone(), metrics.clone());
        let map = masters.call(&GetClusterMap::default()).await?;
        let holds = Arc::new(Holds::new(RandomState::new().hash_one(std::process::id())));
        let sessions = Arc::<Sessions>::default();
        let inner = Arc::new(Inner {
            config,
            masters,
            workers: Workers::new(),
            map: MapCache::new(map),
            holds: holds.clone(),
            sessions: sessions.clone(),
            local_files: LocalFiles::new(),
            metrics,
            refreshed: tokio::sync::Mutex::new(Instant::now()),
            outage: Mutex::new(None),
        });
        tokio::spawn(keep_map_fresh(Arc::downgrade(&inner)));
        tokio::spawn(keep_swept(Arc::downgrade(&inner)));
        tokio::spawn(keep_told(Arc::downgrade(&inner), holds));
        tokio::spawn(keep_renewed(Arc::downgrade(&inner), sessions));
        Ok(Client { inner })
    }

    /// Says goodbye: the master counts nothing as open here any more. Takes a second at most. What is still open
    /// stays readable, but holds no mount.
    pub async fn close(self) {
        tell_closed(&self.inner).await;
    }

    /// Any master call. Reconnects within `rpc_timeout`; what changes something is not sent twice.
    pub async fn master<M: Message>(&self, request: &M) -> Result<M::Reply, KindError> {
        self.inner.masters.call(request).await
    }

    /// A name in a directory.
    pub async fn lookup(&self, parent: FileId, name: &[u8]) -> Result<Attr, KindError> {
        self.master(&Lookup { parent: parent.0, name: name.to_vec() }).await
    }

    /// Attributes of one inode.
    pub async fn get_attr(&self, file: FileId) -> Result<Attr, KindError> {
        let reply = self.master(&GetAttr { file_ids: vec![file.0] }).await?;
        let Some(result) = reply.attrs.into_iter().next() else {
            return Err(KindError::new(ErrorKind::Corrupt, "GetAttr: the master answered for no inode"));
        };
        match (result.status, result.attr) {
            (0, Some(attr)) => Ok(attr),
            (0, None) => Err(KindError::new(ErrorKind::Corrupt, "GetAttr: success without attributes")),
            (code, _) => Err(KindError::new(ErrorKind::from_code(code).unwrap_or(ErrorKind::Internal), result.message)),
        }
    }

    /// Part of a directory: at most `entries_max` names behind `after` (empty to start). Waits for a listing that has to
    /// come from the store first, as long as it goes on.
    pub async fn read_dir(&self, directory: FileId, after: &[u8], entries_max: u32) -> Result<ReadDirReply, KindError> {
        let entries_max = entries_max.clamp(1, limits::LISTING_ENTRIES_MAX);
        let (mut since_us, mut seen) = (0, 0);
        loop {
            let request = ReadDir { since_us, ..ReadDir::part(directory.0, after, entries_max) };
            let reply = self.master(&request).await?;
            if reply.names_seen == 0 {
                return Ok(reply);
            }
            if reply.names_seen == seen {
                let message = format!("directory {directory}: its store stopped at {seen} names, try again");
                return Err(KindError::new(ErrorKind::Unavailable, message));
            }
            tracing::debug!(%directory, names_seen = reply.names_seen, "the directory is still being read from its store");
            (since_us, seen) = (reply.since_us, reply.names_seen);
        }
    }

    /// Where the master's feed of changed and removed files stands.
    pub async fn feed_position(&self) -> Result<u64, KindError> {
        Ok(self.master(&GetFeedPosition::default()).await?.position)
    }

    /// Part of a directory if the master knows it without a look at the store; none otherwise.
    pub async fn read_known_dir(
        &self,
        directory: FileId,
        after: &[u8],
        entries_max: u32,
    ) -> Result<Option<ReadDirReply>, KindError> {
        let entries_max = entries_max.clamp(1, limits::LISTING_ENTRIES_MAX);
        let request = ReadDir { known_only: true, ..ReadDir::part(directory.0, after, entries_max) };
        let reply = self.master(&request).await?;
        Ok((reply.end || !reply.entries.is_empty()).then_some(reply))
    }

    /// A whole absolute path.
    pub async fn resolve(&self, path: &[u8]) -> Result<Attr, KindError> {
        self.master(&Resolve { path: path.to_vec() }).await
    }

    /// Opens one version of a file for reading; version 0 is the live one. `Stale` when it is not live any more.
    pub async fn open(&self, file: FileId, version: Version) -> Result<OpenFile, KindError> {
        let mut grants = self.grants(&[(file, version)]).await?;
        let grant = grants
            .pop()
            .unwrap_or_else(|| Err(KindError::new(ErrorKind::Corrupt, "OpenRead: the master answered for no file")))?;
        Ok(self.open_granted(Arc::new(grant)))
    }

    /// Asks for the right to read many files at once, in the order asked. Nothing counts as open yet.
    pub async fn grants(&self, files: &[(FileId, Version)]) -> Result<Vec<Result<Grant, KindError>>, KindError> {
        let asked = Instant::now();
        let request = OpenRead { files: files.iter().map(|(file, version)| (file.0, version.0)).collect() };
        let reply = self.master(&request).await?;
        if reply.files.len() != files.len() {
            let message = format!("OpenRead: got {} answers, want {}", reply.files.len(), files.len());
            return Err(KindError::new(ErrorKind::Corrupt, message));
        }
        Ok(reply.files.into_iter().map(|result| Grant::new(result, asked)).collect())
    }

    /// Opens what was granted before, without asking the master.
    #[must_use]
    pub fn open_granted(&self, grant: Arc<Grant>) -> OpenFile {
        OpenFile::new(self.inner.clone(), grant)
    }

    /// Writes a whole file, at the path when its store has all of it; `progress` hears how many bytes are taken. What fails
    /// on the way is begun again. Needs the role Admin.
    pub async fn write_file<S: WriteSource>(
        &self,
        path: &[u8],
        overwrite: bool,
        source: &S,
        progress: impl FnMut(u64),
    ) -> Result<Attr, KindError> {
        write::write_file(&self.inner, path, overwrite, source, progress).await
    }

    /// Makes a new empty file and begins to write it; others see it, its store gets it with the first save. `Exists` if the
    /// name is taken.
    pub async fn create_file(
        &self,
        parent: FileId,
        name: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(Attr, Arc<WriteSession>), KindError> {
        WriteSession::create(&self.inner, parent, name, (mode, uid, gid)).await
    }

    /// Leave to write a file that is there. `Busy` while another client writes it.
    pub async fn write_session(&self, file: FileId) -> Result<(Attr, Arc<WriteSession>), KindError> {
        WriteSession::of_file(&self.inner, file).await
    }

    /// Compares what the owners hold of a file with the store; what differs is dropped. `progress` gets the bytes of each
    /// step as it ends. Needs the role Admin.
    pub async fn verify(&self, file: &OpenFile, progress: impl FnMut(u64)) -> Result<VerifyReply, KindError> {
        sweep::verify(&self.inner, file, progress).await
    }

    /// Reads whole small files, many in one request. None stands for a file that could not be had at once: open and
    /// read it. Files that do not fit into one reply together (8 MiB) are all left out.
    pub async fn read_whole(&self, grants: &[Arc<Grant>]) -> Vec<Option<Bytes>> {
        let total_bytes = grants.iter().fold(0u64, |total, grant| total.saturating_add(grant.attr().size));
        if !read_many::fits(total_bytes, grants.len()) {
            return vec![None; grants.len()];
        }
        read_many::read_whole(&self.inner, grants).await
    }

    /// Drops files from the cache of every worker; returns the bytes freed. Needs the role Admin.
    pub async fn evict(&self, files: &[FileId]) -> Result<u64, KindError> {
        sweep::evict(&self.inner, files).await
    }

    /// What all workers hold of files, in the order asked.
    pub async fn cached(&self, files: &[(FileId, Version)]) -> Result<Vec<CachedBytes>, KindError> {
        sweep::cached(&self.inner, files).await
    }

    /// What each worker that answers holds of files, in the order asked.
    pub async fn cached_by_worker(
        &self,
        files: &[(FileId, Version)],
    ) -> Result<Vec<(WorkerId, Vec<CachedBytes>)>, KindError> {
        sweep::cached_by_worker(&self.inner, files).await
    }

    /// What each worker that answers holds of one file, block by block.
    pub async fn cached_blocks(
        &self,
        file: FileId,
        version: Version,
    ) -> Result<Vec<(WorkerId, Vec<BlockBytes>)>, KindError> {
        sweep::cached_blocks(&self.inner, file, version).await
    }

    /// What each worker that answers knows of one file's cache.
    pub async fn explain(&self, file: FileId, version: Version) -> Result<Vec<(WorkerId, ExplainReply)>, KindError> {
        sweep::explain(&self.inner, file, version).await
    }

    /// Workers for a block, the owner first, with the core that serves the file there and its `host:port`.
    #[must_use]
    pub fn owners(&self, file: FileId, block: BlockIndex) -> Vec<(WorkerId, ShardId, String)> {
        sweep::owners(&self.inner, file, block)
    }

    /// What this client and all its clones have counted.
    #[must_use]
    pub fn metrics(&self) -> &PerCore<ClientMetrics> {
        &self.inner.metrics
    }

    /// A call that any core of a worker can answer.
    pub async fn worker<M: Message>(&self, worker: &WorkerInfo, request: &M) -> Result<M::Reply, KindError> {
        sweep::call_first_shard(&self.inner, worker, request).await
    }

    /// The cluster map as last seen.
    pub async fn cluster_map(&self) -> Arc<ClusterMap> {
        self.inner.map.get().map.clone()
    }
}
