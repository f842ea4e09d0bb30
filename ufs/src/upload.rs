//! Writing an object piece by piece, and what every backend promises of that.

use crate::under_store::{ObjectMeta, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_base::Fingerprint;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Whether an upload may replace what is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// What has the key when the upload is finished is replaced.
    Replace,
    /// `Exists` if there is something then, decided by the store.
    CreateOnly,
    /// `Stale` unless what has the key then is this content: nothing is left of the upload.
    ///
    /// Object stores decide it (`If-Match`); one that ignores that condition is asked just before, and so is a local
    /// store: whoever replaces the content between that look and the next request (local: the rename after it, microseconds) is replaced.
    ReplaceOnly(Fingerprint),
}

/// An object on its way into a store. Nobody sees any of it before `finish`; then all of it is there, at once.
///
/// Dropped before its end it is given up, and what the store holds of it is removed in the background; drop it inside
/// a tokio runtime. After an error it can only be given up.
#[async_trait]
pub trait Upload: Send {
    /// Adds bytes behind those that came before. Waits while the store has too much to do; what is held in memory is
    /// bounded by `UnderStore::upload_memory_bytes`. `Invalid` for more than were announced, `Unsupported` for more than
    /// the store takes of a file whose size was not.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// All bytes are there: the object appears under its key, whole and durable. `Invalid` if the size that was announced
    /// is another one, `Exists` or `Stale` if it may not replace what is there: nothing is left of it then. After `Unavailable` it
    /// is not known whether the object appeared.
    async fn finish(self: Box<Self>) -> Result<ObjectMeta, StoreError>;

    /// From now on `finish` looks at `gone` just before the object would appear, and says `Closed` instead if it is set:
    /// whoever asked for it may have written the same name anew meanwhile.
    fn unless(&mut self, gone: Arc<AtomicBool>);

    /// Gives it up, and returns when nothing is left of it.
    async fn abort(self: Box<Self>) -> Result<(), StoreError>;

    /// What a crash would leave in the store, for `UnderStore::remove_leftover`; `None` while that is nothing. It may
    /// change with each `write`.
    fn leftover(&self) -> Option<String>;
}
