//! What a partition keeps of one file or directory, and of one name. Pure data; the rkyv form is the value in RocksDB.

use forebay_base::FileId;
use forebay_net::message::namespace::KIND_DIRECTORY;
use rkyv::{Archive, Deserialize, Serialize};

/// A file or directory. Lives for ever in the partition that its `FileId` names.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Inode {
    /// `FileId` of the directory that names it; 0 for the root.
    pub(crate) parent: u64,
    /// `MountId`; 0 above all mounts.
    pub(crate) mount_id: u32,
    /// `KIND_FILE` or `KIND_DIRECTORY`.
    pub(crate) kind: u8,
    /// A directory whose complete listing is in the namespace.
    pub(crate) listed: bool,
    /// A directory that no name leads to any more; its subtree is being removed.
    pub(crate) detached: bool,
    /// A file that its store does not have yet. Its `fingerprint` is of what it replaces there, if anything.
    pub(crate) unsaved: bool,
    /// `mtime_ms` was set by a program and the store does not keep it.
    pub(crate) own_mtime: bool,
    /// Live `Version`; 0 for a directory.
    pub(crate) version: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Milliseconds since 1970.
    pub(crate) mtime_ms: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// The key in the mount's store, relative to its URI; empty for a mount's root.
    pub(crate) store_key: String,
    /// The store's fingerprint that `version` stands for.
    pub(crate) fingerprint: String,
}

impl Inode {
    /// Whether it is a directory.
    #[must_use]
    pub(crate) fn is_directory(&self) -> bool {
        self.kind == KIND_DIRECTORY
    }

    /// The store key of the child `name`; `None` where the name cannot be part of a key.
    #[must_use]
    pub(crate) fn child_key(&self, name: &[u8]) -> Option<String> {
        let name = std::str::from_utf8(name).ok()?;
        Some(if self.store_key.is_empty() { name.to_string() } else { format!("{}/{name}", self.store_key) })
    }
}

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dentry {
    /// The inode.
    pub(crate) file_id: FileId,
    /// `KIND_FILE` or `KIND_DIRECTORY`.
    pub(crate) kind: u8,
}
