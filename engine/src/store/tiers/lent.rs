//! Leases of whole files: what they keep from leaving, and when they may begin.
//!
//! Invariants: the pages of a leased content are in no disk evictor; a lease begins only when every page of its content is
//! present in one directory; leases hold at most a share of a directory, what readers keep of unlinked files counted.

use super::{OnDisk, Tiers, unlink};
use crate::Tier;
use crate::evict::{NO_NODE, hash_of};
use crate::key::{FileKey, PageKey};
use crate::memory::whole_units;
use crate::store::NotLent;

/// Leases hold at most this share of a directory, in percent.
const LEASED_PERCENT_MAX: u64 = 50;

impl Tiers {
    /// The directory that holds all of a content.
    fn whole_in(&self, key: &FileKey) -> Option<u8> {
        self.index.file(key.content()).filter(|file| file.key == *key)?;
        let names = self.index.pages_of(key.content());
        if names.len() as u64 != key.size_bytes.div_ceil(u64::from(self.page_bytes)) {
            return None;
        }
        let place = |name: &PageKey| match self.index.get(name)?.disk {
            OnDisk::Present { directory, .. } => Some(directory),
            _ => None,
        };
        let first = place(names.first()?)?;
        names.iter().all(|name| place(name) == Some(first)).then_some(first)
    }

    /// Begins a lease and says in which directory the file is.
    pub(in crate::store) fn begin_lease(&mut self, key: &FileKey, lease: u64, holder: u64) -> Result<u8, NotLent> {
        if key.size_bytes <= u64::from(self.page_bytes) {
            return Err(NotLent::Small);
        }
        let number = self.whole_in(key).ok_or(NotLent::NotWhole)?;
        let directory = &self.directories[usize::from(number)];
        // What is read behind our back from HDD would never be known to be hot, and never come up.
        if directory.bad.get() || self.has_both && directory.tier == Tier::Hdd {
            return Err(NotLent::NotWhole);
        }
        let content = key.content();
        let bytes = whole_units(key.size_bytes);
        let more = if self.lent.contains(content) { 0 } else { bytes };
        let room = directory.limit_bytes.get() / 100 * LEASED_PERCENT_MAX;
        if self.lent.is_full() || directory.lending.is_full() || self.leased_bytes(number) + more > room {
            return Err(NotLent::NoRoom);
        }
        // It stays where it is, as a whole.
        self.end_moves_of_content(content);
        if self.lent.begin(lease, holder, content, bytes, number) {
            for name in self.index.pages_of(content) {
                if let Some(page) = self.index.get_mut(&name) {
                    unlink(&mut *self.disk_evictors[usize::from(number)], &mut page.disk_node, &name);
                }
            }
        }
        Ok(number)
    }

    /// What leases keep of a directory: files that may not leave, and unlinked ones that somebody reads.
    pub(in crate::store) fn leased_bytes(&self, directory: u8) -> u64 {
        self.lent.bytes(directory) + self.directories[usize::from(directory)].lending.orphan_bytes()
    }

    /// Ends a lease: with the last one of its content the pages may leave, as if they had just been used.
    pub(in crate::store) fn end_lease(&mut self, lease: u64, holder: u64) {
        let Some(content) = self.lent.end(lease, holder) else { return };
        for name in self.index.pages_of(content) {
            self.may_leave(&name);
        }
    }

    fn may_leave(&mut self, name: &PageKey) {
        let Some(page) = self.index.get(name) else { return };
        let OnDisk::Present { directory, .. } = page.disk else { return };
        if page.held_bytes > 0 || page.disk_node != NO_NODE || self.hold(name, directory) {
            return;
        }
        if let Some((id, page)) = self.index.entry_mut(name) {
            page.disk_node = self.disk_evictors[usize::from(directory)].insert(id, hash_of(name), true);
        }
    }

    /// Ends all leases of a holder.
    pub(in crate::store) fn end_leases(&mut self, holder: u64) {
        for lease in self.lent.of(holder) {
            self.end_lease(lease, holder);
        }
    }

    /// A page that was lost takes the rest of its content's local file with it.
    pub(in crate::store) fn lose_on_disk(&mut self, names: &[PageKey]) {
        for name in names {
            self.forget_on_disk(name);
            self.forget_if_nowhere(name);
        }
    }

    pub(in crate::store) fn is_good_lease(&self, lease: u64) -> bool {
        self.lent.is_good(lease)
    }

    pub(in crate::store) fn gone_leases(&self, holder: u64) -> Vec<u64> {
        self.lent.gone(holder)
    }
}
