//! S3 and what speaks its protocol as an under store. Runs on tokio; shared by all tasks of the process.
//!
//! Directories are common prefixes. An object whose key ends in a slash marks a directory and is no child of it.
//! `list` of a name that is both an object and a prefix lists the keys under the prefix.

mod client;
mod condition;
pub(crate) mod config;
mod copy;
mod credentials;
mod directory;
mod failure;
mod listing;
mod object;
mod read;
mod rename;
#[cfg(test)]
mod rename_tests;
mod upload;

use crate::{
    failure::Failure,
    gate::Gate,
    key::{check_file_key, check_key, check_new_key, check_own_key, last_name},
    options::StoreLimits,
    under_store::{ListPage, ObjectKind, ObjectMeta, ReadStream, StoreError, UnderStore},
    upload::{Upload, WriteMode},
};
use async_trait::async_trait;
use bytes::Bytes;
use client::{Call, Client, Trouble};
use config::S3Config;
use forebay_base::{ErrorKind, Fingerprint};
use http::{Method, StatusCode};
use object::{Facts, directory_meta};
use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::time::Instant;

pub(crate) struct S3Store {
    uri: String,
    inner: Arc<S3Inner>,
}

struct S3Inner {
    client: Client,
    gate: Gate,
    prefix: String,
    recheck: bool,
    /// How many bytes are copied at once, and in parts of how many beyond that.
    copy_bytes: (u64, u64),
}

impl S3Store {
    pub(crate) fn new(uri: String, mut config: S3Config, limits: StoreLimits) -> Result<Self, Failure> {
        let prefix = std::mem::take(&mut config.prefix);
        let recheck = config.recheck;
        let client = Client::new(config, limits.deadline)?;
        let inner = S3Inner { client, gate: Gate::new(limits), prefix, recheck, copy_bytes: copy::BYTES };
        Ok(S3Store { uri, inner: Arc::new(inner) })
    }

    fn named<T>(&self, result: Result<T, Failure>, operation: &'static str, key: &str) -> Result<T, StoreError> {
        result.map_err(|failure| failure.at(&self.uri, operation, key))
    }
}

impl S3Inner {
    /// The key in the bucket.
    fn full_key(&self, key: &str) -> String {
        match (self.prefix.as_str(), key) {
            ("", key) => key.to_string(),
            (prefix, "") => prefix.to_string(),
            (prefix, key) => format!("{prefix}/{key}"),
        }
    }

    /// What the keys beneath a directory begin with.
    fn directory_prefix(&self, key: &str) -> String {
        let full = self.full_key(key);
        if full.is_empty() { full } else { full + "/" }
    }

    async fn head(&self, full_key: &str, deadline: Instant) -> Result<Facts, Trouble> {
        let response = self.client.send(&Call::new(Method::HEAD, full_key), &self.gate, deadline).await?;
        Facts::of_headers(response.headers(), None).map_err(Trouble::Failed)
    }

    async fn head_if_there(&self, full_key: &str, deadline: Instant) -> Result<Option<Facts>, Failure> {
        match self.head(full_key, deadline).await {
            Ok(facts) => Ok(Some(facts)),
            Err(Trouble::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(trouble) => Err(trouble.into()),
        }
    }

    async fn page(
        &self,
        prefix: &str,
        max_keys: &str,
        after: Option<&str>,
        deadline: Instant,
    ) -> Result<listing::Page, Failure> {
        self.keys(&[("delimiter", "/"), ("max-keys", max_keys), ("prefix", prefix)], after, deadline).await
    }

    /// A page of all keys below a prefix, however deep.
    async fn flat_page(&self, prefix: &str, after: Option<&str>, deadline: Instant) -> Result<listing::Page, Failure> {
        self.keys(&[("max-keys", "1000"), ("prefix", prefix)], after, deadline).await
    }

    async fn keys(
        &self,
        asked: &[(&str, &str)],
        after: Option<&str>,
        deadline: Instant,
    ) -> Result<listing::Page, Failure> {
        let mut query = [asked, &[("list-type", "2")]].concat();
        query.extend(after.map(|token| ("continuation-token", token)));
        query.sort_unstable();
        let call = Call { query: &query, ..Call::new(Method::GET, "") };
        let response = self.client.send(&call, &self.gate, deadline).await?;
        listing::parse(&client::text(response).await?)
    }

    async fn check(&self, deadline: Instant) -> Result<(), Failure> {
        let _permit = self.gate.enter(deadline).await?;
        self.page(&self.directory_prefix(""), "1", None, deadline).await.map(drop)
    }

    async fn stat(&self, key: &str, deadline: Instant) -> Result<ObjectMeta, Failure> {
        let _permit = self.gate.enter(deadline).await?;
        if !key.is_empty()
            && let Some(facts) = self.head_if_there(&self.full_key(key), deadline).await?
        {
            return Ok(facts.meta(last_name(key)));
        }
        let page = self.page(&self.directory_prefix(key), "1", None, deadline).await?;
        if key.is_empty() || page.is_inhabited() {
            return Ok(directory_meta(last_name(key)));
        }
        Err(Failure::new(ErrorKind::NotFound, "neither an object nor a prefix of any"))
    }

    async fn list(&self, key: &str, after: Option<&str>, deadline: Instant) -> Result<ListPage, Failure> {
        let _permit = self.gate.enter(deadline).await?;
        let prefix = self.directory_prefix(key);
        let page = self.page(&prefix, "1000", after, deadline).await?;
        let mut children = page.children(&prefix, after.is_none())?;
        if !children.is_inhabited && after.is_none() && !key.is_empty() {
            return match self.head_if_there(&self.full_key(key), deadline).await? {
                Some(_) => Err(Failure::new(ErrorKind::NotADirectory, "it is an object")),
                None => Err(Failure::new(ErrorKind::NotFound, "no key begins with it")),
            };
        }
        for name in std::mem::take(&mut children.doubtful) {
            if self.head_if_there(&format!("{prefix}{name}"), deadline).await?.is_some() {
                children.entries.retain(|meta| meta.kind == ObjectKind::File || meta.name != name);
            }
        }
        Ok(ListPage { entries: children.entries, next: children.next })
    }

    /// Not sent once `unless` is set.
    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        mode: &WriteMode,
        deadline: Instant,
        unless: Option<&AtomicBool>,
    ) -> Result<ObjectMeta, Failure> {
        let _permit = self.gate.enter(deadline).await?;
        let full_key = self.full_key(key);
        let size = bytes.len() as u64;
        let mut call = Call { body: bytes, unless, ..Call::new(Method::PUT, &full_key) };
        condition::set(&mut call, mode);
        if matches!(mode, WriteMode::ReplaceOnly(_)) {
            self.look_before(&full_key, mode).await?;
        }
        let sent = self.client.send(&call, &self.gate, deadline).await;
        let response = sent.map_err(|trouble| condition::refused(trouble, mode))?;
        Ok(self.meta_after(key, Facts::of_headers(response.headers(), Some(size))?).await)
    }

    /// `IsADirectory` or `NotFound`, for a key that is no object.
    async fn no_object(&self, key: &str, deadline: Instant) -> Result<Failure, Failure> {
        let page = self.page(&self.directory_prefix(key), "1", None, deadline).await?;
        Ok(match page.is_inhabited() {
            true => Failure::new(ErrorKind::IsADirectory, "it is a directory"),
            false => Failure::new(ErrorKind::NotFound, "neither an object nor a prefix of any"),
        })
    }

    async fn delete(&self, key: &str, deadline: Instant) -> Result<(), Failure> {
        let _permit = self.gate.enter(deadline).await?;
        let full_key = self.full_key(key);
        if self.head_if_there(&full_key, deadline).await?.is_none() {
            return Err(self.no_object(key, deadline).await?);
        }
        self.delete_full(&full_key, deadline).await
    }

    async fn delete_full(&self, full_key: &str, deadline: Instant) -> Result<(), Failure> {
        self.client.send(&Call::new(Method::DELETE, full_key), &self.gate, deadline).await?;
        Ok(())
    }
}

#[async_trait]
impl UnderStore for S3Store {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn deadline(&self) -> Duration {
        self.inner.gate.limits().deadline
    }

    async fn check(&self) -> Result<(), StoreError> {
        let deadline = self.inner.gate.deadline();
        let result = self.inner.gate.within(deadline, self.inner.check(deadline)).await;
        self.named(result, "check", "")
    }

    async fn stat(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.named(check_key(key), "stat", key)?;
        let deadline = self.inner.gate.deadline();
        let result = self.inner.gate.within(deadline, self.inner.stat(key, deadline)).await;
        self.named(result, "stat", key)
    }

    async fn list(&self, directory: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.named(check_key(directory), "list", directory)?;
        let deadline = self.inner.gate.deadline();
        let result = self.inner.gate.within(deadline, self.inner.list(directory, after, deadline)).await;
        self.named(result, "list", directory)
    }

    async fn read(&self, key: &str, range: Range<u64>, fingerprint: &Fingerprint) -> Result<ReadStream, StoreError> {
        self.named(check_file_key(key), "read", key)?;
        let full_key = self.inner.full_key(key);
        let opened = read::open(Arc::clone(&self.inner), full_key, range, fingerprint.clone());
        let result = self.inner.gate.within(self.inner.gate.deadline(), opened).await;
        Ok(read::stream(self.named(result, "read", key)?, self.uri.clone(), key.to_string()))
    }

    async fn put(&self, key: &str, bytes: Bytes, create_only: bool) -> Result<ObjectMeta, StoreError> {
        self.named(check_file_key(key), "put", key)?;
        let deadline = self.inner.gate.deadline();
        let mode = if create_only { WriteMode::CreateOnly } else { WriteMode::Replace };
        let result = self.inner.gate.within(deadline, self.inner.put(key, bytes, &mode, deadline, None)).await;
        self.named(result, "put", key)
    }

    async fn begin_upload(&self, key: &str, mode: WriteMode, size: Option<u64>) -> Result<Box<dyn Upload>, StoreError> {
        self.named(check_file_key(key), "upload", key)?;
        self.named(upload::check_size(size), "upload", key)?;
        Ok(Box::new(upload::S3Upload::new(self.uri.clone(), Arc::clone(&self.inner), key, mode, size)))
    }

    async fn remove_leftover(&self, leftover: &str) -> Result<bool, StoreError> {
        let wrong = || Failure::new(ErrorKind::Invalid, "want the id of an upload and its key");
        let (id, key) = self.named(leftover.split_once(' ').ok_or_else(wrong), "clean up", leftover)?;
        self.named(check_file_key(key), "clean up", key)?;
        let full_key = self.inner.full_key(key);
        let abort = async || {
            let deadline = self.inner.gate.deadline();
            self.inner.gate.within(deadline, self.inner.abort_multipart(&full_key, id)).await
        };
        let was_there = self.named(abort().await, "clean up", key)?;
        // A part that the store was still taking in may bring it back.
        for pause in upload::ABORTED_AGAIN_AFTER.into_iter().filter(|_| was_there) {
            tokio::time::sleep(pause).await;
            self.named(abort().await, "clean up", key)?;
        }
        Ok(was_there)
    }

    fn upload_memory_bytes(&self, size: Option<u64>) -> u64 {
        upload::memory_bytes(size)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.named(check_file_key(key), "delete", key)?;
        let deadline = self.inner.gate.deadline();
        let result = self.inner.gate.within(deadline, self.inner.delete(key, deadline)).await;
        self.named(result, "delete", key)
    }

    async fn make_directory(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.named(check_new_key(key), "make", key)?;
        let deadline = self.inner.gate.deadline();
        let result = self.inner.gate.within(deadline, self.inner.make_directory(key, deadline)).await;
        self.named(result, "make", key)
    }

    async fn remove_directory(&self, key: &str) -> Result<(), StoreError> {
        self.named(check_own_key(key), "remove", key)?;
        let deadline = self.inner.gate.deadline();
        let result = self.inner.gate.within(deadline, self.inner.remove_directory(key, deadline)).await;
        self.named(result, "remove", key)
    }

    async fn rename(&self, from: &str, to: &str, replace: bool) -> Result<ObjectMeta, StoreError> {
        self.named(check_own_key(from), "rename", from)?;
        self.named(check_own_key(to), "rename", to)?;
        // Each request has the deadline, not the whole of it.
        let result = self.inner.rename(from, to, replace).await;
        self.named(result, "rename", from)
    }
}
