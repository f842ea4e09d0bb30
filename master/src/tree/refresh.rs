//! A look at the store on demand, whatever the freshness: what differs, and with `apply` the namespace takes it over.
//!
//! Runs in the call that asked, not as a flight: its answer is what this very look found.

use super::{Tree, name_of, not_found};
use crate::flights::Steps;
use crate::namespace::{Inode, Upsert};
use forebay_base::{FileId, KindError, limits};
use forebay_net::message::namespace::{
    DIFFERENCE_ADDED, DIFFERENCE_CHANGED, DIFFERENCE_REMOVED, DIFFERS_IN_ATTRIBUTES, DIFFERS_IN_CONTENT,
    DIFFERS_IN_KIND, DIFFERS_IN_SIZE, Difference, RefreshReply,
};
use std::sync::Arc;

/// What a comparison found, and whether the namespace takes it over. Bounded.
pub(super) struct Changes {
    pub(super) apply: bool,
    /// How far a listing is.
    pub(super) steps: Steps,
    reply: Option<RefreshReply>,
}

impl Changes {
    /// For checks whose differences nobody asked to see.
    pub(super) fn applied() -> Self {
        Self::counting(Steps::default())
    }

    /// The same for a listing whose progress is watched.
    pub(super) fn counting(steps: Steps) -> Self {
        Self { apply: true, steps, reply: None }
    }

    /// Whether differences are to be told at all.
    pub(super) fn collects(&self) -> bool {
        self.reply.is_some()
    }

    pub(super) fn checked(&mut self, names: u64) {
        if let Some(reply) = &mut self.reply {
            reply.checked += names;
        }
    }

    pub(super) fn upserted(&mut self, upsert: &Upsert, before: Option<&Inode>) {
        let Some(reply) = &mut self.reply else { return };
        let bit = |differs: bool, bit: u8| if differs { bit } else { 0 };
        let what = before.map_or(0, |before| {
            let attributes = (before.mtime_ms, before.mode, before.uid, before.gid);
            bit(before.size != upsert.size, DIFFERS_IN_SIZE)
                | bit(before.fingerprint != upsert.fingerprint, DIFFERS_IN_CONTENT)
                | bit(attributes != (upsert.mtime_ms, upsert.mode, upsert.uid, upsert.gid), DIFFERS_IN_ATTRIBUTES)
                | bit(before.kind != upsert.kind, DIFFERS_IN_KIND)
        });
        let kind = if before.is_some() { DIFFERENCE_CHANGED } else { DIFFERENCE_ADDED };
        *(if before.is_some() { &mut reply.changed } else { &mut reply.added }) += 1;
        let known_bytes = before.map_or(0, |before| before.size);
        keep(reply, Difference { name: upsert.name.clone(), kind, what, known_bytes, store_bytes: upsert.size });
    }

    pub(super) fn removed(&mut self, name: Vec<u8>, known_bytes: u64) {
        let Some(reply) = &mut self.reply else { return };
        reply.removed += 1;
        keep(reply, Difference { name, kind: DIFFERENCE_REMOVED, what: 0, known_bytes, store_bytes: 0 });
    }
}

fn keep(reply: &mut RefreshReply, difference: Difference) {
    if reply.differences.len() < limits::LISTING_ENTRIES_MAX as usize {
        reply.differences.push(difference);
    }
}

impl Tree {
    /// Compares a file's name, or all names of a directory, with the store. Above the mounts there is nothing to compare.
    pub(crate) async fn refresh(self: &Arc<Self>, id: FileId, apply: bool) -> Result<RefreshReply, KindError> {
        let found = self.inode(id).await?.ok_or_else(|| not_found(&format!("file {id} does not exist any more")))?;
        if found.inode.mount_id == 0 {
            return Ok(RefreshReply::default());
        }
        let mount = self.mount_of(&found)?;
        let mut changes = Changes { apply, steps: Steps::default(), reply: Some(RefreshReply::default()) };
        if found.inode.is_directory() {
            self.compare_listing(&mount, id, &mut changes).await?;
        } else {
            let name = name_of(&found, &mount).into_bytes();
            self.compare_name(&mount, FileId(found.inode.parent), name, &mut changes).await?;
        }
        Ok(changes.reply.unwrap_or_default())
    }
}
