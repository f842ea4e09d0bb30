//! The way from a shard to the under stores: opens a mount's store on first use and streams byte ranges from it, on the
//! store threads (tokio). The shard gets chunks through a short bounded channel, so a slow shard slows the store.
//!
//! Invariant: every read is conditional on the fingerprint that came with the ticket; secrets stay in here.

use crate::masters::Masters;
use crate::pulse::Pulse;
use crate::tickets::Grant;
use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint, KindError, MountId};
use forebay_net::message::cluster::GetMountStore;
use forebay_ufs::{StoreError, StoreLimits, UnderStore};
use futures::StreamExt;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Chunks under way from store to shard, per request.
const CHUNKS_UNDER_WAY: usize = 2;
/// Credentials are asked for again after a refusal, but not more often than this.
const RENEW_AFTER: Duration = Duration::from_secs(3);
/// For this long a failed opening answers for all who ask.
const FAILURE_HOLDS: Duration = Duration::from_millis(500);
/// A store that cannot be opened is tried again after this, then after twice as long each time.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
const OPEN_AGAIN_LONGEST: Duration = Duration::from_secs(30);
/// One warning per mount in this time.
const WARN_EVERY: Duration = Duration::from_secs(5);

/// What to read.
#[derive(Clone)]
pub(crate) struct FetchRequest {
    /// From which mount.
    pub(crate) mount: MountId,
    /// Which object.
    pub(crate) key: Arc<str>,
    /// Only if its content is still this one.
    pub(crate) fingerprint: Arc<Fingerprint>,
    /// Which bytes.
    pub(crate) range: Range<u64>,
}

/// All mounts; shared by shards, store threads and the control thread.
pub(crate) struct StoreGate {
    runtime: Handle,
    masters: Arc<Masters>,
    limits: StoreLimits,
    mounts: Mutex<HashMap<MountId, Arc<MountEntry>>>,
}

struct MountEntry {
    pulse: Arc<Pulse>,
    /// As the master told it with the mount; none for a mount that a ticket named first.
    generation: Option<u32>,
    opened: tokio::sync::Mutex<Opened>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Opened {
    store: Option<(Arc<dyn UnderStore>, Instant)>,
    failed: Option<(KindError, Instant)>,
}

#[derive(Default)]
struct Told {
    uri: String,
    warned: Option<Instant>,
    kept_back: u64,
    /// When opening is tried again behind the readers' backs, and after how many tries.
    try_at: Option<Instant>,
    tries: u32,
}

impl Told {
    fn is_due(&self) -> bool {
        self.uri.is_empty() && self.try_at.is_none_or(|at| at <= Instant::now())
    }

    /// Notes a try and says how long to wait before the next one.
    fn next_try(&mut self) -> Duration {
        let pause = (OPEN_AGAIN * 2u32.saturating_pow(self.tries)).min(OPEN_AGAIN_LONGEST);
        self.tries = (self.tries + 1).min(16);
        self.try_at = Some(Instant::now() + pause);
        pause
    }
}

impl MountEntry {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreGate {
    /// `runtime` is that of the store threads.
    pub(crate) fn new(runtime: Handle, masters: Arc<Masters>, limits: StoreLimits) -> Arc<Self> {
        Arc::new(Self { runtime, masters, limits, mounts: Mutex::default() })
    }

    /// Starts a read; the chunks, or one error, come through the channel.
    pub(crate) fn fetch(self: &Arc<Self>, request: FetchRequest) -> mpsc::Receiver<Result<Bytes, KindError>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_UNDER_WAY);
        let gate = self.clone();
        let began = Instant::now();
        self.runtime.spawn(async move {
            let pulse = gate.pulse(request.mount);
            if let Err(error) = gate.stream(&request, &pulse, &sender).await {
                match error.kind {
                    ErrorKind::Unavailable => pulse.unanswered(began, Instant::now()),
                    ErrorKind::Stale => pulse.heard(Instant::now()),
                    _ => {}
                }
                gate.warn(&request, &error);
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }

    /// The store threads.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The store of a mount; called on the store threads.
    pub(crate) async fn open_store(&self, mount: MountId) -> Result<Arc<dyn UnderStore>, KindError> {
        Ok(self.store(mount, None).await?.0)
    }

    /// Removes what an upload left in a mount's store, and says whether there was something; called on the store threads.
    pub(crate) async fn remove_leftover(&self, mount: MountId, left: &str) -> Result<bool, KindError> {
        self.open_store(mount).await?.remove_leftover(left).await.map_err(kind_error)
    }

    /// Whether the mount's store gives signs of life.
    pub(crate) fn pulse(&self, mount: MountId) -> Arc<Pulse> {
        self.entry(mount).pulse.clone()
    }

    /// The error of a reader whose patience ended before the store answered.
    pub(crate) fn too_late(&self, grant: &Grant, asked: Instant) -> KindError {
        let waited = Duration::from_millis(asked.elapsed().as_millis() as u64);
        let message = format!("{}: read \"{}\": no answer within {waited:?}", self.name(grant.mount), grant.store_key);
        KindError::new(ErrorKind::Unavailable, message)
    }

    /// What people call a mount's store.
    pub(crate) fn name(&self, mount: MountId) -> String {
        let entry = self.entry(mount);
        let told = entry.told();
        if told.uri.is_empty() { format!("mount {mount}") } else { told.uri.clone() }
    }

    /// Closes the stores of mounts that are gone or have another generation, and opens those that are not open, so that a
    /// master that is away later stops no read. One that cannot be opened is tried again after a pause. Reads under way
    /// end with the store that they began with.
    pub(crate) fn set_mounts(self: &Arc<Self>, existing: &BTreeMap<MountId, u32>) {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        // A store opened before the master told of its mount may have been opened with older options.
        let is_known = |mount: &MountId, entry: &Arc<MountEntry>| existing.get(mount).copied() == entry.generation;
        mounts.retain(|mount, entry| existing.contains_key(mount) && is_known(mount, entry));
        let mut due = Vec::new();
        for (&mount, &generation) in existing {
            let entry = mounts.entry(mount).or_insert_with(|| self.fresh_entry(Some(generation)));
            if entry.told().is_due() {
                due.push(mount);
            }
        }
        drop(mounts);
        for mount in due {
            let (gate, entry) = (self.clone(), self.entry(mount));
            let pause = entry.told().next_try();
            self.runtime.spawn(async move {
                match gate.store(mount, None).await {
                    Ok(_) => entry.told().try_at = None,
                    Err(error) => {
                        tracing::warn!(%mount, %error, "cannot open the mount's store yet, next try in {pause:?}");
                    }
                }
            });
        }
    }

    fn entry(&self, mount: MountId) -> Arc<MountEntry> {
        self.mounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(mount)
            .or_insert_with(|| self.fresh_entry(None))
            .clone()
    }

    fn fresh_entry(&self, generation: Option<u32>) -> Arc<MountEntry> {
        Arc::new(MountEntry {
            generation,
            pulse: Arc::new(Pulse::new(self.limits.deadline)),
            opened: tokio::sync::Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// The store of a mount. `refused_at`: a read on the store opened before then was denied, so credentials may have changed.
    async fn store(
        &self,
        mount: MountId,
        refused: Option<Instant>,
    ) -> Result<(Arc<dyn UnderStore>, Instant), KindError> {
        let entry = self.entry(mount);
        let mut opened = entry.opened.lock().await;
        if let Some((store, since)) = &opened.store {
            let renew = refused.is_some_and(|used| *since == used && since.elapsed() >= RENEW_AFTER);
            if !renew {
                return Ok((store.clone(), *since));
            }
        }
        if let Some((error, when)) = &opened.failed
            && when.elapsed() < FAILURE_HOLDS
        {
            return Err(error.clone());
        }
        match self.open(mount).await {
            Ok(store) => {
                entry.told().uri = store.uri().to_string();
                entry.pulse.set_deadline(store.deadline());
                let since = Instant::now();
                *opened = Opened { store: Some((store.clone(), since)), failed: None };
                Ok((store, since))
            }
            Err(error) => {
                opened.failed = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    async fn open(&self, mount: MountId) -> Result<Arc<dyn UnderStore>, KindError> {
        let found = self.masters.call(&GetMountStore { mount_id: mount.0 }).await.map_err(|error| {
            let kind = if error.kind == ErrorKind::NotFound { ErrorKind::Stale } else { error.kind };
            KindError::new(kind, format!("mount {mount}: cannot learn its store: {error}"))
        })?;
        forebay_ufs::open(&found.uri, &found.options, self.limits).map_err(kind_error)
    }

    async fn stream(
        &self,
        request: &FetchRequest,
        pulse: &Pulse,
        sender: &mpsc::Sender<Result<Bytes, KindError>>,
    ) -> Result<(), KindError> {
        let (store, since) = self.store(request.mount, None).await?;
        let mut used = since;
        let first = store.read(&request.key, request.range.clone(), &request.fingerprint).await;
        let stream = match first {
            Err(error) if error.kind == ErrorKind::Denied => {
                let (renewed, since) = self.store(request.mount, Some(used)).await?;
                if since == used {
                    return Err(kind_error(error));
                }
                used = since;
                renewed.read(&request.key, request.range.clone(), &request.fingerprint).await
            }
            other => other,
        };
        let mut stream = stream.map_err(kind_error)?;
        pulse.heard(Instant::now());
        tracing::trace!(mount = %request.mount, key = %request.key, range = ?request.range, age = ?used.elapsed(), "store read");
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(kind_error)?;
            pulse.heard(Instant::now());
            if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn warn(&self, request: &FetchRequest, error: &KindError) {
        if error.kind == ErrorKind::Stale {
            // A file that changed: the reader looks it up again, nobody needs to be told.
            tracing::debug!(mount = %request.mount, key = %request.key, %error, "the version is gone");
            return;
        }
        let entry = self.entry(request.mount);
        let mut told = entry.told();
        if told.warned.is_some_and(|when| when.elapsed() < WARN_EVERY) {
            told.kept_back += 1;
            return;
        }
        let more = std::mem::take(&mut told.kept_back);
        told.warned = Some(Instant::now());
        let store = if told.uri.is_empty() { format!("mount {}", request.mount) } else { told.uri.clone() };
        drop(told);
        tracing::warn!(%store, key = %request.key, kind = %error.kind, more_of_the_kind = more, "store read failed: {error}");
    }
}

/// A store's error as readers get it: an object that is gone is a version that is gone.
fn kind_error(error: StoreError) -> KindError {
    let kind = if error.kind == ErrorKind::NotFound { ErrorKind::Stale } else { error.kind };
    KindError::new(kind, error.to_string())
}
