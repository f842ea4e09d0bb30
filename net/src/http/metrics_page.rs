//! `/metrics` and `/healthz`, the same for every role.

use super::{HttpRequest, HttpResponse, HttpService};
use forebay_base::KindError;
use forebay_base::metrics::CONTENT_TYPE;
use std::future::Future;

/// Answers `/metrics` with the text, and `/healthz` with "ok"; `None` for any other path.
pub async fn metrics_page(
    request: &HttpRequest,
    text: impl Future<Output = Result<String, KindError>>,
) -> Option<HttpResponse> {
    match request.path.as_str() {
        "/metrics" => Some(match text.await {
            Ok(text) => HttpResponse::new(200, CONTENT_TYPE, text),
            Err(error) => HttpResponse::text(503, &error.message),
        }),
        "/healthz" => Some(HttpResponse::text(200, "ok")),
        _ => None,
    }
}

/// Serves these two pages and nothing else.
pub struct MetricsOnly<F>(pub F);

impl<F> HttpService for MetricsOnly<F>
where
    F: Fn() -> String + Send + Sync + 'static,
{
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let page = metrics_page(&request, async { Ok((self.0)()) }).await;
        page.unwrap_or_else(|| HttpResponse::text(404, "there is nothing of that name: want /metrics or /healthz"))
    }
}
