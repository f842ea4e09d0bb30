//! Copying an object inside the bucket: the bytes never leave the store.
//!
//! Invariant: a copy is of the content that was seen when it began, or it fails.

use super::{
    S3Inner, client,
    client::{Call, Trouble},
    condition, failure,
    object::{Facts, strong_etag},
};
use crate::{failure::Failure, upload::WriteMode};
use forebay_base::ErrorKind;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

/// Stores copy no more than 5 GiB at once. Parts are shorter, so that several go on side by side; 10,000 of them hold any object.
pub(super) const BYTES: (u64, u64) = (5 << 30, 1 << 30);
const PARTS_UNDER_WAY: usize = 4;

#[derive(Deserialize)]
struct Copied {
    #[serde(rename = "ETag", default)]
    e_tag: String,
}

/// One copy, by keys in the bucket.
pub(super) struct Copy<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// What `from` is.
    pub(super) facts: &'a Facts,
    /// What `to` may be: `Replace` or `CreateOnly`.
    pub(super) mode: &'a WriteMode,
}

impl S3Inner {
    /// Copies an object; `Stale` if it is not the content any more that `facts` are of.
    pub(super) async fn copy(&self, copy: &Copy<'_>) -> Result<(), Failure> {
        let (whole, part) = self.copy_bytes;
        self.look_before(copy.to, copy.mode).await?;
        if copy.facts.size > whole {
            return self.copy_parts(copy, part).await;
        }
        let mut headers = self.source_headers(copy)?;
        let mut call = Call { headers: HeaderMap::new(), ..Call::new(Method::PUT, copy.to) };
        condition::set(&mut call, copy.mode);
        let is_conditional = !call.headers.is_empty();
        let condition = std::mem::take(&mut call.headers);
        let plain = headers.clone();
        headers.extend(condition);
        match self.copied(copy, headers, &[]).await {
            // A server that knows no condition here has been asked just before.
            Err(failure) if is_conditional && failure.kind == ErrorKind::Unsupported => {
                self.copied(copy, plain, &[]).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn copy_parts(&self, copy: &Copy<'_>, part_bytes: u64) -> Result<(), Failure> {
        let id = self.begin_multipart(copy.to).await?;
        let parts = copy.facts.size.div_ceil(part_bytes);
        let one = async |index: u64| {
            let first = index * part_bytes;
            let last = (first + part_bytes).min(copy.facts.size) - 1;
            let mut headers = self.source_headers(copy)?;
            headers
                .insert(HeaderName::from_static("x-amz-copy-source-range"), value(&format!("bytes={first}-{last}"))?);
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let shown = number.to_string();
            let etag = self.copied(copy, headers, &[("partNumber", &shown), ("uploadId", &id)]).await?;
            Ok::<_, Failure>((number, etag))
        };
        let all = async {
            let parts: Vec<(u32, String)> =
                stream::iter(0..parts).map(one).buffered(PARTS_UNDER_WAY).try_collect().await?;
            self.complete_multipart(copy.to, &id, &parts, copy.mode, None).await.map(drop)
        };
        let copied = all.await;
        if copied.is_err() {
            // What the store did not take is of no use; how that ends changes nothing.
            let _ = self.abort_multipart(copy.to, &id).await;
        }
        match copied {
            // A part may lie beyond the end of what is there now.
            Err(failure) if failure.kind == ErrorKind::Invalid => {
                let now = self.head_if_there(copy.from, self.gate.deadline()).await?;
                let is_same = now.is_some_and(|now| now.fingerprint() == copy.facts.fingerprint());
                Err(if is_same { failure } else { changed() })
            }
            other => other,
        }
    }

    /// Sends a copy and reads how it ended; the ETag of what was made.
    async fn copied(&self, copy: &Copy<'_>, headers: HeaderMap, query: &[(&str, &str)]) -> Result<String, Failure> {
        let deadline = self.patient_deadline();
        let _permit = self.gate.enter(deadline).await?;
        let mut call = Call { headers, query, ..Call::new(Method::PUT, copy.to) };
        // Only a copy that may not replace would meet its own object.
        call.is_repeatable = *copy.mode != WriteMode::CreateOnly || !query.is_empty();
        // The store may copy for long before it answers.
        call.patience = Some(self.gate.limits().deadline.saturating_mul(6));
        let sent = self.client.send(&call, &self.gate, deadline).await;
        let response = match sent {
            Ok(response) => response,
            Err(Trouble::Refused(refusal)) if refusal.status == StatusCode::PRECONDITION_FAILED => {
                return Err(self.precondition(copy).await);
            }
            Err(trouble) => return Err(trouble.into()),
        };
        // The status comes before the work is done: only the document says how it ended.
        let read = tokio::time::timeout_at(deadline, client::text(response)).await;
        let document = read.map_err(|_| self.gate.silent())??;
        if document.contains("<Error") {
            if document.contains("PreconditionFailed") {
                return Err(self.precondition(copy).await);
            }
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(failure::of_response(status, &document, None, &self.client.bucket).failure);
        }
        let copied: Copied = quick_xml::de::from_str(&document)
            .map_err(|error| Failure::new(ErrorKind::Corrupt, format!("the answer says nothing: {error}")))?;
        strong_etag(&copied.e_tag).ok_or_else(|| Failure::new(ErrorKind::Corrupt, "the store named no ETag of a copy"))
    }

    /// Which of the two conditions did not hold.
    async fn precondition(&self, copy: &Copy<'_>) -> Failure {
        match self.look_before(copy.to, copy.mode).await {
            Err(failure) => failure,
            Ok(()) => changed(),
        }
    }

    fn source_headers(&self, copy: &Copy<'_>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        let source = client::in_path(&format!("{}/{}", self.client.bucket, copy.from));
        headers.insert(HeaderName::from_static("x-amz-copy-source"), value(&source)?);
        if let Some(etag) = &copy.facts.etag {
            headers.insert(HeaderName::from_static("x-amz-copy-source-if-match"), value(etag)?);
        }
        Ok(headers)
    }
}

fn changed() -> Failure {
    Failure::new(ErrorKind::Stale, "it was written while it was copied")
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))
}
