//! What programs change: new directories, names that go, attributes. The store is changed first; then the namespace takes over
//! what the store says it has.
//!
//! Invariant: while a name is changed, and for what a store was asked before that, checks of it do not count (`Changing`).

use super::sync::{TRIES, is_name};
use super::{Found, Tree, not_found, shown};
use crate::freshness::Changing;
use crate::metrics::CHANGE;
use crate::mount_state::MountState;
use crate::mounts::refused;
use crate::namespace::{Command, NewAttributes, Outcome, Partition, Removal, SyncDirectory, Upsert};
use crate::tree::refresh::Changes;
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_net::message::change::{MakeDirectory, Remove, SetAttr};
use forebay_net::message::namespace::Attr;
use forebay_ufs::{AttributeChange, ObjectMeta};
use std::sync::Arc;
use std::time::Instant;

/// Permission bits that a program may set.
const MODE_BITS: u32 = 0o7777;

impl Tree {
    /// The mount of a directory or file that a program wants to change.
    pub(super) fn changeable(&self, found: &Found) -> Result<Arc<MountState>, KindError> {
        let denied = |message: String| KindError::new(ErrorKind::ReadOnly, message);
        if found.inode.mount_id == 0 {
            return Err(denied(format!("directory {}: lies in no mount, nothing can be changed there", found.id)));
        }
        let mount = self.mount_of(found)?;
        if mount.record.readonly {
            let at = &mount.record.path;
            let hint = format!("forebay fs mount --update {at} --read-write changes that");
            return Err(denied(format!("the mount {at} is read-only: {hint}")));
        }
        Ok(mount)
    }

    /// The key of a name in its store.
    pub(super) fn new_key(directory: &Found, name: &[u8]) -> Result<String, KindError> {
        let key = Some(name).filter(|name| is_name(name)).and_then(|name| directory.inode.child_key(name));
        key.ok_or_else(|| {
            let message =
                format!("\"{}\" is no name that a store can have: want UTF-8, 255 bytes at most", shown(name));
            KindError::new(ErrorKind::Invalid, message)
        })
    }

    /// Puts what a store says of a name into the namespace, if the name still leads to `expected` (0: to nothing).
    pub(super) async fn record(&self, parent: FileId, upsert: Upsert) -> Result<Found, KindError> {
        let began = Instant::now();
        let name = upsert.name.clone();
        let changed = || {
            let kind = if upsert.expected == 0 { ErrorKind::Exists } else { ErrorKind::Stale };
            KindError::new(kind, format!("\"{}\" was changed by somebody else meanwhile", shown(&name)))
        };
        for _ in 0..TRIES {
            if self.name(parent, &name).await?.1.map_or(0, |child| child.id.0) != upsert.expected {
                return Err(changed());
            }
            let upserts = vec![upsert.clone()];
            let sync = SyncDirectory { directory: parent.0, upserts, removals: Vec::new(), complete: false };
            if self.propose_sync(sync).await? {
                let found = self.name(parent, &name).await?.1;
                let found = found.ok_or_else(|| not_found(&format!("\"{}\" is gone already", shown(&name))))?;
                self.freshness.set_asked(found.id, began);
                return Ok(found);
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("directory {parent}: too many changes at once")))
    }

    /// Takes a name out of the namespace that its store does not have any more.
    pub(super) async fn record_gone(&self, parent: FileId, name: &[u8]) -> Result<(), KindError> {
        for _ in 0..TRIES {
            let Some(child) = self.name(parent, name).await?.1 else { return Ok(()) };
            let removal = Removal { parent: parent.0, name: name.to_vec(), expected: child.id.0 };
            if child.inode.unsaved {
                match self.journal.propose(Command::DropUnsaved(removal)).await? {
                    Outcome::Done { .. } => return Ok(()),
                    Outcome::Retry => continue,
                    other => return Err(refused(other)),
                }
            }
            let sync =
                SyncDirectory { directory: parent.0, upserts: Vec::new(), removals: vec![removal], complete: false };
            if self.propose_sync(sync).await? {
                return Ok(());
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("directory {parent}: too many changes at once")))
    }

    /// A name as the store has it now, if the namespace does not know it.
    pub(super) async fn known_or_asked(
        &self,
        mount: &MountState,
        parent: FileId,
        name: &[u8],
    ) -> Result<(Found, Option<Found>), KindError> {
        let (directory, child) = self.name(parent, name).await?;
        if child.is_some() {
            return Ok((directory, child));
        }
        self.compare_name(mount, parent, name.to_vec(), &mut Changes::applied()).await?;
        self.name(parent, name).await
    }

    /// Whether a store keeps mode, owner and times.
    pub(super) fn keeps_attributes(mount: &MountState) -> Result<bool, KindError> {
        Ok(mount.store()?.keeps_attributes())
    }

    /// A new directory.
    pub(crate) async fn make_directory(self: &Arc<Self>, request: &MakeDirectory) -> Result<Attr, KindError> {
        let parent = FileId(request.parent);
        let name = &request.name;
        let mount = self.changeable(&self.directory(parent).await?)?;
        let _order = mount.order.read().await;
        let key = Self::new_key(&self.directory(parent).await?, name)?;
        let taken = || KindError::new(ErrorKind::Exists, format!("\"{}\" exists already", shown(name)));
        let known = self.name(parent, name).await?.1;
        if known.as_ref().is_some_and(|child| child.inode.unsaved) {
            return Err(taken());
        }
        let expected = known.map_or(0, |child| child.id.0);
        let changing = self.freshness.changing(parent, name);
        let (mode, uid, gid) = (request.mode & MODE_BITS, request.uid, request.gid);
        let made_key = key.clone();
        let made = self.ask(&mount, CHANGE, move |store| async move { store.make_directory(&made_key).await }).await;
        let mut meta = match made {
            Ok(meta) => meta,
            Err(error) => {
                drop(changing);
                if error.kind == ErrorKind::Exists {
                    self.compare_name(&mount, parent, name.clone(), &mut Changes::applied()).await?;
                    return Err(taken());
                }
                return Err(error);
            }
        };
        if Self::keeps_attributes(&mount)? {
            let change = AttributeChange { mode: Some(mode), uid: Some(uid), gid: Some(gid), mtime_ms: None };
            match self.ask(&mount, CHANGE, move |store| async move { store.set_attributes(&key, &change).await }).await
            {
                Ok(changed) => meta = changed,
                // A master that may not give files away made it all the same, as its own.
                Err(error) => tracing::info!(%error, "a new directory keeps the owner and mode that its store gave it"),
            }
        }
        let upsert = Upsert { is_empty: true, expected, ..self.owned(name, &meta, (mode, uid, gid)) };
        let found = self.record(parent, upsert).await?;
        self.freshness.set_listed(found.id, Instant::now());
        Ok(found.attr(self.valid_ms(&mount, &found, parent)))
    }

    /// What a store has, with the attributes that a program gave where the store keeps none.
    pub(super) fn owned(&self, name: &[u8], meta: &ObjectMeta, given: (u32, u32, u32)) -> Upsert {
        let upsert = self.defaults.upsert(name, 0, meta);
        if upsert.has_attributes {
            return upsert;
        }
        Upsert { mode: given.0, uid: given.1, gid: given.2, has_attributes: true, ..upsert }
    }

    /// How long what was found just now may be believed.
    pub(super) fn valid_ms(&self, mount: &MountState, found: &Found, parent: FileId) -> u64 {
        let bound = self.policies.bound(mount, &found.inode.store_key);
        bound.valid_ms(self.freshness.checked(found.id, parent), true, Instant::now()).unwrap_or(0)
    }

    /// Removes a file, or an empty directory.
    pub(crate) async fn remove(self: &Arc<Self>, request: &Remove) -> Result<(), KindError> {
        let (parent, name) = (FileId(request.parent), &request.name);
        let mount = self.changeable(&self.directory(parent).await?)?;
        let _order = mount.order.read().await;
        Self::new_key(&self.directory(parent).await?, name)?;
        let (directory, child) = self.known_or_asked(&mount, parent, name).await?;
        let child = child.ok_or_else(|| not_found(&format!("\"{}\" does not exist", shown(name))))?;
        Self::removable(&directory, &child, name, request.is_directory)?;
        let full = || KindError::new(ErrorKind::NotEmpty, format!("\"{}\" is not empty", shown(name)));
        if request.is_directory && self.has_unsaved_at(&child.inode).await? {
            return Err(full());
        }
        let changing = self.freshness.changing(parent, name);
        let keeping = self.keeping(&mount, &directory)?;
        {
            let (key, is_directory) = (child.inode.store_key.clone(), request.is_directory);
            let gone = self.ask(&mount, CHANGE, move |store| async move {
                if is_directory { store.remove_directory(&key).await } else { store.delete(&key).await }
            });
            match gone.await {
                Ok(()) => {}
                // What was never saved need not be there, nor what it would have replaced.
                Err(error) if error.kind == ErrorKind::NotFound && child.inode.unsaved => {}
                Err(error) if error.kind == ErrorKind::NotFound => {
                    self.record_gone(parent, name).await?;
                    return Err(not_found(&format!("\"{}\" does not exist any more", shown(name))));
                }
                Err(error) => {
                    drop(changing);
                    // Something that the namespace did not know is there.
                    if error.kind == ErrorKind::NotEmpty {
                        let _ = self.compare_listing(&mount, child.id, &mut Changes::applied()).await;
                    }
                    return Err(error);
                }
            }
        }
        match self.record_gone(parent, name).await {
            // A file was created in it in this moment: it will be there again with that.
            Err(error) if error.kind == ErrorKind::Overloaded && request.is_directory => return Err(full()),
            recorded => recorded?,
        }
        self.keep_directory(&mount, parent).await;
        drop(keeping);
        Ok(())
    }

    fn removable(directory: &Found, child: &Found, name: &[u8], is_directory: bool) -> Result<(), KindError> {
        let wrong = |kind, what: &str| Err(KindError::new(kind, format!("\"{}\" {what}", shown(name))));
        match (child.inode.is_directory(), is_directory) {
            _ if child.inode.mount_id != directory.inode.mount_id => {
                wrong(ErrorKind::Busy, "is a mount's own directory")
            }
            (true, false) => wrong(ErrorKind::IsADirectory, "is a directory"),
            (false, true) => wrong(ErrorKind::NotADirectory, "is not a directory"),
            _ => Ok(()),
        }
    }

    /// What the names of a directory lead to, as far as it is known.
    pub(super) async fn children(&self, directory: FileId) -> Result<Vec<FileId>, KindError> {
        let look = move |partition: &Partition| {
            partition.entries_after(directory, &[]).map(|(_, entry)| entry.file_id).collect::<Vec<_>>()
        };
        self.cores.read(directory.partition(), look).await
    }

    /// Where a store knows a directory only by what is in it, it may be gone for a moment when it loses a name: no check counts then.
    pub(super) fn keeping(&self, mount: &MountState, directory: &Found) -> Result<Option<Changing<'_>>, KindError> {
        if directory.inode.store_key.is_empty() || Self::keeps_attributes(mount)? {
            return Ok(None);
        }
        let name = self.name_in(directory, mount);
        Ok(Some(self.freshness.changing(FileId(directory.inode.parent), &name)))
    }

    /// Gives a directory that lost its last name in such a store a mark of its own.
    pub(super) async fn keep_directory(&self, mount: &MountState, id: FileId) {
        let Ok(Some(found)) = self.inode(id).await else { return };
        if found.inode.store_key.is_empty() || Self::keeps_attributes(mount).unwrap_or(true) {
            return;
        }
        let Ok(ids) = self.children(id).await else { return };
        let Ok(children) = self.inodes(&ids).await else { return };
        if children.into_iter().flatten().any(|child| !child.inode.unsaved) {
            return;
        }
        let key = found.inode.store_key.clone();
        match self.ask(mount, CHANGE, move |store| async move { store.make_directory(&key).await }).await {
            Err(error) if error.kind != ErrorKind::Exists => {
                tracing::warn!(%error, "a directory that lost its last name may vanish from its store");
            }
            _ => {}
        }
    }

    /// Changes attributes: in the store if it keeps them, else in the namespace.
    pub(crate) async fn set_attr(self: &Arc<Self>, request: &SetAttr) -> Result<Attr, KindError> {
        let id = FileId(request.file_id);
        let gone = || not_found(&format!("file {id} does not exist any more"));
        let mount = self.changeable(&self.inode(id).await?.ok_or_else(gone)?)?;
        let _order = mount.order.read().await;
        let found = self.inode(id).await?.ok_or_else(gone)?;
        let parent = FileId(found.inode.parent);
        let mode = request.mode.map(|mode| mode & MODE_BITS);
        let (uid, gid, mtime_ms) = (request.uid, request.gid, request.mtime_ms);
        if found.inode.unsaved || !Self::keeps_attributes(&mount)? {
            let command = NewAttributes { file_id: id.0, mode, uid, gid, mtime_ms };
            match self.journal.propose(Command::SetAttributes(command)).await? {
                Outcome::Done { .. } => {}
                other => return Err(refused(other)),
            }
        } else {
            let name = self.name_in(&found, &mount);
            let _changing = self.freshness.changing(parent, &name);
            let key = found.inode.store_key.clone();
            let change = AttributeChange { mode, uid, gid, mtime_ms };
            let meta = self.ask(&mount, CHANGE, move |store| async move { store.set_attributes(&key, &change).await });
            let upsert = self.defaults.upsert(&name, id.0, &meta.await?);
            let now = self.record(parent, upsert).await?;
            self.sessions.rebase(id, &found.inode.fingerprint, &now.inode.fingerprint);
        }
        let found = self.inode(id).await?.ok_or_else(gone)?;
        Ok(found.attr(self.valid_ms(&mount, &found, parent)))
    }

    /// The name that leads to an inode.
    pub(super) fn name_in(&self, found: &Found, mount: &MountState) -> Vec<u8> {
        super::name_of(found, mount).into_bytes()
    }
}
