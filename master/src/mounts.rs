//! The mount table as it runs: opens stores, adds and removes mounts, knows who holds files open.
//!
//! Invariants: a store is reached and its credentials tried before anything is journaled; one change of the table at a
//! time; the table in memory follows the journal's outcome.

mod update;

use crate::cores::Cores;
use crate::journal::Journal;
use crate::mount_state::{MountState, Reopen};
use crate::namespace::command::TABLE;
use crate::namespace::{Command, MountRecord, Outcome, Removal, Step, lies_in, mount_conflict};
use crate::tree::Defaults;
use forebay_base::placement::partition_of_new_directory;
use forebay_base::{ErrorKind, FileId, KindError, limits};
use forebay_net::message::namespace::{HoldMounts, Mount, MountInfo, Unmount};
use forebay_ufs::{StoreError, StoreLimits, StoreUri, UnderStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Opens a store; a test gives its own.
pub(crate) type Opener =
    Arc<dyn Fn(&str, &[(String, String)], StoreLimits) -> Result<Arc<dyn UnderStore>, StoreError> + Send + Sync>;

/// How long a client's word that it has files open counts.
const HOLD: Duration = Duration::from_secs(15);
/// Most clients remembered.
const CLIENTS_MAX: usize = 65_536;
/// Tries of a change whose ids were taken by another one.
const TRIES: usize = 16;

/// How a mount's store does.
pub(crate) struct Health {
    pub(crate) path: String,
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) in_trouble: bool,
}

struct Hold {
    said: Instant,
    open_files: Vec<(u32, u64)>,
}

/// The mounts.
pub(crate) struct Mounts {
    pub(crate) cores: Arc<Cores>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) opener: Opener,
    pub(crate) limits: StoreLimits,
    /// Where store I/O runs.
    pub(crate) store_runtime: Handle,
    /// Directories that no local store may contain or lie in, and what they are.
    pub(crate) own_directories: Vec<(&'static str, PathBuf)>,
    pub(crate) defaults: Defaults,
    table: RwLock<BTreeMap<u32, Arc<MountState>>>,
    holds: Mutex<BTreeMap<u64, Hold>>,
    changing: tokio::sync::Mutex<()>,
}

fn invalid(message: String) -> KindError {
    KindError::new(ErrorKind::Invalid, message)
}

fn store_error(error: StoreError) -> KindError {
    KindError::new(error.kind, error.to_string())
}

/// The components of an absolute, normalised path; none for the root.
pub(crate) fn components(path: &str) -> Result<Vec<&str>, KindError> {
    let wrong = |why: &str| invalid(format!("path \"{path}\": {why}"));
    let rest = path.strip_prefix('/').ok_or_else(|| wrong("it must be absolute"))?;
    if path.len() > limits::PATH_BYTES_MAX {
        return Err(wrong("it is too long"));
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let components: Vec<&str> = rest.split('/').collect();
    for component in &components {
        match *component {
            "" => return Err(wrong("it must have no empty component and no slash at its end")),
            "." | ".." => return Err(wrong("it must have no . or .. component")),
            name if name.len() > limits::NAME_BYTES_MAX => return Err(wrong("a component is longer than 255 bytes")),
            name if name.contains('\0') => return Err(wrong("it holds a zero byte")),
            _ => {}
        }
    }
    Ok(components)
}

impl Mounts {
    pub(crate) fn new(
        cores: Arc<Cores>,
        journal: Arc<Journal>,
        opener: Opener,
        limits: StoreLimits,
        store_runtime: Handle,
        own_directories: Vec<(&'static str, PathBuf)>,
        defaults: Defaults,
    ) -> Self {
        Self {
            cores,
            journal,
            opener,
            limits,
            store_runtime,
            own_directories,
            defaults,
            table: RwLock::default(),
            holds: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Opens the stores of the mounts that the namespace knows. One that cannot be opened is in trouble, no more.
    pub(crate) async fn load(&self) -> Result<(), KindError> {
        let records: Vec<MountRecord> =
            self.cores.read(TABLE, |partition| partition.mounts().cloned().collect()).await?;
        for record in records {
            self.insert(record);
        }
        Ok(())
    }

    fn insert(&self, record: MountRecord) -> Arc<MountState> {
        let store = self.open_again(&record)();
        if let Err(error) = &store {
            tracing::warn!("mount {}: its store cannot be opened: {error}", record.path);
        }
        self.put(record, store)
    }

    fn open_again(&self, record: &MountRecord) -> Reopen {
        let (opener, runtime, limits) = (Arc::clone(&self.opener), self.store_runtime.clone(), self.limits);
        let (uri, options) = (record.uri.clone(), record.options.clone());
        Box::new(move || {
            let _inside = runtime.enter();
            opener(&uri, &options, limits)
        })
    }

    /// Tries the stores again that could not be opened, each when its time has come.
    pub(crate) fn reopen(&self) {
        let states: Vec<Arc<MountState>> =
            self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for state in states {
            if let Some(store) = state.reopened() {
                self.store_runtime.spawn(async move {
                    let _ = state.heard(store.check().await);
                });
            }
        }
    }

    fn put(&self, record: MountRecord, store: Result<Arc<dyn UnderStore>, StoreError>) -> Arc<MountState> {
        let reopen = self.open_again(&record);
        let state = Arc::new(MountState::new(record, store, reopen));
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(state.record.mount_id, Arc::clone(&state));
        state
    }

    pub(crate) fn get(&self, mount_id: u32) -> Option<Arc<MountState>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(&mount_id).cloned()
    }

    /// The ids of all mounts, with the generation of each.
    pub(crate) fn generations(&self) -> Vec<(u32, u32)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.values().map(|state| (state.record.mount_id, state.record.generation)).collect()
    }

    /// All mounts in order of path, without secrets.
    pub(crate) fn list(&self) -> Vec<MountInfo> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut mounts: Vec<MountInfo> = table.values().map(|state| state.info()).collect();
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        mounts
    }

    /// How the stores of all mounts do, in order of path.
    pub(crate) fn health(&self) -> Vec<Health> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let health = |state: &Arc<MountState>| Health {
            path: state.record.path.clone(),
            calls: state.calls.get(),
            failures: state.failures.get(),
            in_trouble: state.in_trouble(),
        };
        let mut all: Vec<Health> = table.values().map(health).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// A client says what it has open.
    pub(crate) fn hold(&self, request: HoldMounts) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|_, hold| hold.said.elapsed() < HOLD);
        let open_files: Vec<_> = request.open_files.into_iter().filter(|(_, open)| *open > 0).collect();
        if open_files.is_empty() {
            holds.remove(&request.client_id);
        } else if holds.len() < CLIENTS_MAX {
            holds.insert(request.client_id, Hold { said: Instant::now(), open_files });
        }
    }

    fn held(&self, mount_id: u32) -> u64 {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = holds.values().filter(|hold| hold.said.elapsed() < HOLD);
        fresh.flat_map(|hold| &hold.open_files).filter(|(id, _)| *id == mount_id).map(|(_, open)| open).sum()
    }

    async fn refuse_conflict(&self, path: &str) -> Result<(), KindError> {
        let records: Vec<MountRecord> =
            self.cores.read(TABLE, |partition| partition.mounts().cloned().collect()).await?;
        mount_conflict(path, records.iter()).map_or(Ok(()), |(kind, message)| Err(KindError::new(kind, message)))
    }

    /// Adds a mount. Must run to its end: between journal and table it may not be dropped.
    pub(crate) async fn mount(&self, request: Mount) -> Result<MountInfo, KindError> {
        let names = components(&request.path)?;
        if names.is_empty() {
            return Err(KindError::new(ErrorKind::Exists, "mount path /: it exists already, mount below it"));
        }
        // The path is looked at first, so that a wrong one costs no store call.
        self.refuse_conflict(&request.path).await?;
        self.refuse_own_directories(&request.uri)?;
        self.missing_steps(&request.path, &names).await?;
        let store = {
            let _inside = self.store_runtime.enter();
            (self.opener)(&request.uri, &request.options, self.limits).map_err(store_error)?
        };
        let asked = Arc::clone(&store);
        let checked = self.store_runtime.spawn(async move {
            asked.check().await?;
            asked.stat("").await
        });
        let closed = |_| KindError::new(ErrorKind::Closed, "the master is shutting down");
        let root = match checked.await.map_err(closed)? {
            Ok(meta) => self.defaults.upsert(b"", 0, &meta),
            // A bucket that is there but holds nothing has no root of its own.
            Err(error) if error.kind == ErrorKind::NotFound && error.operation == "stat" => self.defaults.directory(),
            Err(error) => return Err(store_error(error)),
        };
        // Only now: a store that does not answer holds up no other change.
        let _one_at_a_time = self.changing.lock().await;
        self.refuse_conflict(&request.path).await?;
        let record = MountRecord {
            mount_id: 0,
            path: request.path.clone(),
            root: 0,
            uri: request.uri,
            options: request.options,
            freshness_ms: request.freshness_ms,
            readonly: request.readonly,
            generation: 0,
        };
        for _ in 0..TRIES {
            let steps = self.missing_steps(&request.path, &names).await?;
            let command = Command::AddMount { mount: record.clone(), steps, root: root.clone() };
            match self.journal.propose(command).await? {
                Outcome::Mounted(record) => {
                    tracing::info!("mounted {} at {}", store.uri(), record.path);
                    return Ok(self.put(record, Ok(store)).info());
                }
                Outcome::Retry => {}
                other => return Err(refused(other)),
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("mount path {}: too many changes at once", request.path)))
    }

    /// The directories that are missing on the way to `path`, with the ids they would get.
    async fn missing_steps(&self, path: &str, names: &[&str]) -> Result<Vec<Step>, KindError> {
        let mut steps: Vec<Step> = Vec::new();
        let mut parent = FileId::ROOT;
        for name in names {
            let owned = name.as_bytes().to_vec();
            if steps.is_empty() {
                let at = owned.clone();
                let found = self.cores.read(parent.partition(), move |partition| partition.entry(parent, &at)).await?;
                if let Some(entry) = found {
                    parent = entry.file_id;
                    continue;
                }
            }
            let home = partition_of_new_directory(parent, name.as_bytes(), self.cores.partition_count());
            let next = self.cores.read(home, crate::namespace::Partition::next_id).await?;
            let drawn = steps.iter().filter(|step| FileId(step.id).partition() == home).count() as u64;
            steps.push(Step { parent: parent.0, name: owned, id: next.0 + drawn });
            parent = FileId(next.0 + drawn);
        }
        if steps.is_empty() {
            let message = format!("mount path {path}: it exists already, choose a path that does not");
            return Err(KindError::new(ErrorKind::Exists, message));
        }
        Ok(steps)
    }

    fn refuse_own_directories(&self, uri: &str) -> Result<(), KindError> {
        let Ok(StoreUri::File { directory }) = forebay_ufs::parse_uri(uri) else { return Ok(()) };
        let store = real_path(Path::new(&directory));
        for (what, own) in &self.own_directories {
            let own = real_path(own);
            if store.starts_with(&own) || own.starts_with(&store) {
                return Err(invalid(format!(
                    "{uri}: it contains or lies in Forebay's own {what} {}: mount another directory",
                    own.display()
                )));
            }
        }
        Ok(())
    }

    /// Removes a mount. Must run to its end, too.
    pub(crate) async fn unmount(&self, request: Unmount) -> Result<(), KindError> {
        let _one_at_a_time = self.changing.lock().await;
        let names = components(&request.path)?;
        let missing = || {
            let near = self.list().into_iter().find(|mount| lies_in(&request.path, &mount.path));
            let hint = near.map(|mount| format!(": it lies in the mount {}", mount.path)).unwrap_or_default();
            KindError::new(ErrorKind::NotFound, format!("{}: nothing is mounted there{hint}", request.path))
        };
        let state = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            table.values().find(|state| state.record.path == request.path).cloned()
        };
        let state = state.ok_or_else(missing)?;
        let held = self.held(state.record.mount_id);
        if held > 0 && !request.force {
            return Err(KindError::new(
                ErrorKind::Busy,
                format!("{}: {held} files are open there: close them, or use force", request.path),
            ));
        }
        for _ in 0..TRIES {
            let chain = self.removal_chain(&names).await?;
            let command = Command::RemoveMount { mount_id: state.record.mount_id, chain };
            match self.journal.propose(command).await? {
                Outcome::Done { .. } => {
                    let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
                    table.remove(&state.record.mount_id);
                    tracing::info!("unmounted {}", request.path);
                    return Ok(());
                }
                Outcome::Retry => {}
                other => return Err(refused(other)),
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("{}: too many changes at once", request.path)))
    }

    /// The mount's root, then the directories above it that hold nothing else, deepest first.
    async fn removal_chain(&self, names: &[&str]) -> Result<Vec<Removal>, KindError> {
        let mut parent = FileId::ROOT;
        let mut way = Vec::new();
        for name in names {
            let owned = name.as_bytes().to_vec();
            let at = owned.clone();
            let (entry, siblings) = self
                .cores
                .read(parent.partition(), move |home| (home.entry(parent, &at), home.entry_count(parent)))
                .await?;
            let entry = entry.ok_or_else(|| KindError::new(ErrorKind::NotFound, "the mount's root is gone"))?;
            way.push((Removal { parent: parent.0, name: owned, expected: entry.file_id.0 }, siblings));
            parent = entry.file_id;
        }
        let mut chain = Vec::new();
        for (removal, siblings) in way.into_iter().rev() {
            chain.push(removal);
            if siblings > 1 {
                break;
            }
        }
        Ok(chain)
    }
}

/// An outcome that is an answer to the caller.
pub(crate) fn refused(outcome: Outcome) -> KindError {
    match outcome {
        Outcome::Refused { code, message } => {
            KindError::new(ErrorKind::from_code(code).unwrap_or(ErrorKind::Internal), message)
        }
        other => KindError::new(ErrorKind::Internal, format!("unexpected outcome {other:?}")),
    }
}

/// The path without links as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_path_buf()
}
