//! What readers ask: names, attributes, listings, tickets. Served from the partition's core when the mount's freshness
//! allows, after a check with the store otherwise (`tree/check.rs`).
//!
//! Runs on the serving runtime; store I/O runs on the store runtime; no lock is held over either.

mod change;
mod check;
mod job_view;
mod listing;
mod open;
mod reap;
mod refresh;
mod rename;
mod saving;
mod sync;
mod write;

use crate::cores::Cores;
use crate::feed::Feed;
use crate::flights::Flights;
use crate::freshness::Freshness;
use crate::journal::Journal;
use crate::metrics::MasterMetrics;
use crate::mount_state::MountState;
use crate::mounts::Mounts;
use crate::namespace::{Inode, Partition, Upsert};
use crate::policies::Policies;
use crate::sessions::Sessions;
use ed25519_dalek::SigningKey;
use forebay_base::metrics::PerCore;
use forebay_base::{ErrorKind, FileId, KindError, limits};
use forebay_net::message::namespace::{Attr, KIND_DIRECTORY, KIND_FILE};
use forebay_ufs::{ObjectKind, ObjectMeta};
use futures::{StreamExt, stream};
pub(crate) use job_view::Named;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;

/// Directories above mounts, and what is served while a store is away, are believed this long.
const SHORT_MS: u64 = 1_000;
/// Checks of one batch that run at once.
const CHECKS_AT_ONCE: usize = 64;
/// Looks at the namespace before what is there is served: each one follows a check that began later.
const LOOKS: usize = 4;

/// What inodes get where a store says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    /// Owner and group of the master's process.
    pub(crate) owner: (u32, u32),
}

impl Defaults {
    /// A store's entry as the namespace records it.
    pub(crate) fn upsert(&self, name: &[u8], expected: u64, meta: &ObjectMeta) -> Upsert {
        let directory = meta.kind == ObjectKind::Directory;
        let (uid, gid) = meta.owner.unwrap_or(self.owner);
        Upsert {
            name: name.to_vec(),
            expected,
            kind: if directory { KIND_DIRECTORY } else { KIND_FILE },
            size: if directory { 0 } else { meta.size },
            mtime_ms: meta.mtime_ms,
            mode: meta.mode.map_or(if directory { 0o755 } else { 0o644 }, |mode| mode & 0o7777),
            uid,
            gid,
            has_attributes: meta.mode.is_some(),
            is_empty: false,
            fingerprint: if directory { String::new() } else { meta.fingerprint.0.clone() },
        }
    }

    /// A directory that the store has no entry for.
    pub(crate) fn directory(&self) -> Upsert {
        Upsert {
            name: Vec::new(),
            expected: 0,
            kind: KIND_DIRECTORY,
            size: 0,
            mtime_ms: 0,
            mode: 0o755,
            uid: self.owner.0,
            gid: self.owner.1,
            has_attributes: true,
            is_empty: false,
            fingerprint: String::new(),
        }
    }
}

/// The tree of names.
pub(crate) struct Tree {
    pub(crate) cores: Arc<Cores>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) metrics: Arc<PerCore<MasterMetrics>>,
    pub(crate) ticket_key: SigningKey,
    pub(crate) store_runtime: Handle,
    pub(crate) defaults: Defaults,
    pub(crate) freshness: Freshness,
    pub(crate) flights: Flights,
    pub(crate) sessions: Sessions,
    pub(crate) policies: Arc<Policies>,
    /// The zero of its clock.
    pub(crate) started: Instant,
}

/// An inode with its id.
#[derive(Clone, Debug)]
struct Found {
    id: FileId,
    inode: Inode,
}

fn not_found(what: &str) -> KindError {
    KindError::new(ErrorKind::NotFound, what)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Found {
    fn attr(&self, valid_for_ms: u64) -> Attr {
        Attr {
            file_id: self.id.0,
            version: self.inode.version,
            size: self.inode.size,
            mtime_ms: self.inode.mtime_ms,
            block_bytes: limits::BLOCK_BYTES,
            page_bytes: limits::PAGE_BYTES,
            mode: self.inode.mode,
            uid: self.inode.uid,
            gid: self.inode.gid,
            nlink: if self.inode.is_directory() { 2 } else { 1 },
            mount_id: self.inode.mount_id,
            kind: self.inode.kind,
            valid_for_ms,
        }
    }
}

fn live(partition: &Partition, id: FileId) -> Option<Inode> {
    partition.inode(id).filter(|inode| !inode.detached).cloned()
}

impl Tree {
    /// Many inodes, one hop per core.
    async fn inodes(&self, ids: &[FileId]) -> Result<Vec<Option<Found>>, KindError> {
        let keys = ids.iter().map(|id| (id.partition(), *id)).collect();
        let found = self.cores.read_many(keys, live).await?;
        Ok(found.into_iter().zip(ids).map(|(inode, id)| Some(Found { id: *id, inode: inode.flatten()? })).collect())
    }

    async fn inode(&self, id: FileId) -> Result<Option<Found>, KindError> {
        let inode = self.cores.read(id.partition(), move |partition| live(partition, id)).await?;
        Ok(inode.map(|inode| Found { id, inode }))
    }

    async fn directory(&self, id: FileId) -> Result<Found, KindError> {
        let found = self.inode(id).await?.ok_or_else(|| not_found(&format!("directory {id} does not exist")))?;
        if found.inode.is_directory() {
            Ok(found)
        } else {
            Err(KindError::new(ErrorKind::NotADirectory, format!("file {id} is not a directory")))
        }
    }

    /// A directory and what one of its names leads to.
    async fn name(&self, parent: FileId, name: &[u8]) -> Result<(Found, Option<Found>), KindError> {
        let owned = name.to_vec();
        let look = move |partition: &Partition| {
            let child = partition.entry(parent, &owned).map(|entry| entry.file_id);
            (live(partition, parent), child, child.and_then(|id| live(partition, id)))
        };
        let (directory, child, near) = self.cores.read(parent.partition(), look).await?;
        let directory = directory.ok_or_else(|| not_found(&format!("directory {parent} does not exist")))?;
        if !directory.is_directory() {
            return Err(KindError::new(ErrorKind::NotADirectory, format!("file {parent} is not a directory")));
        }
        let child = match (child, near) {
            (None, _) => None,
            (Some(id), Some(inode)) => Some(Found { id, inode }),
            (Some(id), None) => self.inode(id).await?,
        };
        Ok((Found { id: parent, inode: directory }, child))
    }

    fn mount_of(&self, found: &Found) -> Result<Arc<MountState>, KindError> {
        let gone = || not_found(&format!("file {}: its mount is gone", found.id));
        self.mounts.get(found.inode.mount_id).ok_or_else(gone)
    }

    /// One name of a directory.
    pub(crate) async fn lookup(self: &Arc<Self>, parent: FileId, name: &[u8]) -> Result<Attr, KindError> {
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.contains(&b'/') || name.contains(&0) {
            return Err(KindError::new(ErrorKind::Invalid, format!("\"{}\" is not a name", shown(name))));
        }
        let absent = || not_found(&format!("\"{}\" does not exist", shown(name)));
        let asked = Instant::now();
        let mut checked = None;
        for look in 0.. {
            let (directory, child) = self.name(parent, name).await?;
            if directory.inode.mount_id == 0 {
                return child.map(|child| child.attr(SHORT_MS)).ok_or_else(absent);
            }
            let mount = self.mount_of(&directory)?;
            let known = match &child {
                Some(child) => self.freshness.checked(child.id, parent),
                None => self.freshness.listed(parent),
            };
            let loaded = child.is_some() || directory.inode.listed;
            let bound = self.policies.bound_with(&mount, || directory.inode.child_key(name).unwrap_or_default());
            match (bound.valid_ms(known.max(checked), loaded, asked), child) {
                (Some(valid), Some(child)) => return Ok(child.attr(valid)),
                (Some(_), None) => return Err(absent()),
                (None, child) if look >= LOOKS => return child.map(|child| child.attr(0)).ok_or_else(absent),
                (None, child) => match self.check_name(&mount, &directory, name, child.is_some()).await? {
                    Some(began) => checked = Some(began),
                    None => return child.map(|child| child.attr(SHORT_MS)).ok_or_else(absent),
                },
            }
        }
        Err(absent())
    }

    /// A whole path.
    pub(crate) async fn resolve(self: &Arc<Self>, path: &[u8]) -> Result<Attr, KindError> {
        let text = std::str::from_utf8(path).map_err(|_| not_found(&format!("{}: no such path", shown(path))))?;
        let names = crate::mounts::components(text)?;
        let root = self.inode(FileId::ROOT).await?.ok_or_else(|| not_found("the root does not exist"))?;
        let mut attr = root.attr(SHORT_MS);
        for name in names {
            let named = |error: KindError| KindError::new(error.kind, format!("{text}: {}", error.message));
            attr = self.lookup(FileId(attr.file_id), name.as_bytes()).await.map_err(named)?;
        }
        Ok(attr)
    }

    /// An inode checked against its mount's freshness, and how long it is valid.
    async fn current(self: &Arc<Self>, id: FileId, first: Option<Found>) -> Result<(Found, u64), KindError> {
        let gone = || not_found(&format!("file {id} does not exist any more"));
        let asked = Instant::now();
        let mut found = first.ok_or_else(gone)?;
        for look in 0.. {
            if found.inode.mount_id == 0 {
                return Ok((found, SHORT_MS));
            }
            let mount = self.mount_of(&found)?;
            let parent = FileId(found.inode.parent);
            let checked = self.freshness.checked(id, parent);
            let bound = self.policies.bound(&mount, &found.inode.store_key);
            if let Some(valid) = bound.valid_ms(checked, true, asked) {
                return Ok((found, valid));
            }
            if look >= LOOKS {
                return Ok((found, 0));
            }
            let name = name_of(&found, &mount);
            let directory = self.directory(parent).await?;
            if self.check_name(&mount, &directory, name.as_bytes(), true).await?.is_none() {
                return Ok((found, SHORT_MS));
            }
            found = self.inode(id).await?.ok_or_else(gone)?;
        }
        Err(gone())
    }

    async fn current_many(self: &Arc<Self>, ids: &[FileId]) -> Result<Vec<Result<(Found, u64), KindError>>, KindError> {
        let found = self.inodes(ids).await?;
        let check = |(first, id): (Option<Found>, FileId)| {
            let tree = Arc::clone(self);
            async move { tree.current(id, first).await }
        };
        let checks: Vec<_> = found.into_iter().zip(ids.to_vec()).map(check).collect();
        Ok(stream::iter(checks).buffered(CHECKS_AT_ONCE).collect().await)
    }

    /// Attributes of many inodes.
    pub(crate) async fn attrs(self: &Arc<Self>, ids: &[FileId]) -> Result<Vec<Result<Attr, KindError>>, KindError> {
        let current = self.current_many(ids).await?;
        Ok(current.into_iter().map(|result| result.map(|(found, valid)| found.attr(valid))).collect())
    }

    /// The same, after a look at the stores that began after the call: somebody knows that the files changed.
    pub(crate) async fn recheck(self: &Arc<Self>, ids: &[FileId]) -> Result<Vec<Result<Attr, KindError>>, KindError> {
        let looks = self.inodes(ids).await?.into_iter().flatten().filter(|found| found.inode.mount_id != 0);
        let look = |found: Found| {
            let tree = Arc::clone(self);
            async move { tree.look_again(&found).await }
        };
        let looks: Vec<_> = looks.map(look).collect();
        let looked: Vec<Result<(), KindError>> = stream::iter(looks).buffered(CHECKS_AT_ONCE).collect().await;
        for error in looked.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a changed file could not be checked");
        }
        self.attrs(ids).await
    }

    async fn look_again(self: &Arc<Self>, found: &Found) -> Result<(), KindError> {
        let asked = Instant::now();
        let mount = self.mount_of(found)?;
        let name = name_of(found, &mount);
        let directory = self.directory(FileId(found.inode.parent)).await?;
        for _ in 0..2 {
            // A check that was under way may have seen the store before the change.
            match self.check_name(&mount, &directory, name.as_bytes(), true).await? {
                Some(began) if began < asked => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// The live version of each file, 0 where it is gone. Asks no store.
    pub(crate) async fn live_versions(&self, ids: &[FileId]) -> Result<Vec<u64>, KindError> {
        let found = self.inodes(ids).await?;
        let version = |found: Option<Found>| {
            found.filter(|found| self.mounts.get(found.inode.mount_id).is_some()).map_or(0, |found| found.inode.version)
        };
        Ok(found.into_iter().map(version).collect())
    }
}

/// The name by which its parent knows an inode.
fn name_of(found: &Found, mount: &MountState) -> String {
    let path = if found.inode.store_key.is_empty() { &mount.record.path } else { &found.inode.store_key };
    path.rsplit('/').next().unwrap_or_default().to_string()
}
