//! The tiers' bookkeeping: which page is where, and who leaves when room is needed. No I/O and no awaits in here, so
//! that every step is atomic on its core.
//!
//! Invariants: `mem_used_bytes` is the sum of the memory of pages that are `in_mem`; a page is in a tier's evictor
//! exactly if it may leave that tier now (it is there, no pin or lease holds it, and it is not on its way elsewhere); a page
//! that waits to be written keeps its memory. Pins hold pages on disk, or in MEM where there is no disk tier, up to a share of
//! each directory. A page is in one directory, but while it moves to another tier.

mod held;
mod lent;
mod moves;
mod places;

pub(super) use moves::Moving;

use super::Rows;
use super::read::Sighting;
use crate::directory::{Departure, Directory, Job};
use crate::evict::{Evictor, NO_NODE, Node, evictor, hash_of};
use crate::gone::{Cause, Notes};
use crate::index::{Index, OnDisk, Page};
use crate::key::{FileKey, PageKey};
use crate::lent::Lent;
use crate::memory::PageMemory;
use crate::pins::Pins;
use crate::{StoreConfig, Tier};
use forebay_base::{FileId, PageIndex, UNIT_BYTES, Version};
use hashbrown::HashMap;
use moves::Move;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A page is hot when this many times its own size was read from the disk.
const HOT_READS: u32 = 2;
pub(super) struct Tiers {
    pub(super) index: Index,
    pub(super) mem_capacity_bytes: u64,
    pub(super) mem_used_bytes: u64,
    page_bytes: u32,
    mem_evictor: Box<dyn Evictor>,
    disk_evictors: Vec<Box<dyn Evictor>>,
    pins: Pins,
    lent: Lent,
    /// Held by pins, by directory; of MEM where there is none.
    held_bytes: Vec<u64>,
    directories: Vec<Rc<Directory>>,
    rows: Rc<RefCell<Rows>>,
    /// There are SSD and HDD; without both nothing ever moves.
    pub(super) has_both: bool,
    /// Pages on their way from one disk tier to the other: few.
    moving: HashMap<PageKey, Move>,
    /// Hot pages on HDD.
    lifts: VecDeque<PageKey>,
    pub(super) notes: Notes,
    pub(super) demoted_pages: u64,
    pub(super) lifted_pages: u64,
}

/// What the index knows of a page that is asked for.
pub(super) enum Found {
    Nowhere,
    InMemory(Rc<PageMemory>),
    OnDisk(Sighting),
}

fn unlink(evictor: &mut dyn Evictor, node: &mut Node, name: &PageKey) {
    if *node != NO_NODE {
        evictor.remove(*node, hash_of(name));
        *node = NO_NODE;
    }
}

impl Tiers {
    pub(super) fn new(config: &StoreConfig, directories: Vec<Rc<Directory>>, rows: Rc<RefCell<Rows>>) -> Tiers {
        Tiers {
            index: Index::default(),
            mem_capacity_bytes: config.mem_capacity_bytes,
            mem_used_bytes: 0,
            page_bytes: config.page_bytes,
            mem_evictor: evictor(config.eviction),
            disk_evictors: directories.iter().map(|_| evictor(config.eviction)).collect(),
            pins: Pins::default(),
            lent: Lent::default(),
            held_bytes: vec![0; directories.len().max(1)],
            has_both: Self::has_both_tiers(&directories),
            moving: HashMap::new(),
            lifts: VecDeque::new(),
            notes: Notes::default(),
            demoted_pages: 0,
            lifted_pages: 0,
            directories,
            rows,
        }
    }

    /// Where the page is, counted as a use of `range_bytes`.
    pub(super) fn find(&mut self, key: &FileKey, page: PageIndex, range_bytes: u32) -> Found {
        let name = key.page(page);
        let seen = self.index.page(key, page).map(|held| (held.memory.is_some(), held.disk));
        let (in_memory, disk) = seen.unwrap_or((false, OnDisk::No));
        if !in_memory {
            self.mem_evictor.missed(hash_of(&name));
        }
        for tier in self.tiers_above(disk) {
            if let Some(number) = self.place_in(key, *tier) {
                self.disk_evictors[usize::from(number)].missed(hash_of(&name));
            }
        }
        if seen.is_none() {
            return Found::Nowhere;
        }
        let page_length = key.page_length(page, self.page_bytes);
        let Some(held) = self.index.get_mut(&name) else { return Found::Nowhere };
        if held.mem_node != NO_NODE {
            self.mem_evictor.touch(held.mem_node);
        }
        if let (OnDisk::Present { directory, .. }, true) = (held.disk, held.disk_node != NO_NODE) {
            self.disk_evictors[usize::from(directory)].touch(held.disk_node);
        }
        if let Some(memory) = &held.memory {
            return Found::InMemory(memory.clone());
        }
        let OnDisk::Present { directory, record } = held.disk else { return Found::Nowhere };
        let units = |bytes: u32| bytes.div_ceil(UNIT_BYTES as u32);
        held.heat = held.heat.saturating_add(u16::try_from(units(range_bytes)).unwrap_or(u16::MAX));
        let is_hot = u32::from(held.heat) >= HOT_READS * units(page_length);
        let generation = held.generation;
        if is_hot && self.directories[usize::from(directory)].tier == Tier::Hdd {
            self.note_hot(key.page(page));
        }
        Found::OnDisk(Sighting { directory, record, generation, is_hot })
    }

    /// Whether a page on a disk is still the one that was seen.
    pub(super) fn is_same(&self, key: &FileKey, page: PageIndex, seen: Sighting) -> bool {
        self.index.page(key, page).is_some_and(|held| {
            held.generation == seen.generation
                && matches!(held.disk, OnDisk::Present { directory, .. } if directory == seen.directory)
        })
    }

    /// Takes a page in, from the under store; returns how many others left memory for it. A page that is not worth what
    /// would leave a full directory for it stays in memory only, unless it `is_wanted` or pinned.
    pub(super) fn admit(&mut self, key: &FileKey, page: PageIndex, memory: Rc<PageMemory>, is_wanted: bool) -> u64 {
        if self.index.file(key.content()).is_some_and(|file| file.key != *key) {
            self.drop_content(key.content(), Cause::Dead);
        }
        let name = key.page(page);
        match self.index.get(&name) {
            Some(held) if held.memory.is_some() => {
                if is_wanted {
                    self.keep(&name);
                }
                return 0;
            }
            Some(_) => return self.put_in_memory(&name, memory),
            None => {}
        }
        let is_wanted = is_wanted || self.pins.contains(key.content());
        self.index.add(key, page).is_wanted = is_wanted;
        let place = if is_wanted { self.directory_for(key) } else { self.place_worth_writing(key, &name, &memory) };
        if let Some(number) = place {
            self.queue_for(number, key, page, memory.clone());
        }
        let evicted = self.put_in_memory(&name, memory);
        self.forget_if_nowhere(&name);
        evicted
    }

    fn queue_for(&mut self, number: u8, key: &FileKey, page: PageIndex, memory: Rc<PageMemory>) {
        if let Some(file) = self.index.file_mut(key.content()) {
            file.set_home(self.directories[usize::from(number)].tier_index(), number);
        }
        let Some(held) = self.index.get_mut(&key.page(page)) else { return };
        held.disk = OnDisk::Queued { directory: number };
        held.memory = Some(memory.clone());
        let generation = held.generation;
        self.directories[usize::from(number)].enqueue(Job { key: *key, page, generation, memory });
    }

    /// Sees to it that a page that is held in memory only goes to a disk: somebody asked that it be kept.
    pub(super) fn keep(&mut self, name: &PageKey) {
        let Some(key) = self.index.file(name.content()).map(|file| file.key) else { return };
        let Some(number) = self.directory_for(&key) else { return };
        // Another one, so that a job for the page that is just given up is not taken for this one.
        let generation = self.index.next_generation();
        let Some(held) = self.index.get_mut(name).filter(|held| held.disk == OnDisk::No) else { return };
        held.generation = generation;
        held.is_wanted = true;
        if let Some(memory) = held.memory.clone() {
            self.queue_for(number, &key, name.page, memory);
        }
    }

    /// Keeps a copy in memory of a page that stays on its disk.
    pub(super) fn promote(&mut self, key: &FileKey, page: PageIndex, memory: Rc<PageMemory>) -> u64 {
        let name = key.page(page);
        match self.index.get_mut(&name) {
            Some(held) if held.memory.is_none() => held.heat = 0,
            _ => return 0,
        }
        self.put_in_memory(&name, memory)
    }

    /// Makes room in MEM and charges the page to it. Without room (all held by pins, or larger than the tier) the page
    /// keeps its memory only while it waits to be written.
    fn put_in_memory(&mut self, name: &PageKey, memory: Rc<PageMemory>) -> u64 {
        let bytes = memory.allocated_bytes();
        let mut evicted = 0;
        while self.mem_used_bytes + bytes > self.mem_capacity_bytes {
            if bytes > self.mem_capacity_bytes {
                return evicted;
            }
            let Some(victim) = self.mem_evictor.victim() else { return evicted };
            self.leave_memory(&self.index.name(victim));
            evicted += 1;
        }
        let held = self.directories.is_empty() && self.hold(name, 0);
        if let Some((id, page)) = self.index.entry_mut(name) {
            memory.charge_pool(false);
            self.mem_used_bytes += bytes;
            page.memory = Some(memory);
            page.in_mem = true;
            if !held {
                let is_wanted = page.is_wanted && self.directories.is_empty();
                page.mem_node = self.mem_evictor.insert(id, hash_of(name), is_wanted);
            }
        }
        evicted
    }

    /// Ends the charge of a page's memory to MEM; whoever still holds it is charged from now on.
    fn uncharge(&mut self, name: &PageKey) -> u64 {
        let Some(page) = self.index.get_mut(name) else { return 0 };
        unlink(&mut *self.mem_evictor, &mut page.mem_node, name);
        if self.directories.is_empty() {
            self.held_bytes[0] -= u64::from(std::mem::take(&mut page.held_bytes));
        }
        let (true, Some(memory)) = (std::mem::take(&mut page.in_mem), &page.memory) else { return 0 };
        self.mem_used_bytes -= memory.allocated_bytes();
        memory.charge_pool(true);
        memory.bytes().len() as u64
    }

    /// Ends a page's stay in MEM.
    fn leave_memory(&mut self, name: &PageKey) {
        self.uncharge(name);
        if self.index.get(name).is_some_and(|page| page.disk == OnDisk::No) {
            self.notes.add(name, Tier::Mem, Cause::Room);
        }
        if let Some(page) = self.index.get_mut(name)
            && !matches!(page.disk, OnDisk::Queued { .. })
        {
            page.memory = None;
        }
        self.forget_if_nowhere(name);
    }

    fn forget_if_nowhere(&mut self, name: &PageKey) {
        if self.index.get(name).is_some_and(|held| held.memory.is_none() && held.disk == OnDisk::No) {
            self.index.remove(name);
        }
    }

    /// Drops a page from every tier. Returns its bytes, each tier counted.
    pub(super) fn drop_page(&mut self, name: &PageKey, cause: Cause) -> u64 {
        let in_mem = self.index.get(name).is_some_and(|page| page.in_mem);
        let mut freed = self.uncharge(name);
        self.moving.remove(name);
        let length = self.index.file(name.content()).map_or(0, |file| file.key.page_length(name.page, self.page_bytes));
        if let Some(departure) = self.forget_on_disk(name) {
            freed += u64::from(length);
            let OnDisk::Present { directory, .. } = departure.0 else { return freed };
            let directory = &self.directories[usize::from(directory)];
            self.notes.add(name, directory.tier, cause);
            directory.depart(departure.1);
        } else if in_mem {
            self.notes.add(name, Tier::Mem, cause);
        }
        self.index.remove(name);
        freed
    }

    /// Takes a present page out of its directory's evictor and row cache, and says that it is not there.
    fn forget_on_disk(&mut self, name: &PageKey) -> Option<(OnDisk, Departure)> {
        let page = self.index.get_mut(name)?;
        let OnDisk::Present { directory, record } = page.disk else { return None };
        unlink(&mut *self.disk_evictors[usize::from(directory)], &mut page.disk_node, name);
        self.held_bytes[usize::from(directory)] -= u64::from(std::mem::take(&mut page.held_bytes));
        let was = std::mem::replace(&mut page.disk, OnDisk::No);
        page.heat = 0;
        self.rows.borrow_mut().remove(name);
        self.lent.lose(name.content());
        Some((was, Departure { name: *name, record }))
    }

    pub(super) fn drop_content(&mut self, content: (FileId, Version), cause: Cause) -> u64 {
        self.index.pages_of(content).iter().map(|name| self.drop_page(name, cause)).sum()
    }

    /// Whether a job's page is still to be written.
    pub(super) fn is_queued(&self, job: &Job) -> bool {
        let moved = self.moving.get(&job.key.page(job.page));
        self.queued(job).is_some() || moved.is_some_and(|moved| self.is_moving_to(moved.to, job))
    }

    fn queued(&self, job: &Job) -> Option<&Page> {
        let held = self.index.page(&job.key, job.page)?;
        (held.generation == job.generation && matches!(held.disk, OnDisk::Queued { .. })).then_some(held)
    }

    /// A job came to nothing: the page lives on in memory only, if it is there.
    pub(super) fn not_written(&mut self, directory: u8, job: &Job) {
        if self.is_moving_to(directory, job) {
            return self.end_move(&job.key.page(job.page));
        }
        if self.queued(job).is_none_or(|held| held.disk != (OnDisk::Queued { directory })) {
            return;
        }
        let name = job.key.page(job.page);
        self.notes.add(&name, self.directories[usize::from(directory)].tier, Cause::NotWritten);
        if let Some(page) = self.index.get_mut(&name) {
            page.disk = OnDisk::No;
            if !page.in_mem {
                page.memory = None;
            }
        }
        self.forget_if_nowhere(&name);
    }

    /// A job's page is durable. `false` if nobody wants it any more.
    pub(super) fn written(&mut self, directory: u8, job: &Job, record: u32) -> bool {
        if self.is_moving_to(directory, job) {
            return self.arrived(directory, job, record);
        }
        if self.queued(job).is_none_or(|held| held.disk != (OnDisk::Queued { directory })) {
            return false;
        }
        let name = job.key.page(job.page);
        self.set_present(&name, directory, record);
        if let Some(page) = self.index.get_mut(&name)
            && !page.in_mem
        {
            page.memory = None;
        }
        true
    }

    fn set_present(&mut self, name: &PageKey, directory: u8, record: u32) {
        let held = self.hold(name, directory);
        if let Some((id, page)) = self.index.entry_mut(name) {
            page.disk = OnDisk::Present { directory, record };
            if !held {
                page.disk_node = self.disk_evictors[usize::from(directory)].insert(id, hash_of(name), page.is_wanted);
            }
        }
    }

    /// Takes in a page that a directory's tables vouch for; `false` if another directory has it already.
    pub(super) fn recovered(&mut self, directory: u8, key: &FileKey, page: PageIndex, record: u32) -> bool {
        let name = key.page(page);
        if self.index.file(key.content()).is_some_and(|file| file.key != *key) || self.index.get(&name).is_some() {
            return false;
        }
        self.index.add(key, page);
        if let Some(file) = self.index.file_mut(key.content()) {
            file.set_home(self.directories[usize::from(directory)].tier_index(), directory);
        }
        self.set_present(&name, directory, record);
        true
    }

    /// Who leaves a directory next; it is out of the index when this returns.
    pub(super) fn leave_disk(&mut self, directory: u8) -> Option<Departure> {
        let victim = self.disk_evictors[usize::from(directory)].victim()?;
        let victim = self.index.name(victim);
        let (_, departure) = self.forget_on_disk(&victim)?;
        self.notes.add(&victim, self.directories[usize::from(directory)].tier, Cause::Room);
        self.forget_if_nowhere(&victim);
        Some(departure)
    }

    /// Nothing of a directory is served any more.
    pub(super) fn forget_directory(&mut self, number: u8) {
        self.end_moves_of(number);
        self.has_both = Self::has_both_tiers(&self.directories);
        let there: Vec<PageKey> = self
            .index
            .all_pages()
            .filter(|(_, page)| matches!(page.disk, OnDisk::Present { directory, .. } | OnDisk::Queued { directory } if directory == number))
            .map(|(name, _)| name)
            .collect();
        let tier = self.directories[usize::from(number)].tier;
        for name in there {
            self.notes.add(&name, tier, Cause::DirectoryLost);
            self.forget_on_disk(&name);
            if let Some(page) = self.index.get_mut(&name) {
                page.disk = OnDisk::No;
                if !page.in_mem {
                    page.memory = None;
                }
            }
            self.forget_if_nowhere(&name);
        }
    }
}
