//! Decides whether a store is asked, joined, or left alone because it does not answer.
//!
//! In an outage what is known is served as it was last known (for a second at a time), and the store is tried again in
//! the background; what is not known is `Unavailable`.

use super::{Found, Tree};
use crate::flights::{Flight, FlightKey};
use crate::mount_state::{MountState, is_outage};
use forebay_base::{ErrorKind, KindError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A store that leaves a request unanswered this long counts as away for what is known already.
const PATIENCE_KNOWN: Duration = Duration::from_secs(5);
/// Longest that a request waits for a store that gives no sign of life; the check itself goes on.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest that a request waits for a listing that goes on, before its caller is told so and asks again.
const PATIENCE_UNDER_WAY: Duration = Duration::from_secs(8);

/// How a check ended for one request.
pub(super) enum Checked {
    /// It began then and went well.
    At(Instant),
    /// The store is away, what is known must do.
    Away,
    /// It goes on: a listing that has come so far.
    UnderWay(u64),
}

impl Tree {
    /// Checks one name of a directory. When the check began, or `None` when the store is away and what is known must do.
    pub(super) async fn check_name(
        self: &Arc<Self>,
        mount: &Arc<MountState>,
        directory: &Found,
        name: &[u8],
        known: bool,
    ) -> Result<Option<Instant>, KindError> {
        let (tree, at, id, owned) = (Arc::clone(self), Arc::clone(mount), directory.id, name.to_vec());
        let key = FlightKey::Name(id, owned.clone());
        let start = || self.flights.join(key, move |_| tree.sync_name(at, id, owned));
        match self.check(mount, known, start).await? {
            Checked::At(began) => Ok(Some(began)),
            Checked::Away | Checked::UnderWay(_) => Ok(None),
        }
    }

    /// The same for all names of a directory.
    pub(super) async fn check_listing(
        self: &Arc<Self>,
        mount: &Arc<MountState>,
        directory: &Found,
    ) -> Result<Checked, KindError> {
        let (tree, at, id) = (Arc::clone(self), Arc::clone(mount), directory.id);
        let start = || self.flights.join(FlightKey::Listing(id), move |steps| tree.sync_listing(at, id, steps));
        self.check(mount, directory.inode.listed, start).await
    }

    async fn check(
        &self,
        mount: &MountState,
        known: bool,
        start: impl FnOnce() -> Flight,
    ) -> Result<Checked, KindError> {
        if mount.in_trouble() {
            let rested = mount.may_ask();
            if known {
                if rested.is_ok() {
                    // Flies on its own; when it lands well the next request sees it.
                    drop(start());
                }
                return Ok(Checked::Away);
            }
            rested?;
        }
        let patience = if known { PATIENCE_KNOWN } else { PATIENCE };
        let (flight, asked) = (start(), Instant::now());
        loop {
            let before = flight.steps();
            match tokio::time::timeout(patience.min(PATIENCE_UNDER_WAY), flight.landed()).await {
                Ok(Ok(began)) => return Ok(Checked::At(began)),
                // A directory above is being renamed: what is known of its names is right.
                Ok(Err(error)) if known && (is_outage(error.kind) || error.kind == ErrorKind::Busy) => {
                    return Ok(Checked::Away);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) if flight.steps() > before => {
                    if asked.elapsed() >= PATIENCE_UNDER_WAY {
                        return Ok(Checked::UnderWay(flight.steps()));
                    }
                }
                Err(_) if known => {
                    mount.failed(format!("{}: no answer within {PATIENCE_KNOWN:?}", mount.record.uri));
                    return Ok(Checked::Away);
                }
                Err(_) => {
                    return Err(KindError::new(
                        ErrorKind::Unavailable,
                        format!(
                            "{}: no answer within {PATIENCE:?}; it is still being asked, try again",
                            mount.record.uri
                        ),
                    ));
                }
            }
        }
    }
}
