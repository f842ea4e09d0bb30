//! Another name for a file or directory of the same mount: the store first, then the journal. What lies below a directory gets its
//! new keys in parts afterwards; until then no check of that mount counts (`Moving`). A crash in between leaves old keys, which
//! the next look at the store finds gone: the names are then read anew.

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
        let (from, to) = (self.directory(parent).await?, self.directory(new_parent).await?);
        let mount = self.changeable(&from)?;
        self.changeable(&to)?;
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
        self.check_rename(&source, target.as_ref(), &to_key, request).await?;
        let changing = (self.freshness.changing(parent, name), self.freshness.changing(new_parent, new_name));
        let (mut fingerprint, mut same_content) = (source.inode.fingerprint.clone(), true);
        if !source.inode.unsaved {
            let (from_key, replace) = (source.inode.store_key.clone(), request.flags & RENAME_NOREPLACE == 0);
            let keeps_attributes = Self::keeps_attributes(&mount)?;
            let key = to_key.clone();
            let renamed =
                self.ask(&mount, CHANGE, move |store| async move { store.rename(&from_key, &key, replace).await });
            let meta = match renamed.await {
                Ok(meta) => meta,
                Err(error) => {
                    drop(changing);
                    return Err(self.rename_failed(&mount, &from, &to, request, error).await);
                }
            };
            if !source.inode.is_directory() {
                // An object store copies what the condition named; elsewhere only an equal mark says that it is the same.
                same_content = !keeps_attributes || meta.fingerprint.0 == fingerprint;
                fingerprint = meta.fingerprint.0;
            }
        }
        let moving = source.inode.is_directory().then(|| mount.moving());
        self.record_move(request, source.id, fingerprint, same_content).await?;
        if moving.is_some() {
            self.set_keys_below(source.id, &source.inode.store_key, &to_key).await?;
        }
        drop(moving);
        self.freshness.set_asked(source.id, Instant::now());
        drop(changing);
        self.keep_directory(&mount, parent).await;
        let gone = || not_found(&format!("\"{}\" is gone already", shown(new_name)));
        let found = self.inode(source.id).await?.ok_or_else(gone)?;
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
            (true, true) => {
                let children = self.children(target.id).await?;
                let is_unsaved = |found: Option<Found>| found.is_some_and(|found| found.inode.unsaved);
                if self.inodes(&children).await?.into_iter().any(is_unsaved) {
                    return wrong(ErrorKind::NotEmpty, "is not empty");
                }
                Ok(())
            }
            (false, false) => Ok(()),
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

    async fn record_move(
        &self,
        request: &Rename,
        id: FileId,
        fingerprint: String,
        same_content: bool,
    ) -> Result<(), KindError> {
        let new_parent = FileId(request.new_parent);
        for _ in 0..TRIES {
            let replaced = self.name(new_parent, &request.new_name).await?.1.map_or(0, |found| found.id.0);
            let moved = Move {
                from: Removal { parent: request.parent, name: request.name.clone(), expected: id.0 },
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
            if known.is_none_or(|known| known.id != id) {
                // The store has it under its new name; the namespace will find it there.
                return Err(not_found(&format!("\"{}\" was changed meanwhile", shown(&request.name))));
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, "too many changes at once".to_string()))
    }

    /// Gives all that is known below a directory the keys that follow from its new one, the upper ones first.
    async fn set_keys_below(&self, directory: FileId, old: &str, new: &str) -> Result<(), KindError> {
        let mut level = vec![directory];
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
        Ok(())
    }
}
