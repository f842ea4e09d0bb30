//! The web console and its JSON API: what the master knows, for people in a browser.
//!
//! Runs on the serving runtime, one task for each request. Invariants: what changes something needs the token; mount
//! options are shown without secrets; what the API gives is bounded by a page.

mod api;
mod browse;
mod history;
mod jobs;
mod pages;

use crate::service::MasterService;
use forebay_base::settings::Shown;
use forebay_base::{ErrorKind, KindError, unix_now_ms};
use forebay_net::http::{HttpMethod, HttpRequest, HttpResponse, HttpToken};
use history::History;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinHandle;

/// The console of one master.
pub(crate) struct Console {
    service: Arc<MasterService>,
    token: Option<HttpToken>,
    settings: Vec<Shown>,
    history: Arc<History>,
    started: Instant,
    sampling: JoinHandle<()>,
}

impl Drop for Console {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

/// Whether a path is one of the console's files, which tell nothing of the cluster.
pub(crate) fn is_page(path: &str) -> bool {
    pages::page(path).is_some()
}

impl Console {
    /// Samples from now on, on the current runtime.
    pub(crate) fn start(service: Arc<MasterService>, token: Option<HttpToken>, settings: Vec<Shown>) -> Self {
        let history = Arc::new(History::default());
        let (members, filled) = (Arc::clone(&service.members), Arc::clone(&history));
        let sampling = tokio::spawn(async move {
            let mut tick = tokio::time::interval(history::STEP);
            loop {
                tick.tick().await;
                filled.sample(&members.report(), unix_now_ms());
            }
        });
        Self { service, token, settings, history, started: Instant::now(), sampling }
    }

    /// A file of the console or an answer of its API.
    pub(crate) async fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let Some(call) = request.path.strip_prefix("/api/v1/") else {
            return match (pages::page(&request.path), request.method) {
                (Some(_), HttpMethod::Post) => {
                    HttpResponse::text(405, "method: want GET").with_header("allow", "GET, HEAD")
                }
                (Some(page), _) => page,
                (None, _) => HttpResponse::text(404, "there is nothing of that name: the console begins at /"),
            };
        };
        let answer = match request.method {
            HttpMethod::Get | HttpMethod::Head => self.read(call, request).await,
            HttpMethod::Post => match self.check_token(request) {
                Ok(()) => self.act(call).await,
                Err(refusal) => return refusal,
            },
        };
        match answer {
            Ok(value) => respond(200, &value),
            Err(error) => failure(status_of(error.kind), &error),
        }
    }

    async fn read(&self, call: &str, request: &HttpRequest) -> Result<Value, KindError> {
        self.check_leader()?;
        if let Some(id) = call.strip_prefix("jobs/") {
            return self.job(id, request).await;
        }
        match call {
            "overview" => self.overview().await,
            "history" => Ok(self.throughput()),
            "workers" => Ok(self.workers()),
            "mounts" => Ok(self.mounts()),
            "browse" => self.browse(request).await,
            "config" => Ok(self.config()),
            "jobs" => self.jobs().await,
            _ => Err(unknown(call)),
        }
    }

    async fn act(&self, call: &str) -> Result<Value, KindError> {
        if let Some(id) = call.strip_prefix("jobs/").and_then(|rest| rest.strip_suffix("/cancel")) {
            self.check_leader()?;
            return self.cancel_job(id).await;
        }
        match call {
            // Says whether the token is right: it would not have come here.
            "token" => Ok(json!({ "good": true })),
            _ => Err(unknown(call)),
        }
    }

    fn check_leader(&self) -> Result<(), KindError> {
        if self.service.journal.is_leader() {
            return Ok(());
        }
        Err(KindError::new(ErrorKind::NotLeader, "this master does not lead, ask another or try again"))
    }

    fn check_token(&self, request: &HttpRequest) -> Result<(), HttpResponse> {
        let Some(token) = &self.token else {
            let message = "the console is read-only: set cluster.http_token_file to allow actions";
            return Err(failure(403, &KindError::new(ErrorKind::Denied, message)));
        };
        if token.is_in(request) {
            return Ok(());
        }
        let message = "token: it is missing or wrong, want that of cluster.http_token_file";
        Err(failure(401, &KindError::new(ErrorKind::Denied, message)).with_header("www-authenticate", "Bearer"))
    }
}

fn unknown(call: &str) -> KindError {
    KindError::new(ErrorKind::NotFound, format!("/api/v1/{call}: there is no such call, see docs/console.md"))
}

fn respond(status: u16, value: &Value) -> HttpResponse {
    HttpResponse::new(status, "application/json", value.to_string())
}

fn failure(status: u16, error: &KindError) -> HttpResponse {
    respond(status, &json!({ "error": { "kind": format!("{:?}", error.kind), "message": error.message } }))
}

fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::NotFound => 404,
        ErrorKind::Invalid | ErrorKind::NotADirectory => 400,
        ErrorKind::Denied => 403,
        ErrorKind::Busy | ErrorKind::Exists => 409,
        ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::NotLeader | ErrorKind::Closed => 503,
        _ => 500,
    }
}
