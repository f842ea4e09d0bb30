//! An object that is written piece by piece: one PUT if it fits into one part, else a multipart upload with a few parts on
//! their way at once.
//!
//! Invariants: at most `PARTS_UNDER_WAY` parts and one that is being filled are in memory, all of the length that was
//! counted when the upload began; a part waits for its turn among
//! the mount's requests like any other; a multipart upload that is not completed is aborted, also when it is dropped.

use super::{
    S3Inner,
    client::{Call, Trouble, text},
    condition, failure,
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
use http::{Method, StatusCode, header};
use serde::Deserialize;
use std::{
    fmt::Write,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};

/// An abort is repeated, since parts may be on their way.
pub(super) const ABORTED_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1500)];
/// Stores want at least 5 MiB of every part but the last.
const PART_BYTES: u64 = 8 << 20;
const PARTS_UNDER_WAY: usize = 2;
/// Stores take no more parts than this.
const PARTS_MAX: u32 = 10_000;
/// Stores take no larger objects than this: 5 TiB.
const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// How long all parts but the last are: one length, which some stores insist on.
fn part_bytes(size: Option<u64>) -> u64 {
    let least = size.map_or(0, |size| size.div_ceil(u64::from(PARTS_MAX)));
    least.checked_next_multiple_of(1 << 20).unwrap_or(u64::MAX).max(PART_BYTES)
}

/// Whether an object may have this size.
pub(super) fn check_size(size: Option<u64>) -> Result<(), Failure> {
    match size {
        Some(size) if size > OBJECT_BYTES_MAX => {
            let message = format!("{size} bytes: S3 takes objects of at most {OBJECT_BYTES_MAX} bytes (5 TiB)");
            Err(Failure::new(ErrorKind::Unsupported, message))
        }
        _ => Ok(()),
    }
}

/// The most that an upload holds in memory.
pub(super) fn memory_bytes(size: Option<u64>) -> u64 {
    let parts = part_bytes(size).saturating_mul(PARTS_UNDER_WAY as u64 + 1);
    size.unwrap_or(u64::MAX).min(parts)
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
    gone: Arc<AtomicBool>,
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
            gone: Arc::default(),
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
        if let Some(size) = self.size.filter(|size| self.written > *size) {
            return Err(Failure::wrong_size(self.written, size));
        }
        let part = usize::try_from(part_bytes(self.size)).unwrap_or(usize::MAX);
        let mut rest = bytes;
        while !rest.is_empty() {
            // Sent when more comes: what fits into one part needs no multipart upload.
            if self.filling.len() >= part {
                self.send_part().await?;
                continue;
            }
            if self.filling.is_empty() {
                // At once, so that it never holds more than a part.
                self.filling.reserve(usize::try_from(self.size.unwrap_or(u64::MAX)).unwrap_or(part).min(part));
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
            let most = PART_BYTES * u64::from(PARTS_MAX);
            let message = format!("it is longer than {most} bytes, the most of a file whose size was not announced");
            return Err(Failure::new(ErrorKind::Unsupported, message));
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
            return Err(Failure::wrong_size(self.written, size));
        }
        if self.multipart.is_none() {
            let bytes = self.filling.split().freeze();
            let deadline = self.inner.patient_deadline();
            return self.inner.put(&self.key, bytes, &self.mode, deadline, Some(&self.gone)).await;
        }
        if !self.filling.is_empty() {
            self.send_part().await?;
        }
        let Some(multipart) = &mut self.multipart else { return Err(Failure::new(ErrorKind::Internal, "no upload")) };
        while !multipart.sending.is_empty() {
            multipart.arrived().await?;
        }
        multipart.sent.sort_unstable();
        let (id, parts) = (&multipart.id, &multipart.sent);
        let etag = self.inner.complete_multipart(&self.full_key, id, parts, &self.mode, Some(&self.gone)).await?;
        self.multipart = None;
        let written = Facts { size: self.written, mtime_s: unix_now_ms() / 1000, etag };
        Ok(self.inner.meta_after(&self.key, written).await)
    }

    /// Ends what is on its way and takes the multipart upload back.
    async fn take_back(inner: Arc<S3Inner>, full_key: Arc<str>, mut multipart: Multipart) -> Result<(), Failure> {
        let was_sending = !multipart.sending.is_empty();
        multipart.sending.shutdown().await;
        inner.abort_multipart(&full_key, &multipart.id).await?;
        // A part that the store was still taking in when the upload was aborted may bring it back.
        for pause in ABORTED_AGAIN_AFTER.into_iter().filter(|_| was_sending) {
            tokio::time::sleep(pause).await;
            inner.abort_multipart(&full_key, &multipart.id).await?;
        }
        Ok(())
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

    fn unless(&mut self, gone: Arc<AtomicBool>) {
        self.gone = gone;
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

    pub(super) async fn begin_multipart(&self, full_key: &str) -> Result<String, Failure> {
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
    pub(super) async fn complete_multipart(
        &self,
        full_key: &str,
        id: &str,
        parts: &[(u32, String)],
        mode: &WriteMode,
        gone: Option<&AtomicBool>,
    ) -> Result<Option<String>, Failure> {
        let deadline = self.patient_deadline();
        let _permit = self.gate.enter(deadline).await?;
        self.look_before(full_key, mode).await?;
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
        condition::set(&mut call, mode);
        call.unless = gone;
        // The store may put the parts together now.
        call.patience = Some(self.gate.limits().deadline.saturating_mul(6));
        let response = self.client.send(&call, &self.gate, deadline).await.map_err(|trouble| match trouble {
            // An answer before this one may have been lost, or somebody else ended it.
            Trouble::Refused(refusal) if refusal.failure.message.starts_with("NoSuchUpload") => {
                let said = refusal.failure.message;
                Failure::unavailable(format!("it is not known whether the store put it together ({said})"))
            }
            trouble => condition::refused(trouble, mode),
        })?;
        // The status comes before the work is done: only the document says how it ended.
        let document = tokio::time::timeout_at(deadline, text(response)).await.map_err(|_| self.gate.silent())??;
        if document.contains("<Error") {
            let refused = failure::of_response(StatusCode::INTERNAL_SERVER_ERROR, &document, None, &self.client.bucket);
            return Err(match document.contains("PreconditionFailed") {
                true => condition::failed(mode, &refused.failure.message),
                false => refused.failure,
            });
        }
        let completed: Completed = quick_xml::de::from_str(&document)
            .map_err(|error| Failure::new(ErrorKind::Corrupt, format!("the answer says nothing: {error}")))?;
        Ok(strong_etag(&completed.e_tag))
    }

    /// An upload that is gone already counts as aborted; whether it was still there.
    pub(super) async fn abort_multipart(&self, full_key: &str, id: &str) -> Result<bool, Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        let query = [("uploadId", id)];
        let call = Call { query: &query, ..Call::new(Method::DELETE, full_key) };
        match self.client.send(&call, &self.gate, deadline).await {
            Err(Trouble::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(false),
            other => other.map(|_| true).map_err(Failure::from),
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
        assert_eq!(
            (part_bytes(Some(0)), part_bytes(Some(1 << 30)), part_bytes(None)),
            (PART_BYTES, PART_BYTES, PART_BYTES)
        );
        let part = part_bytes(Some(OBJECT_BYTES_MAX));
        assert!(part.is_multiple_of(1 << 20) && OBJECT_BYTES_MAX.div_ceil(part) <= u64::from(PARTS_MAX), "{part}");
        assert_eq!((memory_bytes(Some(7)), memory_bytes(Some(20 << 20))), (7, 20 << 20));
        assert_eq!((memory_bytes(Some(1 << 30)), memory_bytes(None)), (24 << 20, 24 << 20));
        assert!(memory_bytes(Some(u64::MAX)) > OBJECT_BYTES_MAX, "no size overflows");
        assert!(check_size(Some(OBJECT_BYTES_MAX)).is_ok() && check_size(None).is_ok());
        let refused = check_size(Some(OBJECT_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused:?}");
    }
}
