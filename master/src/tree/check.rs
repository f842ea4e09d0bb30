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
/// Longest that a request waits for a store at all; the check itself goes on.
const PATIENCE: Duration = Duration::from_secs(8);

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
        self.check(mount, known, || self.flights.join(key, move || tree.sync_name(at, id, owned))).await
    }

    /// The same for all names of a directory.
    pub(super) async fn check_listing(
        self: &Arc<Self>,
        mount: &Arc<MountState>,
        directory: &Found,
    ) -> Result<Option<Instant>, KindError> {
        let (tree, at, id) = (Arc::clone(self), Arc::clone(mount), directory.id);
        let start = || self.flights.join(FlightKey::Listing(id), move || tree.sync_listing(at, id));
        self.check(mount, directory.inode.listed, start).await
    }

    async fn check(
        &self,
        mount: &MountState,
        known: bool,
        start: impl FnOnce() -> Flight,
    ) -> Result<Option<Instant>, KindError> {
        if mount.in_trouble() {
            let rested = mount.may_ask();
            if known {
                if rested.is_ok() {
                    // Flies on its own; when it lands well the next request sees it.
                    drop(start());
                }
                return Ok(None);
            }
            rested?;
        }
        match tokio::time::timeout(if known { PATIENCE_KNOWN } else { PATIENCE }, start()).await {
            Ok(Ok(began)) => Ok(Some(began)),
            Ok(Err(error)) if known && is_outage(error.kind) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) if known => {
                mount.failed(format!("{}: no answer within {PATIENCE_KNOWN:?}", mount.record.uri));
                Ok(None)
            }
            Err(_) => Err(KindError::new(
                ErrorKind::Unavailable,
                format!("{}: no answer within {PATIENCE:?}; it is still being asked, try again", mount.record.uri),
            )),
        }
    }
}
