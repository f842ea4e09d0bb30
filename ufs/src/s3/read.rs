//! Conditional ranged reads. A body that breaks or stalls is taken up again where it ended, under the same condition.
//!
//! Some servers look at the ETag and at the bytes in two steps, and serve the bytes of a new content under the ETag of the
//! old one. `recheck` finds them out: a HEAD sent once the answer has begun must still name the same content. The body
//! arrives meanwhile, but no piece is handed on before: whoever gets one may keep it as that content.
//!
//! The deadline bounds each wait for a byte, all attempts to get it included; bytes that arrive start it anew.

use super::{
    S3Inner,
    client::{Call, Trouble, attempt_limit, chain, pause},
    object::{Facts, content_range},
};
use crate::{
    failure::Failure,
    gate::Permit,
    under_store::{ReadStream, StoreError},
};
use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint};
use futures::{StreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use std::{ops::Range, sync::Arc};
use tokio::{task::JoinHandle, time::Instant};

pub(super) struct Reading {
    inner: Arc<S3Inner>,
    _permit: Permit,
    /// The full key in the bucket.
    full_key: String,
    fingerprint: Fingerprint,
    rest: Range<u64>,
    response: Option<Response>,
    recheck: Option<JoinHandle<Result<Facts, Failure>>>,
}

pub(super) async fn open(
    inner: Arc<S3Inner>,
    full_key: String,
    range: Range<u64>,
    fingerprint: Fingerprint,
) -> Result<Reading, Failure> {
    if range.start > range.end {
        return Err(Failure::new(ErrorKind::Invalid, format!("the range {range:?} ends before it starts")));
    }
    let deadline = inner.gate.deadline();
    let permit = inner.gate.enter(deadline).await?;
    let mut reading =
        Reading { inner, _permit: permit, full_key, fingerprint, rest: range, response: None, recheck: None };
    if reading.rest.is_empty() {
        let facts = reading.inner.head(&reading.full_key, deadline).await.map_err(|trouble| stale(trouble.into()))?;
        reading.compare(&facts)?;
        if reading.rest.end > facts.size {
            return Err(Failure::new(ErrorKind::Invalid, format!("the object has {} bytes", facts.size)));
        }
    } else {
        reading.begin(deadline).await?;
    }
    Ok(reading)
}

pub(super) fn stream(reading: Reading, store: String, key: String) -> ReadStream {
    stream::try_unfold(reading, |mut reading| async move { Ok(reading.next().await?.map(|piece| (piece, reading))) })
        .map(move |piece: Result<Bytes, Failure>| -> Result<Bytes, StoreError> {
            piece.map_err(|failure| failure.at(&store, "read", &key))
        })
        .boxed()
}

impl Reading {
    async fn begin(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.response = Some(self.request(deadline).await?);
        if self.inner.recheck {
            let (inner, full_key) = (Arc::clone(&self.inner), self.full_key.clone());
            let head = async move {
                let deadline = inner.gate.deadline();
                let head = async { inner.head(&full_key, deadline).await.map_err(|trouble| stale(trouble.into())) };
                inner.gate.within(deadline, head).await
            };
            if let Some(earlier) = self.recheck.replace(tokio::spawn(head)) {
                earlier.abort();
            }
        }
        Ok(())
    }

    /// Waits for what the HEAD says, before the first piece of an answer goes out.
    async fn settle(&mut self) -> Result<(), Failure> {
        let Some(recheck) = self.recheck.take() else { return Ok(()) };
        let facts = recheck
            .await
            .map_err(|error| Failure::new(ErrorKind::Internal, format!("a store task ended: {error}")))??;
        self.compare(&facts)
    }

    /// Asks for what is left, and holds the answer to what was asked for.
    async fn request(&self, deadline: Instant) -> Result<Response, Failure> {
        let mut call = Call::new(Method::GET, &self.full_key);
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| {
                Failure::new(ErrorKind::Invalid, format!("the fingerprint {text} is none of this store's"))
            })
        };
        let last = self.rest.end - 1;
        call.headers.insert(header::RANGE, value(&format!("bytes={}-{last}", self.rest.start))?);
        if let Some(etag) = self.fingerprint.0.strip_prefix("etag:") {
            call.headers.insert(header::IF_MATCH, value(etag)?);
        }
        let response =
            self.inner.client.send(&call, &self.inner.gate, deadline).await.map_err(|trouble| match trouble {
                Trouble::Refused(refusal) if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                    let text =
                        format!("the range {:?} is outside of the object ({})", self.rest, refusal.failure.message);
                    Failure::new(ErrorKind::Invalid, text)
                }
                trouble => stale(trouble.into()),
            })?;
        // Servers that know no condition or no range answer all the same.
        let length = response.content_length();
        let size = match (response.status(), content_range(response.headers())) {
            (StatusCode::PARTIAL_CONTENT, Some((first, end, size))) => {
                self.compare(&Facts::of_headers(response.headers(), Some(size))?)?;
                if size <= last {
                    let text = format!("the range {:?} is outside of the object, which has {size} bytes", self.rest);
                    return Err(Failure::new(ErrorKind::Invalid, text));
                }
                (first == self.rest.start && end == last).then_some(size)
            }
            (StatusCode::OK, None) => {
                let facts = Facts::of_headers(response.headers(), length)?;
                self.compare(&facts)?;
                (self.rest.start == 0 && facts.size == self.rest.end).then_some(facts.size)
            }
            _ => None,
        };
        if size.is_none() {
            let got = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let text = format!(
                "the store answered another range than {}-{last}: HTTP {}, {}",
                self.rest.start,
                response.status().as_u16(),
                got.unwrap_or("the whole object")
            );
            return Err(Failure::new(ErrorKind::Corrupt, text));
        }
        Ok(response)
    }

    fn compare(&self, facts: &Facts) -> Result<(), Failure> {
        let found = facts.fingerprint();
        if found == self.fingerprint {
            return Ok(());
        }
        Err(Failure::new(ErrorKind::Stale, format!("the content is {found} now, not {}", self.fingerprint)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let inner = Arc::clone(&self.inner);
        let deadline = inner.gate.deadline();
        let mut attempt = 0;
        loop {
            let cause = match self.response.as_mut() {
                None if self.rest.is_empty() => return Ok(None),
                None => {
                    self.begin(deadline).await?;
                    continue;
                }
                Some(response) => {
                    let until = deadline.min(Instant::now() + attempt_limit(inner.gate.limits().deadline));
                    match tokio::time::timeout_at(until, response.chunk()).await {
                        Ok(Ok(Some(piece))) if piece.is_empty() => continue,
                        Ok(Ok(Some(piece))) => {
                            if piece.len() as u64 > self.rest.end - self.rest.start {
                                let text = "the store sent more bytes than it was asked for";
                                return Err(Failure::new(ErrorKind::Corrupt, text));
                            }
                            self.rest.start += piece.len() as u64;
                            self.settle().await?;
                            return Ok(Some(piece));
                        }
                        Ok(Ok(None)) if self.rest.is_empty() => return Ok(None),
                        Ok(Ok(None)) => "the body ended early".to_string(),
                        Ok(Err(error)) => chain(&error),
                        Err(_) => "the body stalled".to_string(),
                    }
                }
            };
            if self.rest.is_empty() {
                // All bytes are here; how the connection ended does not matter.
                return Ok(None);
            }
            self.response = None;
            if attempt >= inner.gate.limits().retries || !pause(attempt, deadline).await {
                let text = format!(
                    "{}: {cause}, {} bytes before its end",
                    inner.client.host(),
                    self.rest.end - self.rest.start
                );
                return Err(Failure::unavailable(text));
            }
            attempt += 1;
        }
    }
}

/// Whoever has a fingerprint saw the object: where there is none now, the content is another one. A missing bucket
/// stays what it is.
fn stale(failure: Failure) -> Failure {
    let is_bucket = failure.message.starts_with("bucket ");
    match failure.kind {
        ErrorKind::NotFound if !is_bucket => {
            Failure::new(ErrorKind::Stale, format!("it does not exist any more ({})", failure.message))
        }
        _ => failure,
    }
}
