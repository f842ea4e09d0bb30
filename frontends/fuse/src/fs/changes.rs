//! Changes of names and attributes: the store is changed before the kernel hears of it.
//!
//! Invariant: what this mount remembers of a directory is forgotten when the answer comes, whatever it is: a change that failed
//! may have happened all the same.

use super::forebay::Forebay;
use super::node_table::{Node, node_attr};
use super::writing::Writing;
use crate::handler::{AttrChange, Caller, Entry, Errno, NodeAttr, SetTime};
use forebay_base::{FileId, limits, unix_now_ms};
use forebay_client::message::change::{MakeDirectory, RENAME_NOREPLACE, Remove, Rename, SetAttr};
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;

const S_ISGID: u32 = 0o2000;
/// Permission bits of a mode.
pub(super) const MODE_BITS: u32 = 0o7777;

pub(super) fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > limits::NAME_BYTES_MAX { Err(Errno::NAMETOOLONG) } else { Ok(()) }
}

impl Forebay {
    pub(super) fn directory(&self, id: u64) -> Result<Node, Errno> {
        let node = self.node(id)?;
        if node.is_directory() { Ok(node) } else { Err(Errno::NOTDIR) }
    }

    /// Owner and group of what is made in a directory.
    pub(super) fn owner(directory: &Node, caller: Caller) -> (u32, u32) {
        (caller.uid, if directory.attr.mode & S_ISGID == 0 { caller.gid } else { directory.attr.gid })
    }

    /// What is remembered of a directory is not so any more.
    pub(super) fn forget_names(&self, directory: &Node) {
        self.names.forget(directory.file_id);
    }

    pub(super) async fn make_directory(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        caller: Caller,
    ) -> Result<Entry, Errno> {
        check_name(name)?;
        let directory = self.directory(parent)?;
        let (uid, gid) = Self::owner(&directory, caller);
        let mode = mode & MODE_BITS | directory.attr.mode & S_ISGID;
        let asked = Instant::now();
        let request = MakeDirectory { parent: directory.file_id.0, name: name.to_vec(), mode, uid, gid };
        let made = self.client.master(&request).await;
        self.forget_names(&directory);
        let attr = made.map_err(|error| self.failed("mkdir in it", parent, &error))?;
        Ok(self.entry(parent, name, &attr, asked))
    }

    /// What has this name, if it can matter: when any file is being changed.
    async fn at(&self, directory: &Node, name: &[u8]) -> Option<Attr> {
        if self.writers.count() == 0 {
            return None;
        }
        self.client.lookup(directory.file_id, name).await.ok()
    }

    pub(super) async fn remove_name(&self, parent: u64, name: &[u8], is_directory: bool) -> Result<(), Errno> {
        check_name(name)?;
        let directory = self.directory(parent)?;
        let attr = if is_directory { None } else { self.at(&directory, name).await };
        let writing = attr.and_then(|attr| self.writers.get(FileId(attr.file_id)));
        let _turns = turns(writing.iter().cloned().collect()).await;
        let request = Remove { parent: directory.file_id.0, name: name.to_vec(), is_directory };
        let removed = self.client.master(&request).await;
        self.forget_names(&directory);
        removed.map_err(|error| self.failed("removing a name in it", parent, &error))?;
        if let Some(writing) = writing {
            writing.set_removed();
        }
        Ok(())
    }

    pub(super) async fn rename_name(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        check_name(name)?;
        check_name(new_name)?;
        if flags & !RENAME_NOREPLACE != 0 {
            return Err(Errno::INVAL);
        }
        let (directory, new_directory) = (self.directory(parent)?, self.directory(new_parent)?);
        let moved = self.at(&directory, name).await;
        let replaced = self.at(&new_directory, new_name).await;
        let replaced = replaced.and_then(|attr| self.writers.get(FileId(attr.file_id)));
        let mut concerned = match &moved {
            // What lies below it gets other keys too.
            Some(attr) if attr.kind == KIND_DIRECTORY => self.writers.all(),
            Some(attr) => self.writers.get(FileId(attr.file_id)).into_iter().collect(),
            None => Vec::new(),
        };
        concerned.extend(replaced.clone());
        let _turns = turns(concerned).await;
        let request = Rename {
            parent: directory.file_id.0,
            name: name.to_vec(),
            new_parent: new_directory.file_id.0,
            new_name: new_name.to_vec(),
            flags,
        };
        let renamed = self.client.master(&request).await;
        self.forget_names(&directory);
        self.forget_names(&new_directory);
        // Rights to read name the key.
        self.grants.forget_all();
        let attr = renamed.map_err(|error| self.failed("renaming in it", parent, &error))?;
        self.writers.set_changed(FileId(attr.file_id));
        match replaced {
            Some(writing) if writing.file_id.0 != attr.file_id => writing.set_removed(),
            _ => {}
        }
        Ok(())
    }

    /// Changes attributes of what has no session.
    pub(super) async fn set_attr_of_version(
        &self,
        id: u64,
        node: &Node,
        change: &AttrChange,
    ) -> Result<(NodeAttr, Duration), Errno> {
        let mtime_ms = change.mtime.map(ms_of);
        let AttrChange { mode, uid, gid, .. } = *change;
        if mode.or(uid).or(gid).is_none() && mtime_ms.is_none() {
            return Ok((node.attr, Duration::ZERO));
        }
        let asked = Instant::now();
        let request = SetAttr { file_id: node.file_id.0, mode, uid, gid, mtime_ms };
        let set = self.client.master(&request).await;
        self.writers.set_changed(node.file_id);
        if let Some(parent) = self.nodes.with(node.parent, |parent| parent.file_id) {
            self.names.forget(parent);
        }
        let attr = set.map_err(|error| self.failed("setting attributes", id, &error))?;
        // Some stores count it as a new content: the kernel looks the name up again then.
        self.nodes.refresh(id, &attr, asked);
        Ok((node_attr(&attr), Duration::ZERO))
    }
}

/// The time that utimens(2) means, in milliseconds since 1970.
pub(super) fn ms_of(time: SetTime) -> u64 {
    match time {
        SetTime::Now => unix_now_ms(),
        SetTime::Ms(ms) => ms,
    }
}

/// No save of any of them runs while this is held.
async fn turns(mut writings: Vec<Arc<Writing>>) -> Vec<OwnedMutexGuard<()>> {
    writings.sort_by_key(|writing| writing.file_id);
    writings.dedup_by_key(|writing| writing.file_id);
    let mut turns = Vec::with_capacity(writings.len());
    for writing in writings {
        turns.push(writing.turn.clone().lock_owned().await);
    }
    turns
}
