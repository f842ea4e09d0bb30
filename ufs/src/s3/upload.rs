//! An object that is written piece by piece: one PUT if it fits into one part, else a multipart upload with a few parts on
//! their way at once.
//!
//! Invariants: at most `PARTS_UNDER_WAY` parts and one that is being filled are in memory; a part waits for its turn among
//! the mount's requests like any other; a multipart upload that is not completed is aborted, also when it is dropped.

use super::{
    S3Inner,
    client::{Call, Trouble, text},
    failure,
    object::{Facts, strong_etag},
};
use crate::{
    failure::Failure,
    key::last_name,
    under_store::{ObjectMeta, StoreError},
    upload::{Upload, WriteMode},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use forebay_base::{ErrorKind, unix_now_ms};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use std::{fmt::Write, sync::Arc};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};

/// Stores want at least 5 MiB of every part but the last.
const PART_BYTES: u64 = 8 << 20;
const PARTS_UNDER_WAY: usize = 2;
/// Stores take no more parts than this.
const PARTS_MAX: u32 = 10_000;
/// Parts of one length where the size is not known: each step doubles it.
const PARTS_IN_STEP: u32 = 1_000;

/// How long part `number`, from 1, is. With a known size all are of one length, which some stores insist on.
fn part_bytes(size: Option<u64>, number: u32) -> u64 {
    match size {
        Some(size) => size.div_ceil(u64::from(PARTS_MAX)).next_multiple_of(1 << 20).max(PART_BYTES),
        None => PART_BYTES << (number.saturating_sub(1) / PARTS_IN_STEP).min(6),
    }
}

/// The most that an upload holds in memory.
pub(super) fn memory_bytes(size: Option<u64>) -> u64 {
    let part = part_bytes(size, 1);
    match size {
        Some(size) if size <= part => size,
        _ => part * (PARTS_UNDER_WAY as u64 + 1),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    upload_id: String,
}

#[derive(Deserialize)]
struct Completed {
    #[serde(rename = "ETag", default)]
    e_tag: String,
}

/// A multipart upload that the store knows.
struct Multipart {
    id: Arc<str>,
    sending: JoinSet<Result<(u32, String), Failure>>,
    /// Number and ETag of the parts that arrived.
    sent: Vec<(u32, String)>,
    next: u32,
}

pub(super) struct S3Upload {
    uri: String,
    inner: Arc<S3Inner>,
    key: String,
    full_key: Arc<str>,
    mode: WriteMode,
    size: Option<u64>,
    written: u64,
    filling: BytesMut,
    multipart: Option<Multipart>,
    failed: bool,
}

impl S3Upload {
    pub(super) fn new(uri: String, inner: Arc<S3Inner>, key: &str, mode: WriteMode, size: Option<u64>) -> Self {
        let full_key = inner.full_key(key).into();
        S3Upload {
            uri,
            inner,
            key: key.to_string(),
            full_key,
            mode,
            size,
            written: 0,
            filling: BytesMut::new(),
            multipart: None,
            failed: false,
        }
    }

    /// Names what failed, and remembers that something did.
    fn named<T>(&mut self, result: Result<T, Failure>) -> Result<T, StoreError> {
        result.map_err(|failure| {
            self.failed = true;
            failure.at(&self.uri, "upload", &self.key)
        })
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.failed {
            return Err(Failure::new(ErrorKind::Closed, "it failed before"));
        }
        self.written += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let number = self.multipart.as_ref().map_or(1, |multipart| multipart.next);
            let part = part_bytes(self.size, number) as usize;
            // Sent when more comes: what fits into one part needs no multipart upload.
            if self.filling.len() >= part {
                self.send_part().await?;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(part - self.filling.len()));
            self.filling.extend_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Sends what was filled as the next part, once there is room for it.
    async fn send_part(&mut self) -> Result<(), Failure> {
        if self.multipart.is_none() {
            let id = self.inner.begin_multipart(&self.full_key).await?;
            self.multipart = Some(Multipart { id: id.into(), sending: JoinSet::new(), sent: Vec::new(), next: 1 });
        }
        let Some(multipart) = &mut self.multipart else { return Ok(()) };
        while multipart.sending.len() >= PARTS_UNDER_WAY {
            multipart.arrived().await?;
        }
        let number = multipart.next;
        if number > PARTS_MAX {
            return Err(Failure::new(ErrorKind::Invalid, format!("it has more than {PARTS_MAX} parts")));
        }
        multipart.next += 1;
        let (inner, full_key, id) = (Arc::clone(&self.inner), Arc::clone(&self.full_key), Arc::clone(&multipart.id));
        let bytes = self.filling.split().freeze();
        multipart.sending.spawn(async move { inner.put_part(&full_key, &id, number, bytes).await });
        Ok(())
    }

    async fn complete(&mut self) -> Result<ObjectMeta, Failure> {
        if self.failed {
            return Err(Failure::new(ErrorKind::Closed, "it failed before"));
        }
        if let Some(size) = self.size.filter(|size| *size != self.written) {
            let message = format!("got {} bytes, want the {size} that were announced", self.written);
            return Err(Failure::new(ErrorKind::Invalid, message));
        }
        let create_only = self.mode == WriteMode::CreateOnly;
        if self.multipart.is_none() {
            let bytes = self.filling.split().freeze();
            return self.inner.put(&self.key, bytes, create_only, self.inner.patient_deadline()).await;
        }
        if !self.filling.is_empty() {
            self.send_part().await?;
        }
        let Some(multipart) = &mut self.multipart else { return Err(Failure::new(ErrorKind::Internal, "no upload")) };
        while !multipart.sending.is_empty() {
            multipart.arrived().await?;
        }
        multipart.sent.sort_unstable();
        let etag = self.inner.complete_multipart(&self.full_key, &multipart.id, &multipart.sent, create_only).await?;
        self.multipart = None;
        let written = Facts { size: self.written, mtime_s: unix_now_ms() / 1000, etag };
        Ok(self.inner.meta_after(&self.key, written).await)
    }

    /// Ends what is on its way and takes the multipart upload back.
    async fn take_back(inner: Arc<S3Inner>, full_key: Arc<str>, mut multipart: Multipart) -> Result<(), Failure> {
        // A part that arrives behind the abort would stay.
        multipart.sending.shutdown().await;
        inner.abort_multipart(&full_key, &multipart.id).await
    }
}

impl Multipart {
    /// Waits for a part.
    async fn arrived(&mut self) -> Result<(), Failure> {
        match self.sending.join_next().await {
            None => Ok(()),
            Some(Ok(part)) => {
                self.sent.push(part?);
                Ok(())
            }
            Some(Err(error)) => Err(Failure::new(ErrorKind::Internal, format!("a store task ended: {error}"))),
        }
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let taken = self.take(&bytes).await;
        self.named(taken)
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectMeta, StoreError> {
        let completed = self.complete().await;
        let result = self.named(completed);
        if let (Err(_), Some(multipart)) = (&result, self.multipart.take()) {
            // What the store did not take is of no use; how that ends changes nothing.
            let _ = Self::take_back(Arc::clone(&self.inner), Arc::clone(&self.full_key), multipart).await;
        }
        result
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StoreError> {
        let Some(multipart) = self.multipart.take() else { return Ok(()) };
        let aborted = Self::take_back(Arc::clone(&self.inner), Arc::clone(&self.full_key), multipart).await;
        self.named(aborted)
    }

    fn leftover(&self) -> Option<String> {
        self.multipart.as_ref().map(|multipart| format!("{} {}", multipart.id, self.key))
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        if let (Some(multipart), Ok(runtime)) = (self.multipart.take(), Handle::try_current()) {
            let (uri, inner, full_key) = (self.uri.clone(), Arc::clone(&self.inner), Arc::clone(&self.full_key));
            drop(runtime.spawn(async move {
                let id = Arc::clone(&multipart.id);
                if let Err(failure) = Self::take_back(inner, full_key, multipart).await {
                    tracing::warn!(store = uri, upload = &*id, "an upload could not be aborted: {}", failure.message);
                }
            }));
        }
    }
}

impl S3Inner {
    /// For requests that carry many bytes or that a store works on for long: how long they are tried again.
    pub(super) fn patient_deadline(&self) -> Instant {
        let limits = self.gate.limits();
        let now = Instant::now();
        now.checked_add(limits.deadline.saturating_mul(limits.retries.saturating_add(2))).unwrap_or(now)
    }

    async fn begin_multipart(&self, full_key: &str) -> Result<String, Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        // Sent again after a lost answer it begins a second upload, which nobody would end.
        let call = Call { query: &[("uploads", "")], is_repeatable: false, ..Call::new(Method::POST, full_key) };
        let begun = async {
            let response = self.client.send(&call, &self.gate, deadline).await?;
            let document = text(response).await?;
            quick_xml::de::from_str::<Initiated>(&document)
                .map(|initiated| initiated.upload_id)
                .map_err(|error| Failure::new(ErrorKind::Corrupt, format!("the answer names no upload: {error}")))
        };
        self.gate.within(deadline, begun).await
    }

    async fn put_part(&self, full_key: &str, id: &str, number: u32, bytes: Bytes) -> Result<(u32, String), Failure> {
        let deadline = self.patient_deadline();
        let _permit = self.gate.enter(deadline).await?;
        let shown = number.to_string();
        let query = [("partNumber", shown.as_str()), ("uploadId", id)];
        let call = Call { query: &query, body: bytes, ..Call::new(Method::PUT, full_key) };
        let response = self.client.send(&call, &self.gate, deadline).await?;
        let etag = response.headers().get(header::ETAG).and_then(|value| value.to_str().ok());
        let etag = etag.ok_or_else(|| Failure::new(ErrorKind::Corrupt, "the store named no ETag of a part"))?;
        Ok((number, etag.to_string()))
    }

    /// The new object's ETag.
    async fn complete_multipart(
        &self,
        full_key: &str,
        id: &str,
        parts: &[(u32, String)],
        create_only: bool,
    ) -> Result<Option<String>, Failure> {
        let deadline = self.patient_deadline();
        let _permit = self.gate.enter(deadline).await?;
        let exists = |said: &str| Failure::new(ErrorKind::Exists, format!("it exists already ({said})"));
        if create_only && self.head_if_there(full_key, self.gate.deadline()).await?.is_some() {
            // For servers that do not look at the condition here.
            return Err(exists("it was written meanwhile"));
        }
        let mut body = String::from("<CompleteMultipartUpload>");
        for (number, etag) in parts {
            let etag = etag.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
            let _ = write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let query = [("uploadId", id)];
        let mut call = Call { query: &query, body: body.into(), ..Call::new(Method::POST, full_key) };
        // Done twice it would meet its own object, or an upload that is gone.
        call.is_repeatable = false;
        // The store may put the parts together now.
        call.patience = Some(self.gate.limits().deadline.saturating_mul(6));
        if create_only {
            call.headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let response = self.client.send(&call, &self.gate, deadline).await.map_err(|trouble| match trouble {
            Trouble::Refused(refusal) if create_only && refusal.status == StatusCode::PRECONDITION_FAILED => {
                exists(&refusal.failure.message)
            }
            trouble => trouble.into(),
        })?;
        // The status comes before the work is done: only the document says how it ended.
        let document = tokio::time::timeout_at(deadline, text(response)).await.map_err(|_| self.gate.silent())??;
        if document.contains("<Error") {
            let refused = failure::of_response(StatusCode::INTERNAL_SERVER_ERROR, &document, None, &self.client.bucket);
            return Err(match document.contains("PreconditionFailed") {
                true if create_only => exists(&refused.failure.message),
                _ => refused.failure,
            });
        }
        let completed: Completed = quick_xml::de::from_str(&document)
            .map_err(|error| Failure::new(ErrorKind::Corrupt, format!("the answer says nothing: {error}")))?;
        Ok(strong_etag(&completed.e_tag))
    }

    /// An upload that is gone already counts as aborted.
    pub(super) async fn abort_multipart(&self, full_key: &str, id: &str) -> Result<(), Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        let query = [("uploadId", id)];
        let call = Call { query: &query, ..Call::new(Method::DELETE, full_key) };
        match self.client.send(&call, &self.gate, deadline).await {
            Err(Trouble::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(()),
            other => other.map(drop).map_err(Failure::from),
        }
    }

    /// What the store says of an object that was just written, unless it is another one already.
    pub(super) async fn meta_after(&self, key: &str, written: Facts) -> ObjectMeta {
        // Only the store knows its time stamp.
        let found = self.head_if_there(&self.full_key(key), self.gate.deadline()).await;
        match found {
            Ok(Some(facts)) if written.etag.is_none() || facts.etag == written.etag => facts.meta(last_name(key)),
            _ => Facts { mtime_s: unix_now_ms() / 1000, ..written }.meta(last_name(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_long_enough_and_few_enough() {
        assert_eq!((part_bytes(Some(0), 1), part_bytes(Some(1 << 30), 77)), (PART_BYTES, PART_BYTES));
        let tebibytes = 5 << 40;
        let part = part_bytes(Some(tebibytes), 1);
        assert!(part.is_multiple_of(1 << 20) && tebibytes.div_ceil(part) <= u64::from(PARTS_MAX), "{part}");
        assert_eq!((part_bytes(None, 1), part_bytes(None, 1000), part_bytes(None, 1001)), (8 << 20, 8 << 20, 16 << 20));
        assert_eq!(part_bytes(None, PARTS_MAX), 512 << 20);
        assert_eq!((memory_bytes(Some(7)), memory_bytes(Some(1 << 30)), memory_bytes(None)), (7, 24 << 20, 24 << 20));
    }
}
