//! The tiers' bookkeeping: which page is where, and who leaves when room is needed. No I/O and no awaits in here, so
//! that every step is atomic on its core.
//!
//! Invariants: `mem_used_bytes` is the sum of the memory of pages that are `in_mem`; a page is in a tier's evictor
//! exactly if it may leave that tier now (it is there, and no pin or lease holds it); a page that waits to be written keeps its
//! memory. Pins hold pages on SSD, or in MEM where there is no SSD tier, up to a share of each directory.

mod held;
mod lent;

use super::Rows;
use super::read::Sighting;
use crate::StoreConfig;
use crate::directory::{Departure, Directory, Job};
use crate::evict::{Evictor, NO_NODE, Node, evictor, hash_of};
use crate::index::{Index, OnDisk, Page};
use crate::key::{FileKey, PageKey};
use crate::lent::Lent;
use crate::memory::PageMemory;
use crate::pins::Pins;
use forebay_base::{FileId, PageIndex, UNIT_BYTES, Version};
use std::cell::RefCell;
use std::rc::Rc;

/// A page is hot when this many times its own size was read from the disk.
const HOT_READS: u32 = 2;
/// A full directory refuses pages only if MEM has room for this many, so that a page that is on no disk stays until it is
/// read to its end.
const REFUSAL_PAGES_MIN: u64 = 64;

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
        if disk == OnDisk::No
            && let Some(number) = self.directory_for(key)
        {
            self.disk_evictors[usize::from(number)].missed(hash_of(&name));
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
        Found::OnDisk(Sighting { directory, record, generation: held.generation, is_hot })
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
            self.drop_content(key.content());
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
        if let Some(number) = self.directory_for(key)
            && (is_wanted || self.is_worth_writing(number, &name, &memory))
        {
            self.queue_for(number, key, page, memory.clone());
        }
        let evicted = self.put_in_memory(&name, memory);
        self.forget_if_nowhere(&name);
        evicted
    }

    /// Whether a page is worth what would leave the directory for it.
    fn is_worth_writing(&mut self, number: u8, name: &PageKey, memory: &PageMemory) -> bool {
        self.mem_capacity_bytes < REFUSAL_PAGES_MIN * u64::from(self.page_bytes)
            || self.directories[usize::from(number)].has_room(memory.allocated_bytes())
            || self.disk_evictors[usize::from(number)].admits(hash_of(name))
    }

    fn queue_for(&mut self, number: u8, key: &FileKey, page: PageIndex, memory: Rc<PageMemory>) {
        if let Some(file) = self.index.file_mut(key.content()) {
            file.directory = Some(number);
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

    /// The directory for a file's next page: where its other pages are, else, if it is pinned, where pins have most room,
    /// else the emptiest; when all are full, by hash in proportion to their capacities.
    fn directory_for(&self, key: &FileKey) -> Option<u8> {
        let file = self.index.file(key.content());
        let usable = |number: &u8| !self.directories[usize::from(*number)].bad.get();
        if let Some(number) = file.and_then(|file| file.directory).filter(usable) {
            return Some(number);
        }
        let healthy: Vec<&Rc<Directory>> = self.directories.iter().filter(|directory| !directory.bad.get()).collect();
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
    pub(super) fn drop_page(&mut self, name: &PageKey) -> u64 {
        let mut freed = self.uncharge(name);
        let length = self.index.file(name.content()).map_or(0, |file| file.key.page_length(name.page, self.page_bytes));
        if let Some(departure) = self.forget_on_disk(name) {
            freed += u64::from(length);
            let OnDisk::Present { directory, .. } = departure.0 else { return freed };
            self.directories[usize::from(directory)].depart(departure.1);
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

    pub(super) fn drop_content(&mut self, content: (FileId, Version)) -> u64 {
        self.index.pages_of(content).iter().map(|name| self.drop_page(name)).sum()
    }

    /// Whether a job's page is still to be written.
    pub(super) fn is_queued(&self, job: &Job) -> bool {
        self.queued(job).is_some()
    }

    fn queued(&self, job: &Job) -> Option<&Page> {
        let held = self.index.page(&job.key, job.page)?;
        (held.generation == job.generation && matches!(held.disk, OnDisk::Queued { .. })).then_some(held)
    }

    /// A job came to nothing: the page lives on in memory only, if it is there.
    pub(super) fn not_written(&mut self, directory: u8, job: &Job) {
        if self.queued(job).is_none_or(|held| held.disk != (OnDisk::Queued { directory })) {
            return;
        }
        let name = job.key.page(job.page);
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
            file.directory = Some(directory);
        }
        self.set_present(&name, directory, record);
        true
    }

    /// Who leaves a directory next; it is out of the index when this returns.
    pub(super) fn leave_disk(&mut self, directory: u8) -> Option<Departure> {
        let victim = self.disk_evictors[usize::from(directory)].victim()?;
        let victim = self.index.name(victim);
        let (_, departure) = self.forget_on_disk(&victim)?;
        self.forget_if_nowhere(&victim);
        Some(departure)
    }

    /// Nothing of a directory is served any more.
    pub(super) fn forget_directory(&mut self, number: u8) {
        let there: Vec<PageKey> = self
            .index
            .all_pages()
            .filter(|(_, page)| matches!(page.disk, OnDisk::Present { directory, .. } | OnDisk::Queued { directory } if directory == number))
            .map(|(name, _)| name)
            .collect();
        for name in there {
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
