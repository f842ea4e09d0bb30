//! The role: connect, mount, serve until told to stop. Runs on the process's main thread.

use crate::error::FuseError;
use crate::fs::{FilesystemOptions, Forebay};
use crate::mount;
use crate::session::{Session, SessionOptions};
use forebay_base::settings::Settings;
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
    let start = async {
        let mountpoint = mount::prepare(&settings.fuse.mountpoint)?;
        let client = Client::connect(ClientConfig::new(settings, Role::Frontend)?).await?;
        let options = FilesystemOptions { attr_timeout_max: settings.fuse.attr_timeout_max };
        let session_options = SessionOptions {
            threads: settings.fuse.threads,
            max_read: u32::try_from(settings.fuse.max_read.0).unwrap_or(u32::MAX),
            read_ahead_bytes: settings.fuse.read_ahead.0,
            allow_other: settings.fuse.allow_other,
        };
        let handler = Arc::new(Forebay::new(client.clone(), options));
        Ok::<_, FuseError>((Session::start(&mountpoint, &session_options, handler)?, client))
    };
    let (session, client) = tokio::select! {
        started = start => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(mountpoint = %session.mountpoint().display(), threads = settings.fuse.threads, "fuse ready");
    tokio::select! {
        () = session.ended() => {
            tracing::info!("unmounted from outside");
            client.close().await;
            return Ok(());
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(mountpoint = %session.mountpoint().display(), "unmounting");
    let unmounted = session.unmount();
    client.close().await;
    unmounted
}
