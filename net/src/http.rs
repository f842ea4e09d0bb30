//! A small HTTP/1.1 server on tokio, for metrics and the console. Hyper stays behind this file.
//!
//! Invariants: at most `CONNECTIONS_MAX` connections, each for one request and for no longer than `CONNECTION_WITHIN`;
//! heads, bodies and answers have limits. Bound to loopback it answers only requests that name a loopback host, so that
//! no page of another site reads it through a name that resolves to this host. Bound elsewhere it answers only callers
//! with the token, except for what the service calls public.

mod metrics_page;
mod request;
mod server;
mod token;

pub use metrics_page::{MetricsOnly, metrics_page};
pub use request::{HttpMethod, HttpRequest};
pub use server::HttpServer;
pub use token::HttpToken;

use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// Connections at once; beyond it nothing is accepted.
pub const CONNECTIONS_MAX: usize = 64;
/// Request line and headers together.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// The body of a request.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest to read a request's head, and again its body.
pub const READ_WITHIN: Duration = Duration::from_secs(10);
/// Longest a service may think.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest a connection may last, the sending of the answer included.
pub const CONNECTION_WITHIN: Duration = Duration::from_secs(60);

/// What answers requests.
pub trait HttpService: Send + Sync + 'static {
    /// Answers one request. The future is dropped after `ANSWER_WITHIN`.
    fn answer(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send;

    /// Whether a path may be read without the token from other hosts.
    fn is_public(&self, _path: &str) -> bool {
        false
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpResponse {
    /// Its status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// More headers; those that the server sets itself give way to them.
    pub headers: Vec<(&'static str, String)>,
    /// Its body; left out for HEAD.
    pub body: Bytes,
}

impl HttpResponse {
    /// An answer without more headers.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// One line of plain text.
    #[must_use]
    pub fn text(status: u16, line: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
