//! Which pages a pin keeps from leaving their tier: SSD and HDD, or MEM where there is no disk tier.
//!
//! Invariants: `held_bytes` of a directory is the sum of its pages' and stays within the share that pins may have, so that
//! there is always something that may leave; a page that is held is in no evictor of that tier.

use super::{Tiers, unlink};
use crate::Tier;
use crate::directory::Tables;
use crate::evict::{NO_NODE, hash_of};
use crate::format::row_bytes;
use crate::gone::Cause;
use crate::index::OnDisk;
use crate::key::PageKey;
use crate::memory::whole_units;
use crate::pins::Leased;
use crate::store::explain::PinState;
use forebay_base::{FileId, Version};
use std::time::Instant;

/// Pins hold at most this share of a directory, in percent.
const PINNED_PERCENT_MAX: u64 = 80;

impl Tiers {
    /// What pins may hold: of one directory, or of MEM where there is none.
    fn pin_limit_bytes(&self, place: u8) -> u64 {
        let bytes = match self.directories.get(usize::from(place)) {
            Some(directory) if directory.bad.get() => 0,
            Some(directory) => directory.limit_bytes.get(),
            None => self.mem_capacity_bytes,
        };
        bytes / 100 * PINNED_PERCENT_MAX
    }

    /// What pins may still take of one directory.
    pub(super) fn pin_room_bytes(&self, place: u8) -> u64 {
        self.pin_limit_bytes(place).saturating_sub(self.held_bytes[usize::from(place)])
    }

    /// What pins hold: of one directory, or of MEM where there is none.
    pub(in crate::store) fn pinned_bytes(&self, place: u8) -> u64 {
        self.held_bytes[usize::from(place)]
    }

    /// Keeps a page in the tier of the pins, if its content is pinned and there is room among what is held.
    pub(super) fn hold(&mut self, name: &PageKey, place: u8) -> bool {
        let content = name.content();
        if !self.pins.contains(content) {
            return false;
        }
        let Some(file) = self.index.file(content) else { return false };
        let length = file.key.page_length(name.page, self.page_bytes);
        let bytes = if self.directories.is_empty() { whole_units(length.into()) } else { self.space_of(length.into()) };
        if bytes > self.pin_room_bytes(place) {
            self.pins.set_short(content);
            let tier = self.directories.get(usize::from(place)).map_or(Tier::Mem, |directory| directory.tier);
            self.notes.add(name, tier, Cause::PinRefused);
            return false;
        }
        let Some(page) = self.index.get_mut(name) else { return false };
        self.held_bytes[usize::from(place)] += bytes;
        page.held_bytes = bytes as u32;
        true
    }

    /// The pin of a content.
    pub(in crate::store) fn pin_state(&self, content: (FileId, Version)) -> Option<PinState> {
        let (reserved_bytes, until, is_short) = self.pins.state(content)?;
        Some(PinState { reserved_bytes, until, is_short })
    }

    /// What so many bytes of one content take on a disk.
    pub(super) fn space_of(&self, bytes: u64) -> u64 {
        let page_bytes = u64::from(self.page_bytes);
        let page = page_bytes + row_bytes(self.page_bytes);
        match (bytes / page_bytes, bytes % page_bytes) {
            (pages, 0) => pages * page,
            (0, rest) => Tables::slot_bytes(rest),
            (pages, _) => (pages + 1) * page,
        }
    }

    /// Begins or renews the pin of a content of which `bytes` are to be held here; `false` if there is no room.
    pub(in crate::store) fn pin(&mut self, content: (FileId, Version), bytes: u64, until: Instant) -> bool {
        for version in self.pins.others(content.0, Some(content.1)) {
            self.unpin((content.0, version));
        }
        let limit = (0..self.held_bytes.len()).map(|place| self.pin_limit_bytes(place as u8)).sum();
        match self.pins.lease(content, self.space_of(bytes), until, limit) {
            Leased::Refused => {
                let tier = self.directories.first().map_or(Tier::Mem, |directory| directory.tier);
                self.notes.add_pages(content, tier, Cause::PinRefused, bytes.div_ceil(u64::from(self.page_bytes)));
                return false;
            }
            Leased::Renewed { short: false } => return true,
            Leased::New | Leased::Renewed { short: true } => {}
        }
        for name in self.index.pages_of(content) {
            self.keep(&name);
            let Some(page) = self.index.get(&name) else { continue };
            let (disk, mem_node, disk_node) = (page.disk, page.mem_node, page.disk_node);
            if let (OnDisk::Present { directory, .. }, true) = (disk, disk_node != NO_NODE)
                && self.hold(&name, directory)
                && let Some(page) = self.index.get_mut(&name)
            {
                unlink(&mut *self.disk_evictors[usize::from(directory)], &mut page.disk_node, &name);
            }
            if self.directories.is_empty()
                && mem_node != NO_NODE
                && self.hold(&name, 0)
                && let Some(page) = self.index.get_mut(&name)
            {
                unlink(&mut *self.mem_evictor, &mut page.mem_node, &name);
            }
        }
        true
    }

    /// Ends a pin: its pages may leave.
    pub(in crate::store) fn unpin(&mut self, content: (FileId, Version)) {
        if !self.pins.end(content) {
            return;
        }
        for name in self.index.pages_of(content) {
            let Some((id, page)) = self.index.entry_mut(&name).filter(|(_, page)| page.held_bytes > 0) else {
                continue;
            };
            let held = u64::from(std::mem::take(&mut page.held_bytes));
            if let OnDisk::Present { directory, .. } = page.disk {
                self.held_bytes[usize::from(directory)] -= held;
                // What is on its way may leave as soon as it has arrived, or stays.
                if !self.lent.contains(content) && !self.moving.contains_key(&name) {
                    page.disk_node = self.disk_evictors[usize::from(directory)].insert(id, hash_of(&name), true);
                }
            } else {
                self.held_bytes[0] -= held;
                page.mem_node = self.mem_evictor.insert(id, hash_of(&name), true);
            }
        }
    }

    /// Ends the pins of all versions of a file but one.
    pub(in crate::store) fn unpin_file(&mut self, file_id: FileId, keep: Option<Version>) {
        for version in self.pins.others(file_id, keep) {
            self.unpin((file_id, version));
        }
    }

    /// Ends the pins whose time is over.
    pub(in crate::store) fn expire_pins(&mut self, now: Instant) {
        for content in self.pins.over(now) {
            self.unpin(content);
        }
    }
}
