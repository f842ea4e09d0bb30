//! A directory of this host (also one that the kernel mounts from elsewhere, such as NFS) as an under store.
//!
//! Runs on tokio's blocking threads, at most `concurrency` of them per mount. Every path is resolved by the kernel
//! beneath the mount's directory, so that no symbolic link leads out of it, whoever changes links meanwhile.
//! What is neither a file nor a directory, names that are not UTF-8, and links that lead out are not there.

mod attributes;
mod beneath;
mod change;
mod directory;
mod read;
mod upload;
mod write;

use crate::{
    failure::Failure,
    gate::Gate,
    key::{check_file_key, check_key, check_new_key, check_own_key, last_name},
    options::StoreLimits,
    under_store::{AttributeChange, ListPage, ObjectKind, ObjectMeta, ReadStream, StoreError, UnderStore},
    upload::{Upload, WriteMode},
};
use async_trait::async_trait;
use beneath::{Root, meta_of};
use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint};
use std::{ops::Range, path::PathBuf, sync::Arc, time::Duration};

pub(crate) struct LocalStore {
    uri: String,
    root: Arc<Root>,
    gate: Arc<Gate>,
}

impl LocalStore {
    pub(crate) fn new(uri: String, directory: PathBuf, limits: StoreLimits) -> Self {
        LocalStore { uri, root: Arc::new(Root::new(directory)), gate: Arc::new(Gate::new(limits)) }
    }

    /// Runs `work` on a blocking thread within the deadline and names what failed.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Root, &str) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let deadline = self.gate.deadline();
        let root = Arc::clone(&self.root);
        let owned = key.to_string();
        let result = async {
            let permit = self.gate.enter(deadline).await?;
            self.gate.blocking(deadline, permit, move || work(&root, &owned)).await
        };
        result.await.map_err(|failure| failure.at(&self.uri, operation, key))
    }

    fn checked(&self, operation: &'static str, key: &str, check: Result<(), Failure>) -> Result<(), StoreError> {
        check.map_err(|failure| failure.at(&self.uri, operation, key))
    }
}

#[async_trait]
impl UnderStore for LocalStore {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn deadline(&self) -> Duration {
        self.gate.limits().deadline
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.run("check", "", |root, _| root.check()).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.checked("stat", key, check_key(key))?;
        self.run("stat", key, |root, key| {
            if write::is_temporary(last_name(key)) {
                return Err(Failure::new(ErrorKind::NotFound, "no such file or directory"));
            }
            let stat = root.stat(key)?;
            meta_of(last_name(key), &stat)
                .ok_or_else(|| Failure::new(ErrorKind::NotFound, "neither a file nor a directory"))
        })
        .await
    }

    async fn list(&self, directory: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.checked("list", directory, check_key(directory))?;
        let after = after.map(str::to_string);
        self.run("list", directory, move |root, key| directory::list(root, key, after.as_deref())).await
    }

    async fn read(&self, key: &str, range: Range<u64>, fingerprint: &Fingerprint) -> Result<ReadStream, StoreError> {
        self.checked("read", key, check_file_key(key))?;
        let gate = Arc::clone(&self.gate);
        let opened = read::open(gate, Arc::clone(&self.root), key.to_string(), range, fingerprint.clone()).await;
        let reading = opened.map_err(|failure| failure.at(&self.uri, "read", key))?;
        Ok(read::stream(reading, self.uri.clone(), key.to_string()))
    }

    async fn put(&self, key: &str, bytes: Bytes, create_only: bool) -> Result<ObjectMeta, StoreError> {
        self.checked("put", key, check_file_key(key))?;
        self.run("put", key, move |root, key| {
            let stat = write::put(root, key, &bytes, create_only)?;
            meta_of(last_name(key), &stat)
                .filter(|meta| meta.kind == ObjectKind::File)
                .ok_or_else(|| Failure::new(ErrorKind::Internal, "what was written is not a file"))
        })
        .await
    }

    async fn begin_upload(&self, key: &str, mode: WriteMode, size: Option<u64>) -> Result<Box<dyn Upload>, StoreError> {
        self.checked("upload", key, check_file_key(key))?;
        let begun = mode.clone();
        let temporary = self.run("upload", key, move |root, key| upload::begin(root, key, &begun)).await?;
        let (uri, root, gate) = (self.uri.clone(), Arc::clone(&self.root), Arc::clone(&self.gate));
        Ok(Box::new(upload::LocalUpload::new(uri, root, gate, key.to_string(), mode, size, temporary)))
    }

    async fn remove_leftover(&self, leftover: &str) -> Result<bool, StoreError> {
        self.checked("clean up", leftover, check_file_key(leftover))?;
        self.run("clean up", leftover, write::remove_temporary).await
    }

    fn upload_memory_bytes(&self, _size: Option<u64>) -> u64 {
        // The pieces themselves, no more.
        0
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.checked("delete", key, check_file_key(key))?;
        self.run("delete", key, write::delete).await
    }

    async fn make_directory(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.checked("make", key, check_new_key(key))?;
        self.run("make", key, change::make_directory).await
    }

    async fn remove_directory(&self, key: &str) -> Result<(), StoreError> {
        self.checked("remove", key, check_own_key(key))?;
        self.run("remove", key, change::remove_directory).await
    }

    async fn rename(&self, from: &str, to: &str, replace: bool) -> Result<ObjectMeta, StoreError> {
        self.checked("rename", from, check_own_key(from))?;
        self.checked("rename", to, check_own_key(to))?;
        let to = to.to_string();
        self.run("rename", from, move |root, from| change::rename(root, from, &to, replace)).await
    }

    fn keeps_attributes(&self) -> bool {
        true
    }

    async fn set_attributes(&self, key: &str, change: &AttributeChange) -> Result<ObjectMeta, StoreError> {
        self.checked("change", key, check_key(key))?;
        let change = *change;
        self.run("change", key, move |root, key| attributes::set(root, key, &change)).await
    }
}
