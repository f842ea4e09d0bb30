//! What the master serves over HTTP. Owned by no thread: each request is a task of the master's runtime.

use crate::console::{self, Console};
use forebay_net::http::{HttpRequest, HttpResponse, HttpService};

/// Answers `master.http`.
pub(crate) struct Web {
    console: Console,
}

impl Web {
    pub(crate) fn new(console: Console) -> Self {
        Self { console }
    }
}

impl HttpService for Web {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        self.console.answer(&request).await
    }

    fn is_public(&self, path: &str) -> bool {
        console::is_page(path)
    }
}
