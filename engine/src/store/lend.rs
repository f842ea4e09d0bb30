//! Handing whole local files out: leases, the check before the first hand-out, and what follows when they end.
//!
//! Invariants: what is handed out is whole, durable, of exact length, and was written by this process or compared with its
//! checksums after the last unclean stop; from then on its local file leaves only as a whole. Checks run one at a time,
//! behind everything else that waits for the disk, a page at a time.

use super::{PageCheck, Store};
use crate::directory::{Directory, FileName};
use crate::disk::spawn;
use crate::key::FileKey;
use forebay_base::PageIndex;
use std::fs::File;
use std::rc::Rc;

/// Files waiting to be checked.
const CHECKS_WAITING_MAX: usize = 4096;

/// Why a file is not handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotLent {
    /// A page or less: never.
    Small,
    /// Not all of it is on one disk here.
    NotWhole,
    /// It is being compared with its checksums: ask again.
    NotYet,
    /// Leases hold as much as they may.
    NoRoom,
}

impl Store {
    /// Hands a whole file out under a new lease number; `holder` is who can give it back.
    pub async fn lend(self: &Rc<Self>, key: &FileKey, lease: u64, holder: u64) -> Result<File, NotLent> {
        let number = self.tiers.borrow_mut().begin_lease(key, lease, holder)?;
        let directory = self.directories[usize::from(number)].clone();
        let lent = self.open_lent(&directory, key).await;
        let is_good = self.tiers.borrow().is_good_lease(lease);
        match lent {
            Ok(file) if is_good => {
                self.count(|counters| counters.lent_files += 1);
                Ok(file)
            }
            other => {
                self.tiers.borrow_mut().end_lease(lease, holder);
                Err(other.err().unwrap_or(NotLent::NotWhole))
            }
        }
    }

    async fn open_lent(self: &Rc<Self>, directory: &Rc<Directory>, key: &FileKey) -> Result<File, NotLent> {
        let content = key.content();
        if directory.lending.is_unchecked(content) {
            self.check_behind(key);
            return Err(NotLent::NotYet);
        }
        // Before the file is opened: whatever happens to a page from now on happens to all of the file.
        directory.lending.lend(content);
        let path = directory.path_of(FileName::Large(content.0, content.1));
        match directory.disk.lend(&path, key.size_bytes).await {
            Ok(Some(file)) => Ok(file),
            Ok(None) => {
                tracing::warn!(path = %path.display(), "not handed out: it has a hole or another length");
                Err(NotLent::NotWhole)
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), "cannot be handed out: {error}");
                Err(NotLent::NotWhole)
            }
        }
    }

    /// Ends a lease.
    pub fn give_back(&self, lease: u64, holder: u64) {
        self.tiers.borrow_mut().end_lease(lease, holder);
    }

    /// Ends all leases of a holder that is gone.
    pub fn give_all_back(&self, holder: u64) {
        self.tiers.borrow_mut().end_leases(holder);
    }

    /// A holder's leases whose content is not here any more: to be given back when their file is out of use.
    #[must_use]
    pub fn gone_leases(&self, holder: u64) -> Vec<u64> {
        self.tiers.borrow().gone_leases(holder)
    }

    /// Gives the space back of unlinked files that nobody reads any more; to be called now and then.
    pub fn look_at_orphans(&self) {
        self.directories.iter().for_each(|directory| directory.look_at_orphans());
    }

    /// Has a file compared with its checksums in the background.
    fn check_behind(self: &Rc<Self>, key: &FileKey) {
        let is_first = {
            let mut waiting = self.checks.borrow_mut();
            if waiting.contains(key) || waiting.len() >= CHECKS_WAITING_MAX {
                return;
            }
            waiting.push_back(*key);
            waiting.len() == 1
        };
        if !is_first {
            return;
        }
        let store = Rc::downgrade(self);
        spawn(async move {
            loop {
                let Some(store) = store.upgrade() else { return };
                let Some(key) = store.checks.borrow().front().copied() else { return };
                store.check_whole(&key).await;
                // The one at work stays in front, so that nobody queues it twice or starts a second task.
                store.checks.borrow_mut().pop_front();
            }
        });
    }

    async fn check_whole(&self, key: &FileKey) {
        let pages = key.size_bytes.div_ceil(u64::from(self.config.page_bytes)) as u32;
        for page in 0..pages {
            // A bad page is dropped by its check, and the file is not whole any more.
            if self.check_page(key, PageIndex(page)).await != PageCheck::Intact {
                return;
            }
            self.count(|counters| counters.checked_pages += 1);
        }
        for directory in &self.directories {
            directory.lending.checked(key.content());
        }
        tracing::debug!(file_id = key.file_id.0, version = key.version.0, pages, "checked, may be handed out");
    }
}
