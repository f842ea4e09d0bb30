//! The listening side: one task that accepts, one for each connection, on the runtime that bound it.

use super::{
    ANSWER_WITHIN, BODY_BYTES_MAX, CONNECTION_WITHIN, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, HttpRequest,
    HttpResponse, HttpService, HttpToken, READ_WITHIN,
};
use crate::NetError;
use bytes::Bytes;
use forebay_base::KindError;
use futures::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long answers under way may take when the server shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Set on every answer unless it brings its own: nothing is guessed, framed, kept, or loaded from elsewhere.
const ALWAYS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
];

/// A listening server.
pub struct HttpServer {
    local_address: String,
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl HttpServer {
    /// Listens and serves from now on, on the current runtime. `setting` names the address in messages; `host:0` picks a
    /// free port. Beyond loopback nobody but those with the token is answered.
    pub async fn bind<S: HttpService>(
        setting: &str,
        address: &str,
        token: Option<HttpToken>,
        service: Arc<S>,
    ) -> Result<Self, KindError> {
        let listener = TcpListener::bind(address).await.map_err(|error| refused(setting, address, &error))?;
        let local = listener.local_addr().map_err(|error| refused(setting, address, &error))?;
        let (closing, closed) = watch::channel(false);
        let shared = Arc::new(Shared { on_loopback: local.ip().is_loopback(), token, service });
        let accepting = tokio::spawn(accept(listener, shared, closed));
        Ok(Self { local_address: local.to_string(), closing, accepting })
    }

    /// `host:port` with the real port.
    #[must_use]
    pub fn local_address(&self) -> &str {
        &self.local_address
    }

    /// Stops listening, lets answers under way end for 2 s, then closes everything.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        if let Err(error) = (&mut self.accepting).await {
            tracing::error!(address = %self.local_address, %error, "server task failed");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Shared<S> {
    on_loopback: bool,
    token: Option<HttpToken>,
    service: Arc<S>,
}

fn refused(setting: &str, address: &str, error: &std::io::Error) -> KindError {
    let (setting, address) = (setting.to_string(), address.to_string());
    match error.kind() {
        std::io::ErrorKind::AddrInUse => NetError::HttpPortInUse { setting, address }.into(),
        _ => NetError::HttpListen { setting, address, error: error.to_string() }.into(),
    }
}

async fn accept<S: HttpService>(listener: TcpListener, shared: Arc<Shared<S>>, mut closed: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => break,
            // One ends at last by its own limit of time; those that wait are kept by the kernel.
            _ = connections.join_next(), if connections.len() >= CONNECTIONS_MAX => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    match tokio::time::timeout(CONNECTION_WITHIN, serve(stream, shared)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%address, %error, "connection ended"),
                        Err(_) => tracing::debug!(%address, "connection cut: not done in time"),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors or memory: what frees them needs time to run.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve<S: HttpService>(stream: TcpStream, shared: Arc<Shared<S>>) -> hyper::Result<()> {
    let answering = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(finish(answer(request, &shared).await)) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering)
        .await
}

async fn answer<S: HttpService>(request: hyper::Request<Incoming>, shared: &Shared<S>) -> HttpResponse {
    let (head, body) = request.into_parts();
    let mut request = match HttpRequest::from_head(&head, shared.on_loopback) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let knows_token = || shared.token.as_ref().is_some_and(|token| token.is_in(&request));
    if !shared.on_loopback && !shared.service.is_public(&request.path) && !knows_token() {
        let refusal = HttpResponse::text(401, "token: want Authorization: Bearer with that of cluster.http_token_file");
        return refusal.with_header("www-authenticate", "Bearer");
    }
    request.body = match tokio::time::timeout(READ_WITHIN, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return HttpResponse::text(413, &format!("body: want at most {BODY_BYTES_MAX} bytes"));
        }
        Ok(Err(_)) => return HttpResponse::text(400, "body: ended early"),
        Err(_) => return HttpResponse::text(408, &format!("body: not there within {} s", READ_WITHIN.as_secs())),
    };
    let path = request.path.clone();
    let answering = AssertUnwindSafe(shared.service.answer(request)).catch_unwind();
    match tokio::time::timeout(ANSWER_WITHIN, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(path, "the request's handler panicked");
            HttpResponse::text(500, "the request's handler panicked: its log tells where")
        }
        Err(_) => HttpResponse::text(504, &format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

fn finish(response: HttpResponse) -> hyper::Response<Full<Bytes>> {
    let mut finished = hyper::Response::new(Full::new(response.body));
    *finished.status_mut() =
        hyper::StatusCode::from_u16(response.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = finished.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(response.content_type));
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in response.headers {
        // A name or value that HTTP does not allow is left out rather than sent broken.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    finished
}
