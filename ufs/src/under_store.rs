//! The trait that every under store implements, and what it promises.
//!
//! Keys are relative to the mount's URI, `/`-separated, without leading or trailing slash; the empty key is the mount's
//! root directory. Keys with empty, `.` or `..` components are refused with `Invalid` by every backend.
//! All methods may be called from any tokio task, concurrently. Each gives up by the backend's deadline with
//! `Unavailable`.

use crate::upload::{Upload, WriteMode};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint};
use futures::stream::BoxStream;
use std::{ops::Range, time::Duration};

/// What a key names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectKind {
    /// Bytes.
    File,
    /// A directory, or a common prefix of keys.
    Directory,
}

/// What the store says about one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectMeta {
    /// The last component of the key.
    pub name: String,
    /// File or directory.
    pub kind: ObjectKind,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Milliseconds since 1970; 0 where the store has none.
    pub mtime_ms: u64,
    /// Permission bits where the store has them.
    pub mode: Option<u32>,
    /// Owner and group where the store has them.
    pub owner: Option<(u32, u32)>,
    /// What a `Version` of this content stands for; empty for a directory.
    pub fingerprint: Fingerprint,
}

/// What to change of a file's or directory's attributes; `None` leaves it as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttributeChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Milliseconds since 1970.
    pub mtime_ms: Option<u64>,
}

/// Part of a listing, in the store's order, which need not be the order of names.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Direct children.
    pub entries: Vec<ObjectMeta>,
    /// Give it to the next call; `None` at the end.
    pub next: Option<String>,
}

/// Bytes in order, in pieces of the backend's choosing.
pub type ReadStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// What went wrong in a store.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{store}: {operation} \"{key}\": {message}")]
pub struct StoreError {
    /// What a caller can act on: `NotFound`, `Denied`, `Stale` (the condition failed: the content is another one),
    /// `Unavailable`, `Invalid`, `Exists`, `Unsupported`, `Corrupt` (the store sent too few or too many bytes), `Internal`,
    /// `NotEmpty`, `NotADirectory`, `IsADirectory`, `NoSpace`, `ReadOnly`, `Busy`.
    pub kind: ErrorKind,
    /// The mount's URI, without secrets.
    pub store: String,
    /// stat, list, read, put, upload, delete, make, remove, rename, change.
    pub operation: &'static str,
    /// The key.
    pub key: String,
    /// What the store said.
    pub message: String,
}

/// One under store, opened at a mount's URI.
#[async_trait]
pub trait UnderStore: Send + Sync {
    /// The URI, without secrets.
    fn uri(&self) -> &str;

    /// How long the store may stay silent: each method below ends by then, and each wait for a piece of a stream.
    fn deadline(&self) -> Duration;

    /// Whether the store answers, the bucket or directory exists, and the credentials are good. Changes nothing.
    async fn check(&self) -> Result<(), StoreError>;

    /// The object or directory at `key`. `NotFound` if there is neither. Where a store has both an object `a` and keys
    /// `a/...`, the object wins here and in listings. Sees every write acknowledged before the call.
    async fn stat(&self, key: &str) -> Result<ObjectMeta, StoreError>;

    /// A page of the direct children of `directory`; `NotFound` if it does not exist, `NotADirectory` if it is a file.
    /// Not atomic: changes during a paged listing may or may not be seen; each child present throughout appears once.
    async fn list(&self, directory: &str, after: Option<&str>) -> Result<ListPage, StoreError>;

    /// The bytes of `range`, which must lie inside the object, if and only if its content is still the one that
    /// `fingerprint` stands for; else `Stale`, before or instead of the end of the stream. A stream that ends without
    /// an error has delivered exactly `range`, all of it from that one content.
    async fn read(&self, key: &str, range: Range<u64>, fingerprint: &Fingerprint) -> Result<ReadStream, StoreError>;

    /// Creates or replaces an object; atomic, visible to every later call when it returns. With `create_only`, `Exists`
    /// if there is one already, decided by the store.
    async fn put(&self, key: &str, bytes: Bytes, create_only: bool) -> Result<ObjectMeta, StoreError>;

    /// Begins an object of `size` bytes, or of a size that is not known yet. Missing directories above it are made when it
    /// is finished. A store that takes none says `Unsupported`.
    async fn begin_upload(&self, key: &str, mode: WriteMode, size: Option<u64>) -> Result<Box<dyn Upload>, StoreError> {
        let _ = (mode, size);
        Err(self.takes_no_uploads("upload", key))
    }

    /// Removes what an upload left that ended with its process; whether there was something. An error while that cannot be
    /// known.
    async fn remove_leftover(&self, leftover: &str) -> Result<bool, StoreError> {
        Err(self.takes_no_uploads("clean up", leftover))
    }

    /// The most memory that an upload of `size` bytes holds, beside the piece that it is given.
    fn upload_memory_bytes(&self, size: Option<u64>) -> u64 {
        size.unwrap_or(0)
    }

    /// The error of a store without uploads.
    #[doc(hidden)]
    fn takes_no_uploads(&self, operation: &'static str, key: &str) -> StoreError {
        self.unsupported(operation, key, "this store takes no uploads")
    }

    /// The error of a store that cannot do something.
    #[doc(hidden)]
    fn unsupported(&self, operation: &'static str, key: &str, message: &str) -> StoreError {
        let (store, message) = (self.uri().to_string(), message.to_string());
        StoreError { kind: ErrorKind::Unsupported, store, operation, key: key.to_string(), message }
    }

    /// Removes an object, durably. `NotFound` if there is none, `IsADirectory` if it is a directory.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Makes an empty directory, durably: `stat` and `list` show it from now on, also if nothing is ever put into it.
    /// `Exists` if the name is taken, by a file or a directory. `NotFound` if the directory above is missing and the store
    /// has directories of its own (local); an object store does not look at it, and two that make the same directory at
    /// once may both succeed there.
    async fn make_directory(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        Err(self.unsupported("make", key, "this store makes no directories"))
    }

    /// Removes an empty directory, durably. `NotEmpty`, `NotADirectory`, `NotFound`. On an object store, where a
    /// directory is what keys begin with, one without a marker of its own ends with its last object, and what
    /// others put into it while it is removed stays, and so does it.
    async fn remove_directory(&self, key: &str) -> Result<(), StoreError> {
        Err(self.unsupported("remove", key, "this store removes no directories"))
    }

    /// Gives a file, or a directory with all that is below it, another name, durably, by the rules of rename(2): a file
    /// replaces a file, a directory an empty directory. `NotFound` if `from` or the directory above `to` is missing,
    /// `Exists` if `to` is taken and not `replace`, `IsADirectory` for a file onto a directory, `NotADirectory` for a
    /// directory onto a file, `NotEmpty`, `Invalid` for a directory into itself, `Unsupported` where the store's file
    /// system ends in between. What it returns is the attributes under the new name; the fingerprint may be another one.
    ///
    /// Local: atomic. Object stores: objects are copied, then deleted, so a reader may see both names, or a
    /// part of a directory's objects under the new one, meanwhile; it takes as long as copying does, only single requests have the
    /// deadline. Nothing below `from` is deleted before all of it is under `to`. If it fails, or the process ends, the same
    /// call again goes on where it was, whatever `replace` says. `Stale`: objects below `from` kept changing meanwhile; those that changed stay.
    async fn rename(&self, from: &str, to: &str, replace: bool) -> Result<ObjectMeta, StoreError> {
        let _ = to;
        let _ = replace;
        Err(self.unsupported("rename", from, "this store gives no other names"))
    }

    /// Whether the store keeps modes, owners and times of modification that `set_attributes` sets.
    fn keeps_attributes(&self) -> bool {
        false
    }

    /// Changes attributes of a file or directory, durably; the fingerprint may be another one afterwards. `NotFound`,
    /// `Denied` (giving a file away needs rights), `Unsupported` unless `keeps_attributes`.
    async fn set_attributes(&self, key: &str, change: &AttributeChange) -> Result<ObjectMeta, StoreError> {
        let _ = change;
        Err(self.unsupported("change", key, "this store keeps no attributes"))
    }
}
