//! Which pages go to another disk tier next, and what becomes of them on the way. Pure bookkeeping; `store::mover` reads
//! and the directories' writers write.
//!
//! Invariants: a page on its way is `Present` where it was until its copy is durable, and it is in no evictor, so that
//! it does not leave meanwhile; then it is `Present` in the new place and departs from the old one. A move that comes
//! to nothing leaves the page where it was.

use super::{Tiers, unlink};
use crate::Tier;
use crate::directory::{DISK_TIERS, Directory, Job};
use crate::evict::{NO_NODE, hash_of};
use crate::format::row_bytes;
use crate::gone::Cause;
use crate::index::OnDisk;
use crate::key::{FileKey, PageKey};
use crate::memory::PageMemory;
use crate::store::read::Sighting;
use forebay_base::{FileId, PageIndex, Version};
use std::rc::Rc;

/// Pages that wait to be lifted; more hot ones are noticed again when they are read again.
const LIFTS_MAX: usize = 64;
/// Kept free on SSD, so that what comes finds room without anything being dropped: this share, within a bound.
const HEADROOM_SHARE: u64 = 16;
const HEADROOM_BYTES_MAX: u64 = 256 << 20;

/// A page between two directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Move {
    from: u8,
    pub(super) to: u8,
    /// New with every move, so that the copy of an earlier one is not taken for this one's.
    number: u32,
}

/// A page to be copied: read it where it was seen, or take its memory.
pub(in crate::store) struct Moving {
    pub(in crate::store) key: FileKey,
    pub(in crate::store) page: PageIndex,
    pub(in crate::store) seen: Sighting,
    pub(in crate::store) memory: Option<Rc<PageMemory>>,
    pub(in crate::store) to: u8,
    number: u32,
}

impl Moving {
    pub(in crate::store) fn length(&self, page_bytes: u32) -> u32 {
        self.key.page_length(self.page, page_bytes)
    }
}

impl Tiers {
    /// A page on HDD is read again and again.
    pub(super) fn note_hot(&mut self, name: PageKey) {
        if self.has_both && self.lifts.len() < LIFTS_MAX && !self.lifts.contains(&name) {
            self.lifts.push_back(name);
        }
    }

    /// Whether there may be something to move; cheap, and true too often rather than too seldom.
    pub(in crate::store) fn wants_moves(&self) -> bool {
        self.has_both && (!self.lifts.is_empty() || self.directories.iter().any(|directory| self.is_crowded(directory)))
    }

    /// Whether nothing is on its way and nothing would be begun.
    #[cfg(test)]
    pub(in crate::store) fn is_settled(&self) -> bool {
        let crowded = |number: u8| self.is_crowded(&self.directories[usize::from(number)]);
        let could_go = self.index.all_pages().any(|(_, page)| match page.disk {
            OnDisk::Present { directory, .. } => page.disk_node != NO_NODE && crowded(directory),
            _ => false,
        });
        self.moving.is_empty() && self.lifts.is_empty() && !(self.has_both && could_go)
    }

    /// What is to be kept free of a directory of SSD.
    pub(super) fn headroom_bytes(&self, directory: &Directory) -> u64 {
        let page = u64::from(self.page_bytes) + row_bytes(self.page_bytes);
        (directory.limit_bytes.get() / HEADROOM_SHARE).clamp(2 * page, HEADROOM_BYTES_MAX.max(2 * page))
    }

    /// Free bytes, slots of small files that may be used again included; what is on its way elsewhere counts as gone.
    fn room_bytes(&self, directory: &Directory) -> u64 {
        let leaving = self.moving.values().filter(|moved| moved.from == directory.number).count() as u64;
        let spare = directory.tables.borrow().spare_bytes();
        let leaving = leaving + directory.departures.borrow().len() as u64;
        directory.free_bytes() + spare + leaving * u64::from(self.page_bytes)
    }

    fn is_crowded(&self, directory: &Directory) -> bool {
        directory.tier == Tier::Ssd
            && !directory.bad.get()
            && self.room_bytes(directory) < self.headroom_bytes(directory)
    }

    /// The coldest page of an SSD directory that is nearly full; it is on its way when this returns.
    pub(in crate::store) fn next_demotion(&mut self) -> Option<Moving> {
        let crowded: Vec<u8> =
            self.directories.iter().filter(|dir| self.is_crowded(dir)).map(|dir| dir.number).collect();
        crowded.into_iter().find_map(|number| self.demotion_from(number))
    }

    fn demotion_from(&mut self, crowded: u8) -> Option<Moving> {
        let victim = self.disk_evictors[usize::from(crowded)].victim()?;
        let name = self.index.name(victim);
        let key = self.index.file(name.content())?.key;
        let to = self.place_in(&key, Tier::Hdd)?;
        if self.directories[usize::from(crowded)].lending.was_lent(name.content()) {
            // It leaves as a whole, and page by page it cannot go elsewhere.
            let departure = self.leave_disk(crowded)?;
            self.directories[usize::from(crowded)].depart(departure);
            return None;
        }
        self.begin(&name, key, to)
    }

    /// The next hot page of HDD, if SSD has room for it; it is on its way when this returns.
    pub(in crate::store) fn next_lift(&mut self) -> Option<Moving> {
        loop {
            let name = *self.lifts.front()?;
            let wanted = self.index.get(&name).is_some_and(|page| match page.disk {
                OnDisk::Present { directory, .. } => {
                    let directory = &self.directories[usize::from(directory)];
                    directory.tier == Tier::Hdd && !directory.lending.was_lent(name.content())
                }
                _ => false,
            });
            let key = self.index.file(name.content()).map(|file| file.key);
            let (true, Some(key)) = (wanted && !self.moving.contains_key(&name), key) else {
                self.lifts.pop_front();
                continue;
            };
            let to = self.place_in(&key, Tier::Ssd)?;
            let held = self.index.get(&name).map_or(0, |page| page.held_bytes);
            if u64::from(held) > self.pin_room_bytes(to) {
                self.lifts.pop_front();
                continue;
            }
            // It pushes nothing out: room is made by what goes down.
            let page = u64::from(self.page_bytes) + row_bytes(self.page_bytes);
            if self.room_bytes(&self.directories[usize::from(to)]) < page {
                return None;
            }
            self.lifts.pop_front();
            if !self.disk_evictors[usize::from(to)].is_worthy(hash_of(&name)) {
                self.notes.add(&name, Tier::Ssd, Cause::NotAdmitted);
                continue;
            }
            return self.begin(&name, key, to);
        }
    }

    fn begin(&mut self, name: &PageKey, key: FileKey, to: u8) -> Option<Moving> {
        let number = self.index.next_generation();
        let page = self.index.get_mut(name)?;
        let OnDisk::Present { directory: from, record } = page.disk else { return None };
        let generation = page.generation;
        let memory = page.memory.clone();
        unlink(&mut *self.disk_evictors[usize::from(from)], &mut page.disk_node, name);
        self.moving.insert(*name, Move { from, to, number });
        let seen = Sighting { directory: from, record, generation, is_hot: false };
        Some(Moving { key, page: name.page, seen, memory, to, number })
    }

    /// Hands a page that was read over to the writer of its new directory; `false` if nobody wants it there any more.
    pub(in crate::store) fn copy(&mut self, moving: &Moving, memory: Rc<PageMemory>) -> bool {
        let job = Job { key: moving.key, page: moving.page, generation: moving.number, memory };
        if !self.is_moving_to(moving.to, &job) {
            return false;
        }
        let directory = self.directories[usize::from(moving.to)].clone();
        if let Some(file) = self.index.file_mut(moving.key.content()) {
            file.set_home(directory.tier_index(), directory.number);
        }
        directory.enqueue(job);
        true
    }

    pub(super) fn is_moving_to(&self, directory: u8, job: &Job) -> bool {
        let moved = self.moving.get(&job.key.page(job.page));
        moved.is_some_and(|moved| moved.to == directory && moved.number == job.generation)
    }

    /// A move came to nothing: the page stays where it is.
    pub(in crate::store) fn end_move(&mut self, name: &PageKey) {
        if self.moving.remove(name).is_none() {
            return;
        }
        let Some(page) = self.index.get(name) else { return };
        let OnDisk::Present { directory, record } = page.disk else { return };
        if page.held_bytes == 0 && page.disk_node == NO_NODE {
            self.set_present(name, directory, record);
        }
    }

    /// The copy is durable: the page is there from now on, and departs from where it was.
    pub(super) fn arrived(&mut self, directory: u8, job: &Job, record: u32) -> bool {
        let name = job.key.page(job.page);
        self.moving.remove(&name);
        let Some((OnDisk::Present { directory: from, .. }, departure)) = self.forget_on_disk(&name) else {
            return false;
        };
        self.directories[usize::from(from)].depart(departure);
        self.set_present(&name, directory, record);
        match self.directories[usize::from(directory)].tier {
            Tier::Hdd => self.demoted_pages += 1,
            _ => self.lifted_pages += 1,
        }
        true
    }

    /// Pages of a content that are on their way.
    pub(in crate::store) fn moving_of(&self, content: (FileId, Version)) -> u64 {
        self.moving.keys().filter(|name| name.content() == content).count() as u64
    }

    /// Ends the moves of a content's pages.
    pub(super) fn end_moves_of_content(&mut self, content: (FileId, Version)) {
        let names: Vec<PageKey> = self.moving.keys().filter(|name| name.content() == content).copied().collect();
        names.iter().for_each(|name| self.end_move(name));
    }

    /// Ends every move from or to a directory.
    pub(super) fn end_moves_of(&mut self, number: u8) {
        let theirs = |(_, moved): &(&PageKey, &Move)| moved.from == number || moved.to == number;
        let names: Vec<PageKey> = self.moving.iter().filter(theirs).map(|(name, _)| *name).collect();
        names.iter().for_each(|name| self.end_move(name));
    }

    /// Healthy directories of both disk tiers.
    pub(super) fn has_both_tiers(directories: &[Rc<Directory>]) -> bool {
        let has =
            |index: usize| directories.iter().any(|directory| directory.tier_index() == index && !directory.bad.get());
        (0..DISK_TIERS).all(has)
    }
}
