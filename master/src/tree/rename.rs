//! Another name for a file or directory of the same mount: the store first, then the journal. What lies below a directory gets its
//! new keys in parts afterwards, by the next master if this one dies; until then no check below it counts (`Moving`), and
//! nothing else changes in that mount (`MountState::order`).

use super::sync::TRIES;
use super::{Found, Tree, not_found, shown};
use crate::metrics::CHANGE;
use crate::mount_state::MountState;
use crate::mounts::refused;
use crate::namespace::{Command, Move, NewKey, Outcome, Removal};
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_net::message::change::{RENAME_NOREPLACE, Rename};
use forebay_net::message::namespace::Attr;
use std::sync::Arc;
use std::time::Instant;

/// Most keys in one command.
const KEYS_MAX: usize = 1000;

impl Tree {
    /// Gives something another name.
    pub(crate) async fn rename(self: &Arc<Self>, request: &Rename) -> Result<Attr, KindError> {
        let (parent, new_parent) = (FileId(request.parent), FileId(request.new_parent));
        let (name, new_name) = (&request.name, &request.new_name);
        let wrong = |kind, message: String| KindError::new(kind, message);
        if request.flags & !RENAME_NOREPLACE != 0 {
            return Err(wrong(ErrorKind::Unsupported, format!("rename: flags {:#x} are not offered", request.flags)));
        }
        let mount = self.changeable(&self.directory(parent).await?)?;
        self.changeable(&self.directory(new_parent).await?)?;
        let peek = self.known_or_asked(&mount, parent, name).await?.1;
        // Whoever moves a directory is alone: keys below it change.
        let is_alone = peek.is_some_and(|found| found.inode.is_directory());
        let _alone = if is_alone { Some(mount.order.write().await) } else { None };
        let _together = if is_alone { None } else { Some(mount.order.read().await) };
        let (from, to) = (self.directory(parent).await?, self.directory(new_parent).await?);
        if from.inode.mount_id != to.inode.mount_id {
            return Err(wrong(ErrorKind::OtherMount, format!("\"{}\" lies in another mount", shown(new_name))));
        }
        let to_key = Self::new_key(&to, new_name)?;
        let source = self.known_or_asked(&mount, parent, name).await?.1;
        let source = source.ok_or_else(|| not_found(&format!("\"{}\" does not exist", shown(name))))?;
        if source.inode.mount_id != from.inode.mount_id {
            return Err(wrong(ErrorKind::Busy, format!("\"{}\" is a mount's own directory", shown(name))));
        }
        let target = self.known_or_asked(&mount, new_parent, new_name).await?.1;
        if target.as_ref().is_some_and(|target| target.id == source.id) {
            return Ok(source.attr(0));
        }
        if source.inode.is_directory() && !is_alone {
            let message = format!("\"{}\" was replaced meanwhile, try again", shown(name));
            return Err(wrong(ErrorKind::Busy, message));
        }
        self.check_rename(&source, target.as_ref(), &to_key, request).await?;
        let changing = (self.freshness.changing(parent, name), self.freshness.changing(new_parent, new_name));
        let moving = source.inode.is_directory().then(|| mount.moving(&source.inode.store_key, &to_key));
        let keeping = self.keeping(&mount, &from)?;
        let (mut fingerprint, mut same_content) = (source.inode.fingerprint.clone(), true);
        if source.inode.unsaved && !fingerprint.is_empty() {
            // Its old name goes with what it would have replaced there.
            let key = source.inode.store_key.clone();
            match self.ask(&mount, CHANGE, move |store| async move { store.delete(&key).await }).await {
                Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
                _ => self.sessions.saved(source.id, ""),
            }
        }
        if !source.inode.unsaved {
            let (from_key, replace) = (source.inode.store_key.clone(), request.flags & RENAME_NOREPLACE == 0);
            let keeps_attributes = Self::keeps_attributes(&mount)?;
            let key = to_key.clone();
            let renamed =
                self.ask(&mount, CHANGE, move |store| async move { store.rename(&from_key, &key, replace).await });
            let meta = match renamed.await {
                Ok(meta) => meta,
                Err(error) => {
                    drop((changing, moving));
                    return Err(self.rename_failed(&mount, &from, &to, request, error).await);
                }
            };
            if !source.inode.is_directory() {
                // An object store copies what the condition named; elsewhere only an equal mark says that it is the same.
                same_content = !keeps_attributes || meta.fingerprint.0 == fingerprint;
                fingerprint = meta.fingerprint.0;
            }
        }
        let old_fingerprint = source.inode.fingerprint.clone();
        self.record_move(request, &source, target.as_ref(), fingerprint, same_content).await?;
        if moving.is_some() {
            self.set_keys_below(source.id, &source.inode.store_key, &to_key).await?;
        }
        drop(moving);
        self.freshness.set_asked(source.id, Instant::now());
        drop(changing);
        self.keep_directory(&mount, parent).await;
        drop(keeping);
        let gone = || not_found(&format!("\"{}\" is gone already", shown(new_name)));
        let found = self.inode(source.id).await?.ok_or_else(gone)?;
        self.sessions.rebase(source.id, &old_fingerprint, &found.inode.fingerprint);
        Ok(found.attr(self.valid_ms(&mount, &found, new_parent)))
    }

    /// What rename(2) refuses.
    async fn check_rename(
        &self,
        source: &Found,
        target: Option<&Found>,
        to_key: &str,
        request: &Rename,
    ) -> Result<(), KindError> {
        let new_name = shown(&request.new_name);
        let wrong = |kind, what: &str| Err(KindError::new(kind, format!("\"{new_name}\" {what}")));
        if source.inode.is_directory() && to_key.starts_with(&format!("{}/", source.inode.store_key)) {
            return wrong(ErrorKind::Invalid, "lies inside of what is renamed");
        }
        let Some(target) = target else { return Ok(()) };
        if request.flags & RENAME_NOREPLACE != 0 {
            return wrong(ErrorKind::Exists, "exists already");
        }
        if target.inode.mount_id != source.inode.mount_id {
            return wrong(ErrorKind::Busy, "is a mount's own directory");
        }
        match (source.inode.is_directory(), target.inode.is_directory()) {
            (false, true) => wrong(ErrorKind::IsADirectory, "is a directory"),
            (true, false) => wrong(ErrorKind::NotADirectory, "is not a directory"),
            (true, true) if self.has_unsaved_at(&target.inode).await? => wrong(ErrorKind::NotEmpty, "is not empty"),
            _ => Ok(()),
        }
    }

    /// The store refused: what the namespace did not know is looked at.
    async fn rename_failed(
        &self,
        mount: &MountState,
        from: &Found,
        to: &Found,
        request: &Rename,
        error: KindError,
    ) -> KindError {
        for (directory, name) in [(from, &request.name), (to, &request.new_name)] {
            let mut changes = super::refresh::Changes::applied();
            if let Err(error) = self.compare_name(mount, directory.id, name.clone(), &mut changes).await {
                tracing::debug!(%error, "a name could not be looked at after a rename that failed");
            }
        }
        error
    }

    /// The target is what was looked at; the store's rename has replaced what came there since, as long as it is of the same kind.
    async fn record_move(
        &self,
        request: &Rename,
        source: &Found,
        target: Option<&Found>,
        fingerprint: String,
        same_content: bool,
    ) -> Result<(), KindError> {
        let mut replaced = target.map_or(0, |target| target.id.0);
        for _ in 0..TRIES {
            let moved = Move {
                from: Removal { parent: request.parent, name: request.name.clone(), expected: source.id.0 },
                directory: request.new_parent,
                name: request.new_name.clone(),
                replaced,
                fingerprint: fingerprint.clone(),
                same_content,
            };
            match self.journal.propose(Command::Move(moved)).await? {
                Outcome::Done { .. } => return Ok(()),
                Outcome::Retry => {}
                other => return Err(refused(other)),
            }
            let known = self.name(FileId(request.parent), &request.name).await?.1;
            if known.is_none_or(|known| known.id != source.id) {
                // The store has it under its new name; the namespace will find it there.
                return Err(not_found(&format!("\"{}\" was changed meanwhile", shown(&request.name))));
            }
            let target = self.name(FileId(request.new_parent), &request.new_name).await?.1;
            let is_in_the_way = target.as_ref().is_some_and(|target| {
                let other_kind = target.inode.kind != source.inode.kind;
                other_kind || (target.inode.unsaved && request.flags & RENAME_NOREPLACE != 0)
            });
            if is_in_the_way {
                let message = format!("\"{}\" was made meanwhile", shown(&request.new_name));
                return Err(KindError::new(ErrorKind::Exists, message));
            }
            replaced = target.map_or(0, |target| target.id.0);
        }
        Err(KindError::new(ErrorKind::Overloaded, "too many changes at once".to_string()))
    }

    /// Finishes what a master that died left of renamed directories.
    pub(crate) async fn finish_moves(&self) -> Result<(), KindError> {
        let look = |partition: &crate::namespace::Partition| {
            let moving = partition.moving().map(|(id, old, new)| (id, old.to_string(), new.to_string()));
            moving.collect::<Vec<_>>()
        };
        for (id, old, new) in self.cores.read_all(look).await?.into_iter().flatten() {
            tracing::info!("the renaming of a directory from \"{old}\" to \"{new}\" is finished");
            self.set_keys_below(id, &old, &new).await?;
        }
        Ok(())
    }

    /// Gives all that is known below a directory the keys that follow from its new one, the upper ones first.
    async fn set_keys_below(&self, directory: FileId, old: &str, new: &str) -> Result<(), KindError> {
        let (directory_moved, mut level) = (directory, vec![directory]);
        while !level.is_empty() {
            let mut below = Vec::new();
            for directory in std::mem::take(&mut level) {
                for ids in self.children(directory).await?.chunks(KEYS_MAX) {
                    let mut keys = Vec::new();
                    for found in self.inodes(ids).await?.into_iter().flatten() {
                        if found.inode.is_directory() {
                            below.push(found.id);
                        }
                        let Some(rest) = found.inode.store_key.strip_prefix(old).filter(|rest| rest.starts_with('/'))
                        else {
                            continue;
                        };
                        let new = format!("{new}{rest}");
                        keys.push(NewKey { file_id: found.id.0, old: found.inode.store_key, new });
                    }
                    if keys.is_empty() {
                        continue;
                    }
                    match self.journal.propose(Command::SetKeys(keys)).await? {
                        Outcome::Done { .. } => {}
                        other => return Err(refused(other)),
                    }
                }
            }
            level = below;
        }
        match self.journal.propose(Command::KeysSet { directory: directory_moved.0 }).await? {
            Outcome::Done { .. } => Ok(()),
            other => Err(refused(other)),
        }
    }
}
