//! Signed requests to one bucket, tried again while that is safe, within a deadline.
//!
//! Requests are built here and not by object_store, whose paths normalise keys and whose listings fail as a whole for
//! one key that is no path; it signs them and knows where credentials come from.

use super::{config::S3Config, failure};
use crate::{failure::Failure, gate::Gate};
use bytes::Bytes;
use forebay_base::ErrorKind;
use http::{HeaderMap, Method, StatusCode, header};
use object_store::{
    aws::{AwsAuthorizer, AwsCredentialProvider},
    client::{HttpRequest, HttpRequestBody},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Response, Url};
use std::{
    future::Future,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// What SigV4 leaves as it is; a slash too in paths.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');
/// The longest body of an error or a listing that is taken.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// Longer bodies go out in slices of this length, so that it is seen how far they are.
const SLICE_BYTES: usize = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One request, before signing.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// The full key in the bucket; empty for the bucket.
    pub(super) key: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether it may be sent again when it is not known whether the store acted on it.
    pub(super) is_repeatable: bool,
    /// How long one attempt may take, where the store may have much to do before it answers.
    pub(super) patience: Option<Duration>,
    /// Not sent once this is set: nobody wants what it would do any more.
    pub(super) unless: Option<&'a AtomicBool>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, key: &'a str) -> Self {
        Call {
            method,
            key,
            query: &[],
            headers: HeaderMap::new(),
            body: Bytes::new(),
            is_repeatable: true,
            patience: None,
            unless: None,
        }
    }
}

/// What the store answered, if it was no success.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) failure: Failure,
}

/// No success: refused by the store, or failed before there was an answer.
pub(super) enum Trouble {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Refused(refusal) => refusal.failure,
            Trouble::Failed(failure) => failure,
        }
    }
}

pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    pub(super) bucket: String,
    region: String,
    credentials: Option<AwsCredentialProvider>,
}

/// reqwest and object_store both ask rustls for the process's provider, and panic where there is none.
fn install_crypto() {
    static INSTALL: Once = Once::new();
    // Another part of the process may have installed one: any will do.
    INSTALL.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

impl Client {
    pub(super) fn new(config: S3Config, deadline: Duration) -> Result<Self, Failure> {
        install_crypto();
        let http = reqwest::Client::builder()
            .connect_timeout(attempt_limit(deadline))
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::new(ErrorKind::Internal, chain(&error)))?;
        let credentials = config.source.provider(&config.bucket, &config.region)?;
        Ok(Client { http, base: config.base, bucket: config.bucket, region: config.region, credentials })
    }

    /// Sends until there is a success, a refusal that trying again does not cure, or no time or attempt left.
    pub(super) async fn send(&self, call: &Call<'_>, gate: &Gate, deadline: Instant) -> Result<Response, Trouble> {
        let mut attempt = 0;
        loop {
            if call.unless.is_some_and(|gone| gone.load(Ordering::Acquire)) {
                return Err(Trouble::Failed(Failure::abandoned()));
            }
            let (trouble, is_curable) = match self.attempt(call, gate, deadline).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            if !is_curable || attempt >= gate.limits().retries || !pause(attempt, deadline).await {
                return Err(trouble);
            }
            attempt += 1;
        }
    }

    /// One attempt; with an error comes whether another one may be made.
    async fn attempt(&self, call: &Call<'_>, gate: &Gate, deadline: Instant) -> Result<Response, (Trouble, bool)> {
        let limits = gate.limits();
        let limit = call.patience.unwrap_or_else(|| attempt_limit(limits.deadline));
        let until = deadline.min(Instant::now() + limit);
        let failed = |failure| Trouble::Failed(failure);
        let (request, sent) = match tokio::time::timeout_at(until, self.signed(call)).await {
            Ok(Ok(signed)) => signed,
            Ok(Err(failure)) => return Err((failed(failure), false)),
            Err(_) => return Err((failed(Failure::unavailable("no answer from where credentials come from")), true)),
        };
        let response = match answer_within(until, limits.deadline.max(limit), &sent, self.http.execute(request)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                let text = format!("{}: {}", self.host(), chain(&error));
                return Err((failed(Failure::unavailable(text)), call.is_repeatable || error.is_connect()));
            }
            None => {
                let text = format!("{}: no answer within {:?}", self.host(), limits.deadline);
                return Err((failed(Failure::unavailable(text)), call.is_repeatable));
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let region = response.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        let region = region.map(str::to_string);
        // The end may be past where a long body was sent.
        let until = until.max(Instant::now() + attempt_limit(limits.deadline));
        let body = match tokio::time::timeout_at(until, text(response)).await {
            Ok(Ok(body)) => body,
            // The status says enough.
            Ok(Err(_)) | Err(_) => String::new(),
        };
        let mut refused = failure::of_response(status, &body, region.as_deref(), &self.bucket);
        // A store that is too busy has not begun; after any other fault it may have done what it was asked.
        let is_known = call.is_repeatable || is_too_busy(status);
        if refused.is_curable && !is_known {
            refused.failure.message.push_str("; it is not known whether the store did it");
        }
        Err((Trouble::Refused(Refusal { status, failure: refused.failure }), refused.is_curable && is_known))
    }

    /// The request, and a count of the bytes of its body that went out.
    async fn signed(&self, call: &Call<'_>) -> Result<(reqwest::Request, Arc<AtomicUsize>), Failure> {
        let internal = |text: String| Failure::new(ErrorKind::Internal, text);
        let url = self.url(call);
        let mut request: HttpRequest = http::Request::builder()
            .method(call.method.clone())
            .uri(url.as_str())
            .body(HttpRequestBody::from(call.body.clone()))
            .map_err(|error| Failure::new(ErrorKind::Invalid, error.to_string()))?;
        *request.headers_mut() = call.headers.clone();
        if let Some(credentials) = &self.credentials {
            let credential = credentials.get_credential().await.map_err(|error| {
                let text = format!(
                    "no credentials ({error}); set options access_key and secret_key, profile, or anonymous=true"
                );
                Failure::new(ErrorKind::Denied, text)
            })?;
            let is_clean = |text: &str| text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            if !is_clean(&credential.key_id) || !credential.token.as_deref().is_none_or(is_clean) {
                return Err(Failure::new(
                    ErrorKind::Denied,
                    "the access key or session token has characters none can have",
                ));
            }
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .try_authorize(&mut request, None)
                .map_err(|error| internal(error.to_string()))?;
        }
        let mut plain = reqwest::Request::new(call.method.clone(), url);
        *plain.headers_mut() = std::mem::take(request.headers_mut());
        let sent = Arc::<AtomicUsize>::default();
        if call.body.len() > SLICE_BYTES {
            plain.headers_mut().insert(header::CONTENT_LENGTH, call.body.len().into());
            *plain.body_mut() = Some(counted(call.body.clone(), Arc::clone(&sent)));
        } else if call.method == Method::PUT || call.method == Method::POST {
            *plain.body_mut() = Some(call.body.clone().into());
        }
        Ok((plain, sent))
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        let key = in_path(call.key);
        url.set_path(&format!("{}{key}", self.base.path()));
        if !call.query.is_empty() {
            let pairs = call.query.iter().map(|(name, value)| {
                format!("{}={}", utf8_percent_encode(name, IN_QUERY), utf8_percent_encode(value, IN_QUERY))
            });
            url.set_query(Some(&pairs.collect::<Vec<_>>().join("&")));
        }
        url
    }

    pub(super) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or("");
        self.base.port_or_known_default().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
    }
}

/// A key as it stands in a URL.
pub(super) fn in_path(key: &str) -> String {
    utf8_percent_encode(key, IN_PATH).to_string()
}

fn is_too_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// A body in slices that are counted when the connection takes them.
fn counted(body: Bytes, sent: Arc<AtomicUsize>) -> reqwest::Body {
    let slices = futures::stream::unfold((body, sent), |(mut rest, sent)| async move {
        if rest.is_empty() {
            return None;
        }
        let slice = rest.split_to(rest.len().min(SLICE_BYTES));
        sent.fetch_add(slice.len(), Ordering::Relaxed);
        Some((Ok::<_, std::convert::Infallible>(slice), (rest, sent)))
    });
    reqwest::Body::wrap_stream(slices)
}

/// The answer, if it comes by `until`, or within `patience` of the last slice of the body that went out.
async fn answer_within<T>(
    until: Instant,
    patience: Duration,
    sent: &AtomicUsize,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let (mut end, mut seen) = (until, 0);
    loop {
        match tokio::time::timeout_at(end, answer.as_mut()).await {
            Ok(answer) => return Some(answer),
            Err(_) => {
                let now = sent.load(Ordering::Relaxed);
                if now == seen {
                    return None;
                }
                (end, seen) = (Instant::now() + patience, now);
            }
        }
    }
}

/// How long one attempt may take, so that a connection that went silent leaves time for another.
pub(super) fn attempt_limit(deadline: Duration) -> Duration {
    (deadline / 3).max(Duration::from_millis(500)).min(deadline)
}

/// Waits before another attempt, longer each time and never in step with others; false if the deadline comes first.
pub(super) async fn pause(attempt: u32, deadline: Instant) -> bool {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE);
    let mut random = [0u8; 2];
    // Without randomness pauses are merely in step.
    let _ = getrandom::fill(&mut random);
    let pause = longest.mul_f64(0.5 + f64::from(u16::from_le_bytes(random)) / 131_072.0);
    if Instant::now() + pause >= deadline {
        return false;
    }
    tokio::time::sleep(pause).await;
    true
}

/// The whole body as text, up to a limit.
pub(super) async fn text(mut response: Response) -> Result<String, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| Failure::unavailable(chain(&error)))? {
        if body.len() + piece.len() > MAX_TEXT_BYTES {
            return Err(Failure::new(ErrorKind::Corrupt, "the answer is longer than any listing or error"));
        }
        body.extend_from_slice(&piece);
    }
    String::from_utf8(body).map_err(|_| Failure::new(ErrorKind::Corrupt, "the answer is not UTF-8"))
}

/// An error and its causes, each once: reqwest's own text leaves out what went wrong.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}
