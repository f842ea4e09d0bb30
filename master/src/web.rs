//! What the master serves over HTTP. Owned by no thread: each request is a task of the master's runtime.

use crate::service::MasterService;
use forebay_net::http::{HttpRequest, HttpResponse, HttpService, HttpToken};
use std::sync::Arc;

/// Answers `master.http`.
pub(crate) struct Web {
    service: Arc<MasterService>,
    token: Option<HttpToken>,
}

impl Web {
    pub(crate) fn new(service: Arc<MasterService>, token: Option<HttpToken>) -> Self {
        Self { service, token }
    }
}

impl HttpService for Web {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let actions = if self.token.is_some() { "with a token" } else { "for nobody" };
        match request.path.as_str() {
            "/" => {
                HttpResponse::text(200, &format!("forebay cluster {:032x}: actions {actions}", self.service.cluster_id))
            }
            _ => HttpResponse::text(404, "there is nothing of that name"),
        }
    }
}
