//! Brings the namespace to what a store has: one name, or all names of a directory in chunks. Only differences are
//! journaled. Runs as flights on the serving runtime, the store calls on the store runtime.

use super::refresh::Changes;
use super::{Found, Tree, name_of};
use crate::flights::Steps;
use crate::metrics::{CHECK, LIST, STAT};
use crate::mount_state::MountState;
use crate::mounts::refused;
use crate::namespace::{Command, Inode, Outcome, Removal, SyncDirectory, Upsert};
use forebay_base::{ErrorKind, FileId, KindError, limits};
use forebay_ufs::{ObjectMeta, StoreError, UnderStore};
use hashbrown::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most names in one command.
const NAMES_MAX: usize = 1000;
/// Tries of a command whose expectations were overtaken.
pub(super) const TRIES: usize = 16;
/// Times that a name is asked for again because a directory of its mount was moved meanwhile.
const MOVES_WAITED: usize = 10;
const MOVE_PAUSE: Duration = Duration::from_millis(20);
/// The same for a listing.
const LISTINGS_AGAIN: usize = 3;

pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= limits::NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}

/// Whether the namespace lacks something of what the store has.
fn differs(inode: &Inode, upsert: &Upsert) -> bool {
    if inode.unsaved {
        // Nothing but a save brings the two together.
        return false;
    }
    let attributes = |mode, uid, gid| if upsert.has_attributes { (mode, uid, gid) } else { (0, 0, 0) };
    let same_time = inode.mtime_ms == upsert.mtime_ms || inode.own_mtime;
    let now = (inode.kind, inode.size, attributes(inode.mode, inode.uid, inode.gid), &inode.fingerprint);
    let then = (upsert.kind, upsert.size, attributes(upsert.mode, upsert.uid, upsert.gid), &upsert.fingerprint);
    now != then || !same_time
}

impl Tree {
    /// Runs a store call on the store runtime and takes note of how it ended.
    pub(super) async fn ask<T, F>(
        &self,
        mount: &MountState,
        what: usize,
        call: impl FnOnce(Arc<dyn UnderStore>) -> F,
    ) -> Result<T, KindError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let began = Instant::now();
        let asked = self.store_runtime.spawn(call(mount.store()?)).await;
        self.metrics.here().store_seconds.at(what).record_since(began);
        mount.heard(asked.map_err(|_| KindError::new(ErrorKind::Closed, "the master is shutting down"))?)
    }

    /// Proposes; `false` when it was overtaken. Refusals because a directory went away count as done.
    pub(super) async fn propose_sync(&self, sync: SyncDirectory) -> Result<bool, KindError> {
        match self.journal.propose(Command::SyncDirectory(sync)).await? {
            Outcome::Done { .. } => Ok(true),
            Outcome::Retry => Ok(false),
            Outcome::Refused { code, .. } if code == ErrorKind::NotFound.code() => Ok(true),
            other => Err(refused(other)),
        }
    }

    /// Asks the store for one name and records the difference.
    pub(super) async fn sync_name(
        self: Arc<Self>,
        mount: Arc<MountState>,
        parent: FileId,
        name: Vec<u8>,
    ) -> Result<(), KindError> {
        self.compare_name(&mount, parent, name, &mut Changes::applied()).await
    }

    /// Asks the store for one name; `changes` says whether a difference is recorded, and learns of it.
    pub(super) async fn compare_name(
        &self,
        mount: &MountState,
        parent: FileId,
        name: Vec<u8>,
        changes: &mut Changes,
    ) -> Result<(), KindError> {
        let (mut began, mut asked) = (Instant::now(), self.ask_for_name(mount, parent, &name).await);
        let mut waited = 0;
        let key = self.directory(parent).await?.inode.child_key(&name).unwrap_or_default();
        while mount.moved_since(&key, began) {
            if waited == MOVES_WAITED {
                let message = format!("\"{}\": a directory above is being renamed, try again", super::shown(&name));
                return Err(KindError::new(ErrorKind::Busy, message));
            }
            waited += 1;
            tokio::time::sleep(MOVE_PAUSE).await;
            (began, asked) = (Instant::now(), self.ask_for_name(mount, parent, &name).await);
        }
        let Some(meta) = asked? else { return Ok(()) };
        changes.checked(1);
        for _ in 0..TRIES {
            let (directory, child) = self.name(parent, &name).await?;
            if child.as_ref().is_some_and(|child| self.freshness.checked(child.id, parent) > Some(began)) {
                // A check that began later has been recorded: it knows better.
                return Ok(());
            }
            if self.freshness.changed_since(parent, &name, began) || mount.moved_since(&key, began) {
                // So does a program that changes the name.
                return Ok(());
            }
            let is_root = child.as_ref().is_some_and(|child| child.inode.mount_id != directory.inode.mount_id);
            if is_root && meta.is_none() {
                let message = format!("{}: the mount's own directory is gone", mount.record.uri);
                mount.failed(message.clone());
                return Err(KindError::new(ErrorKind::Unavailable, message));
            }
            let expected = child.as_ref().map_or(0, |child| child.id.0);
            let mut sync =
                SyncDirectory { directory: parent.0, upserts: Vec::new(), removals: Vec::new(), complete: false };
            match (&meta, &child) {
                (Some(meta), _) => {
                    let upsert = self.defaults.upsert(&name, expected, meta);
                    if child.as_ref().is_none_or(|child| differs(&child.inode, &upsert)) {
                        sync.upserts.push(upsert);
                    }
                }
                // What programs write has no place in the store yet.
                (None, Some(child)) if self.has_unsaved_at(&child.inode).await? => {}
                (None, Some(_)) => sync.removals.push(Removal { parent: parent.0, name: name.clone(), expected }),
                (None, None) => {}
            }
            if sync.upserts.is_empty() && sync.removals.is_empty() {
                if let Some(child) = child {
                    self.freshness.set_asked(child.id, began);
                }
                return Ok(());
            }
            let upserted = sync.upserts.first().cloned();
            if !changes.apply || self.propose_sync(sync).await? {
                match (upserted, &child) {
                    (Some(upsert), child) => changes.upserted(&upsert, child.as_ref().map(|child| &child.inode)),
                    (None, Some(child)) => changes.removed(name.clone(), child.inode.size),
                    (None, None) => {}
                }
                if !changes.apply {
                    return Ok(());
                }
                if let (_, Some(child)) = self.name(parent, &name).await? {
                    self.freshness.set_asked(child.id, began);
                }
                return Ok(());
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("directory {parent}: too many changes at once")))
    }

    /// What the store has of a name, or that it has nothing; `None` where no store can have such a name.
    async fn ask_for_name(
        &self,
        mount: &MountState,
        parent: FileId,
        name: &[u8],
    ) -> Result<Option<Option<ObjectMeta>>, KindError> {
        let (directory, child) = self.name(parent, name).await?;
        let key = match &child {
            Some(child) => Some(child.inode.store_key.clone()),
            None => directory.inode.child_key(name).filter(|_| is_name(name)),
        };
        let Some(key) = key else { return Ok(None) };
        match self.ask(mount, STAT, move |store| async move { store.stat(&key).await }).await {
            Ok(meta) => Ok(Some(Some(meta))),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Some(None)),
            Err(error) => Err(error),
        }
    }

    /// Lists a directory in the store and records the differences.
    pub(super) async fn sync_listing(
        self: Arc<Self>,
        mount: Arc<MountState>,
        id: FileId,
        steps: Steps,
    ) -> Result<(), KindError> {
        for _ in 0..LISTINGS_AGAIN {
            match self.compare_listing(&mount, id, &mut Changes::counting(steps.clone())).await {
                Err(error) if matches!(error.kind, ErrorKind::Overloaded | ErrorKind::Busy) => {
                    tokio::time::sleep(MOVE_PAUSE).await;
                }
                result => return result,
            }
        }
        self.compare_listing(&mount, id, &mut Changes::counting(steps)).await
    }

    /// Lists a directory in the store; `changes` says whether differences are recorded, and learns of them.
    pub(super) async fn compare_listing(
        self: &Arc<Self>,
        mount: &Arc<MountState>,
        id: FileId,
        changes: &mut Changes,
    ) -> Result<(), KindError> {
        let began = Instant::now();
        let directory = self.directory(id).await?;
        let own_key = directory.inode.store_key.clone();
        let undisturbed = || {
            if !mount.moved_since(&own_key, began) {
                return Ok(());
            }
            let message = format!("directory {id}: it, or one above it, was renamed while it was listed, try again");
            Err(KindError::new(ErrorKind::Busy, message))
        };
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut after: Option<String> = None;
        loop {
            let (key, from, page_began) = (directory.inode.store_key.clone(), after.take(), Instant::now());
            let last = from.clone();
            let page = self.ask(mount, LIST, move |store| async move { store.list(&key, from.as_deref()).await }).await;
            undisturbed()?;
            let page = match page {
                Ok(page) => page,
                Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return if changes.apply { self.listing_gone(mount, &directory, error).await } else { Err(error) };
                }
                Err(error) => return Err(error),
            };
            // A page without any name is a step too.
            changes.steps.add(1);
            let mut chunk: Vec<ObjectMeta> = Vec::new();
            for meta in page.entries {
                if !is_name(meta.name.as_bytes()) {
                    tracing::warn!("{}: \"{}\" is not a name, left out", mount.record.uri, meta.name);
                } else if seen.insert(meta.name.as_bytes().to_vec()) {
                    chunk.push(meta);
                }
                if chunk.len() == NAMES_MAX {
                    self.sync_chunk(id, &std::mem::take(&mut chunk), page_began, changes).await?;
                    changes.steps.add(NAMES_MAX as u64);
                }
            }
            self.sync_chunk(id, &chunk, page_began, changes).await?;
            changes.steps.add(chunk.len() as u64);
            match page.next {
                Some(next) if last.as_ref() == Some(&next) => {
                    let message = format!("{}: the listing does not go on behind \"{next}\"", mount.record.uri);
                    return Err(KindError::new(ErrorKind::Corrupt, message));
                }
                Some(next) => after = Some(next),
                None => break,
            }
        }
        undisturbed()?;
        if self.freshness.forgot_since(id, began) {
            let message = format!("directory {id}: names changed while it was listed, try again");
            return Err(KindError::new(ErrorKind::Overloaded, message));
        }
        self.remove_unseen(id, &seen, began, changes).await?;
        if changes.apply {
            self.freshness.set_listed(id, began);
        }
        Ok(())
    }

    /// The store has no such directory: its parent forgets the name.
    async fn listing_gone(
        self: &Arc<Self>,
        mount: &Arc<MountState>,
        directory: &Found,
        error: KindError,
    ) -> Result<(), KindError> {
        let name = name_of(directory, mount).into_bytes();
        let parent = FileId(directory.inode.parent);
        // An object store may know an empty mount only by its bucket.
        if directory.inode.store_key.is_empty() && error.kind == ErrorKind::NotFound {
            let check = self.ask(mount, CHECK, |store| async move { store.check().await }).await;
            if check.is_ok() {
                self.remove_unseen(directory.id, &HashSet::new(), Instant::now(), &mut Changes::applied()).await?;
                self.freshness.set_listed(directory.id, Instant::now());
                return Ok(());
            }
        }
        Box::pin(Arc::clone(self).sync_name(Arc::clone(mount), parent, name)).await?;
        Err(error)
    }

    /// Records what a page of a listing, asked for at `began`, says of some names.
    async fn sync_chunk(
        &self,
        directory: FileId,
        metas: &[ObjectMeta],
        began: Instant,
        changes: &mut Changes,
    ) -> Result<(), KindError> {
        if metas.is_empty() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let names: Vec<Vec<u8>> = metas.iter().map(|meta| meta.name.as_bytes().to_vec()).collect();
            let look = move |partition: &crate::namespace::Partition| {
                names.iter().map(|name| partition.entry(directory, name).map(|entry| entry.file_id)).collect::<Vec<_>>()
            };
            let ids = self.cores.read(directory.partition(), look).await?;
            let known: Vec<FileId> = ids.iter().flatten().copied().collect();
            let mut known = self.inodes(&known).await?.into_iter();
            let (mut upserts, mut before) = (Vec::new(), Vec::new());
            for (meta, id) in metas.iter().zip(ids) {
                let upsert = self.defaults.upsert(meta.name.as_bytes(), id.map_or(0, |id| id.0), meta);
                let found = id.and_then(|_| known.next().flatten());
                // What was asked for itself while the page was under way is newer than the page.
                let is_older = found.as_ref().is_some_and(|found| self.freshness.asked(found.id) > Some(began))
                    || self.freshness.changed_since(directory, &upsert.name, began);
                if !is_older && found.as_ref().is_none_or(|found| differs(&found.inode, &upsert)) {
                    before.push(found);
                    upserts.push(upsert);
                }
            }
            let noted: Vec<(Upsert, Option<Inode>)> = if changes.collects() {
                upserts.iter().cloned().zip(before.into_iter().map(|found| found.map(|found| found.inode))).collect()
            } else {
                Vec::new()
            };
            let nothing_to_do = upserts.is_empty() || !changes.apply;
            let sync = SyncDirectory { directory: directory.0, upserts, removals: Vec::new(), complete: false };
            if nothing_to_do || self.propose_sync(sync).await? {
                changes.checked(metas.len() as u64);
                for (upsert, before) in noted {
                    changes.upserted(&upsert, before.as_ref());
                }
                return Ok(());
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("directory {directory}: too many changes at once")))
    }

    /// Removes the names that a complete listing, begun at `began`, did not show, and marks the directory as listed.
    async fn remove_unseen(
        &self,
        directory: FileId,
        seen: &HashSet<Vec<u8>>,
        began: Instant,
        changes: &mut Changes,
    ) -> Result<(), KindError> {
        let mut after = Vec::new();
        loop {
            let from = after.clone();
            let look = move |partition: &crate::namespace::Partition| {
                let names = partition.entries_after(directory, &from).take(NAMES_MAX);
                names.map(|(name, entry)| (name.to_vec(), entry.file_id)).collect::<Vec<_>>()
            };
            let names = self.cores.read(directory.partition(), look).await?;
            let is_unseen = |(name, _): &(Vec<u8>, FileId)| !seen.contains(name);
            let unsaved = if names.iter().any(is_unseen) { self.unsaved_keys().await? } else { Vec::new() };
            let own = self.directory(directory).await?;
            let end = names.len() < NAMES_MAX;
            changes.steps.add(1);
            after = names.last().map(|(name, _)| name.clone()).unwrap_or_default();
            let unseen = names.into_iter().filter(|(name, id)| {
                // A name that a lookup found while the listing ran is newer than the listing.
                !seen.contains(name)
                    && self.freshness.asked(*id).is_none_or(|asked| asked < began)
                    && !own.inode.child_key(name).is_some_and(|key| holds_unsaved(&unsaved, own.inode.mount_id, &key))
                    && !self.freshness.changed_since(directory, name, began)
            });
            let removals: Vec<Removal> =
                unseen.map(|(name, id)| Removal { parent: directory.0, name, expected: id.0 }).collect();
            let complete = end && self.inode(directory).await?.is_some_and(|found| !found.inode.listed);
            let gone: Vec<Vec<u8>> = removals.iter().map(|removal| removal.name.clone()).collect();
            if changes.apply && (!removals.is_empty() || complete) {
                let sync = SyncDirectory { directory: directory.0, upserts: Vec::new(), removals, complete };
                if !self.propose_sync(sync).await? {
                    let message = format!("directory {directory}: it changed while it was listed, try again");
                    return Err(KindError::new(ErrorKind::Overloaded, message));
                }
            }
            gone.into_iter().for_each(|name| changes.removed(name, 0));
            if end {
                return Ok(());
            }
        }
    }

    /// Mount and key of each file that its store does not have yet.
    pub(super) async fn unsaved_keys(&self) -> Result<Vec<(u32, String)>, KindError> {
        let all = self.cores.read_all(|partition| partition.unsaved_keys().collect::<Vec<_>>()).await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Whether it is a file that its store does not have yet, or has one below it.
    pub(super) async fn has_unsaved_at(&self, inode: &Inode) -> Result<bool, KindError> {
        Ok(inode.unsaved
            || (inode.is_directory() && holds_unsaved(&self.unsaved_keys().await?, inode.mount_id, &inode.store_key)))
    }
}

fn holds_unsaved(unsaved: &[(u32, String)], mount_id: u32, above: &str) -> bool {
    let lies = |key: &str| key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    unsaved.iter().any(|(mount, key)| *mount == mount_id && lies(key))
}
