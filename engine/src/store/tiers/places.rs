//! Where a page goes: which disk tier takes it, and which directory of that tier. Pure bookkeeping.
//!
//! Invariant: a file's pages go to one directory of each tier, as long as that one can be used.

use super::Tiers;
use crate::Tier;
use crate::directory::Directory;
use crate::evict::hash_of;
use crate::gone::Cause;
use crate::index::OnDisk;
use crate::key::{FileKey, PageKey};
use crate::memory::PageMemory;
use std::rc::Rc;

/// A full directory refuses pages only if MEM has room for this many, so that a page that is on no disk stays until it is
/// read to its end.
const REFUSAL_PAGES_MIN: u64 = 64;

impl Tiers {
    /// The directory for a file's next page: in the fastest tier that has one; a pinned file's where pins have room.
    pub(super) fn directory_for(&self, key: &FileKey) -> Option<u8> {
        let first = self.place_in(key, Tier::Ssd);
        if !self.has_both {
            return first.or_else(|| self.place_in(key, Tier::Hdd));
        }
        if self.pins.contains(key.content()) {
            let need = self.space_of(key.size_bytes.min(u64::from(self.page_bytes)));
            let second = self.place_in(key, Tier::Hdd);
            return first.filter(|number| need <= self.pin_room_bytes(*number)).or(second).or(first);
        }
        first.or_else(|| self.place_in(key, Tier::Hdd))
    }

    /// The directory for a file's next page in one tier: where its other pages are, else, if it is pinned, where pins have
    /// most room, else the emptiest; when all are full, by hash in proportion to their capacities.
    pub(super) fn place_in(&self, key: &FileKey, tier: Tier) -> Option<u8> {
        let file = self.index.file(key.content());
        let usable = |number: &u8| !self.directories[usize::from(*number)].bad.get();
        if let Some(number) = file.and_then(|file| file.home(usize::from(tier == Tier::Hdd))).filter(usable) {
            return Some(number);
        }
        let fit = |directory: &&Rc<Directory>| directory.tier == tier && !directory.bad.get();
        let healthy: Vec<&Rc<Directory>> = self.directories.iter().filter(fit).collect();
        if self.pins.contains(key.content()) {
            return healthy.iter().map(|directory| directory.number).max_by_key(|number| self.pin_room_bytes(*number));
        }
        let emptiest = healthy.iter().max_by_key(|directory| directory.free_bytes())?;
        if healthy.len() == 1 || emptiest.free_bytes() >= 16 * u64::from(self.page_bytes) {
            return Some(emptiest.number);
        }
        let total: u64 = healthy.iter().map(|directory| directory.configured_bytes).sum();
        let mut at = key.file_id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) % total.max(1);
        for directory in healthy {
            if at < directory.configured_bytes {
                return Some(directory.number);
            }
            at -= directory.configured_bytes;
        }
        None
    }

    /// The disk tiers in which a page could be and is not: those that are faster than where it is.
    pub(super) fn tiers_above(&self, disk: OnDisk) -> &'static [Tier] {
        match disk {
            OnDisk::No => &[Tier::Ssd, Tier::Hdd],
            OnDisk::Present { directory, .. } if self.directories[usize::from(directory)].tier == Tier::Hdd => {
                &[Tier::Ssd]
            }
            _ => &[],
        }
    }

    /// The directory of the fastest tier to which a page is worth what would leave for it.
    pub(super) fn place_worth_writing(&mut self, key: &FileKey, name: &PageKey, memory: &PageMemory) -> Option<u8> {
        for tier in [Tier::Ssd, Tier::Hdd] {
            let Some(number) = self.place_in(key, tier) else { continue };
            if self.is_worth_writing(number, name, memory) {
                return Some(number);
            }
            self.notes.add(name, tier, Cause::NotAdmitted);
        }
        None
    }

    /// Whether a page is worth what would leave the directory for it, at once or to HDD a little later.
    fn is_worth_writing(&mut self, number: u8, name: &PageKey, memory: &PageMemory) -> bool {
        let directory = &self.directories[usize::from(number)];
        let headroom = if self.has_both && directory.tier == Tier::Ssd { self.headroom_bytes(directory) } else { 0 };
        self.mem_capacity_bytes < REFUSAL_PAGES_MIN * u64::from(self.page_bytes)
            || directory.has_room(memory.allocated_bytes() + headroom)
            || self.disk_evictors[usize::from(number)].admits(hash_of(name))
    }
}
