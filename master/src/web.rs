//! What the master serves over HTTP. Owned by no thread: each request is a task of the master's runtime.

use crate::console::{self, Console};
use crate::service::MasterService;
use forebay_net::http::{HttpRequest, HttpResponse, HttpService, metrics_page};
use std::sync::Arc;

/// Answers `master.http`.
pub(crate) struct Web {
    console: Console,
    service: Arc<MasterService>,
}

impl Web {
    pub(crate) fn new(console: Console, service: Arc<MasterService>) -> Self {
        Self { console, service }
    }
}

impl HttpService for Web {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        match metrics_page(&request, self.service.exposition()).await {
            Some(page) => page,
            None => self.console.answer(&request).await,
        }
    }

    fn is_public(&self, path: &str) -> bool {
        console::is_page(path)
    }
}
