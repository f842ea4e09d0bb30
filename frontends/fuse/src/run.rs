//! The role: connect, mount, serve until told to stop. Runs on the process's main thread.

use crate::error::FuseError;
use crate::fs::{FilesystemOptions, Forebay};
use crate::metrics;
use crate::mount;
use crate::session::{Session, SessionOptions};
use forebay_base::settings::Settings;
use forebay_client::http::{HttpServer, HttpToken, MetricsOnly};
use forebay_client::message::handshake::Role;
use forebay_client::{Client, ClientConfig};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Mounts and serves until SIGTERM or SIGINT, or until somebody unmounts.
pub fn run(settings: &Settings) -> Result<(), FuseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| FuseError::system("cannot build a runtime", error))?;
    let ended = runtime.block_on(serve(settings));
    // Tasks that still wait for a peer do not keep the process.
    runtime.shutdown_background();
    ended
}

async fn serve(settings: &Settings) -> Result<(), FuseError> {
    let handler = |kind| signal(kind).map_err(|error| FuseError::system("cannot handle signals", error));
    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let mut hangup = handler(SignalKind::hangup())?;
    let start = async {
        let mountpoint = mount::prepare(&settings.fuse.mountpoint)?;
        let client = Client::connect(ClientConfig::new(settings, Role::Frontend)?).await?;
        let options = FilesystemOptions { attr_timeout_max: settings.fuse.attr_timeout_max };
        let session_options = SessionOptions {
            threads: settings.fuse.threads,
            max_read: u32::try_from(settings.fuse.max_read.0).unwrap_or(u32::MAX),
            read_ahead_bytes: settings.fuse.read_ahead.0,
            allow_other: settings.fuse.allow_other,
            passthrough: settings.fuse.passthrough,
        };
        let forebay = Arc::new(Forebay::new(client.clone(), options));
        tokio::spawn(Forebay::follow_changes(Arc::downgrade(&forebay)));
        let session = Session::start(&mountpoint, &session_options, forebay.clone())?;
        match serve_metrics(settings, &session, forebay.clone()).await {
            Ok(http) => Ok((session, http, client, forebay)),
            Err(error) => {
                // What went wrong first is what people should hear.
                let _ = session.unmount();
                Err(error)
            }
        }
    };
    let (session, _http, client, forebay) = tokio::select! {
        started = start => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(mountpoint = %session.mountpoint().display(), threads = settings.fuse.threads, "fuse ready");
    loop {
        tokio::select! {
            () = session.ended() => {
                tracing::info!("unmounted from outside");
                finish_writing(settings, &forebay).await;
                client.close().await;
                return Ok(());
            }
            _ = hangup.recv() => forebay_base::log::reread("forebay-fuse"),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!(mountpoint = %session.mountpoint().display(), "unmounting");
    let unmounted = session.unmount();
    finish_writing(settings, &forebay).await;
    client.close().await;
    unmounted
}

/// What was written and not closed goes to its store before the process ends, if it answers.
async fn finish_writing(settings: &Settings, forebay: &Forebay) {
    if tokio::time::timeout(settings.fuse.io_timeout, forebay.finish_writing()).await.is_err() {
        tracing::error!("files that were being written are not in their store; what was synced is saved by its worker");
    }
}

/// Serves the metrics from the process's main thread.
async fn serve_metrics(
    settings: &Settings,
    session: &Session,
    forebay: Arc<Forebay>,
) -> Result<Option<HttpServer>, FuseError> {
    let Some(address) = &settings.fuse.http else { return Ok(None) };
    let token = HttpToken::load(settings.cluster.http_token_file.as_deref())?;
    let (metrics, threads) = (session.metrics(), settings.fuse.threads);
    let service = Arc::new(MetricsOnly(move || metrics::exposition(&metrics, &forebay, threads)));
    let server = HttpServer::bind("fuse.http", address, token, service).await?;
    tracing::info!("metrics on http://{}/metrics", server.local_address());
    Ok(Some(server))
}
