//! Whole local files of workers on this host, by content: each is asked for once, shared, and kept a little while nobody
//! reads it. Shared by all threads.
//!
//! Invariants: a file is held for the very (file, version) of the ticket that it was asked with, and is exactly as long as
//! the content; at most `files_max` are held; whatever goes wrong, bytes are read from the worker instead.

use crate::client::Inner;
use crate::grant::Grant;
use crate::local_file::LocalFile;
use crate::local_link::{Answer, LocalLink};
use forebay_base::{BlockIndex, FileId, Version, WorkerId};
use forebay_net::message::handout::{LEASE_NO_ROOM, LEASE_NOT_WHOLE, LEASE_NOT_YET};
use forebay_net::transport::descriptors::descriptor_socket;
use hashbrown::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a reader waits for a file before it reads from the worker.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a file is kept that nobody reads.
const IDLE: Duration = Duration::from_secs(15);
const SWEEP: Duration = Duration::from_secs(3);
/// How long a refusal is believed.
const REFUSED: Duration = Duration::from_secs(2);
/// How long a file is left alone that could not be read.
const FAILED: Duration = Duration::from_secs(60);
const NOT_YET: Duration = Duration::from_millis(300);
const REFUSALS_MAX: usize = 16_384;
/// Files held at once: within this, a quarter of the descriptors that the process may have.
const FILES_MAX: u64 = 4096;

type Content = (FileId, Version);

struct Kept {
    file: Arc<LocalFile>,
    used: Instant,
}

impl Kept {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.file) == 1
    }
}

#[derive(Default)]
struct State {
    links: HashMap<WorkerId, Arc<LocalLink>>,
    files: HashMap<Content, Kept>,
    /// Until when not to ask again.
    refused: HashMap<Content, Instant>,
}

/// The files.
pub(crate) struct LocalFiles {
    files_max: usize,
    state: Mutex<State>,
}

impl LocalFiles {
    pub(crate) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files_max = limit.map_or(FILES_MAX, |limit| (limit / 4).min(FILES_MAX));
        Self { files_max: files_max as usize, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a content, if a worker of this host hands it out.
    pub(crate) async fn get(inner: &Arc<Inner>, grant: &Arc<Grant>) -> Option<Arc<LocalFile>> {
        let (this, content) = (&inner.local_files, (grant.file_id(), grant.version()));
        if let Some(known) = this.known(content) {
            return known;
        }
        let link = Self::link(inner, grant)?;
        let ticket = grant.ticket(inner).await.ok()?;
        let answer = link.ask(ticket, PATIENCE).await;
        let counters = inner.metrics.here();
        let (outcome, refused_for) = match answer {
            Answer::Granted(file) if file.size() == grant.attr().size => match this.keep(content, file) {
                Some(file) => {
                    counters.leases.at(0).add(1);
                    return Some(file);
                }
                None => (3, REFUSED),
            },
            Answer::Granted(_) | Answer::Failed => (4, REFUSED),
            Answer::Refused(LEASE_NOT_WHOLE) => (1, REFUSED),
            Answer::Refused(LEASE_NOT_YET) => (2, NOT_YET),
            Answer::Refused(LEASE_NO_ROOM) => {
                this.let_go(|kept| kept.is_idle());
                (3, REFUSED)
            }
            Answer::Refused(_) => (1, REFUSED),
        };
        counters.leases.at(outcome).add(1);
        this.refuse(content, refused_for);
        None
    }

    fn refuse(&self, content: Content, time: Duration) {
        let mut state = self.state();
        if state.refused.len() >= REFUSALS_MAX {
            state.refused.clear();
        }
        state.refused.insert(content, Instant::now() + time);
    }

    /// A file could not be read: for a while the worker is asked for its bytes.
    pub(crate) fn failed(&self, file_id: u64, version: u64) {
        self.refuse((FileId(file_id), Version(version)), FAILED);
    }

    /// What is known already: a file, or that there is none now.
    fn known(&self, content: Content) -> Option<Option<Arc<LocalFile>>> {
        let mut state = self.state();
        if let Some(kept) = state.files.get_mut(&content).filter(|kept| kept.file.is_good()) {
            kept.used = Instant::now();
            return Some(Some(kept.file.clone()));
        }
        match state.refused.get(&content) {
            Some(until) if Instant::now() < *until => return Some(None),
            Some(_) => drop(state.refused.remove(&content)),
            None => {}
        }
        None
    }

    /// The socket of the best worker of this host for a file.
    fn link(inner: &Arc<Inner>, grant: &Grant) -> Option<Arc<LocalLink>> {
        let placed = inner.map.get();
        let ranked = placed.ranked(grant.file_id(), BlockIndex(0));
        let mut workers = ranked.iter().filter_map(|id| placed.worker(*id));
        let worker = workers.find(|worker| worker.host_id == inner.workers.host_id())?;
        let mut state = inner.local_files.state();
        let path = descriptor_socket(Path::new(&worker.shards.first()?.unix))?;
        // A worker may come back elsewhere.
        if let Some(link) = state.links.get(&WorkerId(worker.worker_id)).filter(|link| link.path() == path) {
            return Some(link.clone());
        }
        let started = LocalLink::start(path, inner.masters.identity());
        let link = Arc::new(started.inspect_err(|error| tracing::debug!(%error, "no thread for local files")).ok()?);
        state.links.insert(WorkerId(worker.worker_id), link.clone());
        Some(link)
    }

    /// Takes a file in. Another one of the same content that came first is used instead.
    fn keep(&self, content: Content, file: Arc<LocalFile>) -> Option<Arc<LocalFile>> {
        let mut gone = Vec::new();
        let kept = {
            let mut state = self.state();
            if let Some(kept) = state.files.get(&content).filter(|kept| kept.file.is_good()) {
                kept.file.clone()
            } else {
                if state.files.len() >= self.files_max {
                    let idle = state.files.iter().filter(|(_, kept)| kept.is_idle());
                    let oldest = idle.min_by_key(|(_, kept)| kept.used).map(|(content, _)| *content)?;
                    gone.extend(state.files.remove(&oldest));
                }
                gone.extend(state.files.insert(content, Kept { file: file.clone(), used: Instant::now() }));
                file
            }
        };
        // Closed outside the lock.
        drop(gone);
        Some(kept)
    }

    fn let_go(&self, leaves: impl Fn(&Kept) -> bool) {
        let gone: Vec<_> = self.state().files.extract_if(|_, kept| leaves(kept)).collect();
        drop(gone);
    }

    /// Gives back what nobody has used for a while, and what is of no more use to new readers.
    fn sweep(&self, is_placed: impl Fn(WorkerId) -> bool) {
        self.let_go(|kept| !kept.file.is_good() || kept.is_idle() && kept.used.elapsed() >= IDLE);
        let now = Instant::now();
        let mut state = self.state();
        state.refused.retain(|_, until| *until > now);
        state.links.retain(|worker, _| is_placed(*worker));
    }
}

/// Runs until the client is gone.
pub(crate) async fn keep_swept(client: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = client.upgrade() else { return };
        let placed = inner.map.get();
        inner.local_files.sweep(|worker| placed.worker(worker).is_some());
    }
}
