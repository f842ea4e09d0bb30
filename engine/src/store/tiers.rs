//! The tiers' bookkeeping: which page is where, and who leaves when room is needed. No I/O and no awaits in here, so
//! that every step is atomic on its core.
//!
//! Invariants: `mem_used_bytes` is the sum of the memory of pages that are `in_mem`; a page is in a tier's evictor
//! exactly if it may leave that tier now (it is there, and not pinned).

use crate::StoreConfig;
use crate::evict::{Evictor, NO_NODE, evictor};
use crate::index::{Index, OnDisk};
use crate::key::{FileKey, PageKey};
use crate::memory::PageMemory;
use forebay_base::{FileId, PageIndex, Version};
use std::rc::Rc;

pub(super) struct Tiers {
    pub(super) index: Index,
    pub(super) mem_capacity_bytes: u64,
    pub(super) mem_used_bytes: u64,
    mem_evictor: Box<dyn Evictor>,
}

impl Tiers {
    pub(super) fn new(config: &StoreConfig) -> Tiers {
        Tiers {
            index: Index::default(),
            mem_capacity_bytes: config.mem_capacity_bytes,
            mem_used_bytes: 0,
            mem_evictor: evictor(config.eviction),
        }
    }

    /// The page's memory, counted as a use.
    pub(super) fn read_memory(&mut self, key: &FileKey, page: PageIndex) -> Option<Rc<PageMemory>> {
        let held = self.index.page(key, page)?;
        let memory = held.memory.clone()?;
        if held.mem_node != NO_NODE {
            self.mem_evictor.touch(held.mem_node);
        }
        Some(memory)
    }

    /// Takes a page in; returns how many others left memory for it.
    pub(super) fn admit(&mut self, key: &FileKey, page: PageIndex, memory: Rc<PageMemory>) -> u64 {
        if self.index.file(key.content()).is_some_and(|file| file.key != *key) {
            self.drop_content(key.content());
        }
        let name = key.page(page);
        match self.index.get(&name) {
            Some(held) if held.memory.is_some() => return 0,
            Some(_) => {}
            None => {
                self.index.add(key, page);
            }
        }
        let evicted = self.put_in_memory(&name, memory);
        if self.index.get(&name).is_some_and(|held| held.memory.is_none() && held.disk == OnDisk::No) {
            self.index.remove(&name);
        }
        evicted
    }

    /// Makes room in MEM and charges the page to it. Without room (all pinned, or larger than the tier) the page's
    /// memory is kept only if it still has to be written.
    fn put_in_memory(&mut self, name: &PageKey, memory: Rc<PageMemory>) -> u64 {
        let bytes = memory.allocated_bytes();
        let mut evicted = 0;
        while self.mem_used_bytes + bytes > self.mem_capacity_bytes {
            if bytes > self.mem_capacity_bytes {
                return evicted;
            }
            let Some(victim) = self.mem_evictor.victim() else { return evicted };
            self.leave_memory(&victim);
            evicted += 1;
        }
        let pinned = self.index.is_pinned(name.content());
        if let Some(page) = self.index.get_mut(name) {
            memory.charge_pool(false);
            self.mem_used_bytes += bytes;
            page.memory = Some(memory);
            page.in_mem = true;
            if !pinned {
                page.mem_node = self.mem_evictor.insert(*name);
            }
        }
        evicted
    }

    /// Ends a page's stay in MEM.
    fn leave_memory(&mut self, name: &PageKey) {
        let Some(page) = self.index.get_mut(name) else { return };
        if page.mem_node != NO_NODE {
            self.mem_evictor.remove(page.mem_node);
            page.mem_node = NO_NODE;
        }
        if std::mem::take(&mut page.in_mem)
            && let Some(memory) = &page.memory
        {
            self.mem_used_bytes -= memory.allocated_bytes();
            // Whoever still holds it is charged from now on.
            memory.charge_pool(true);
        }
        match page.disk {
            OnDisk::Queued { .. } => {}
            OnDisk::Present { .. } => page.memory = None,
            OnDisk::No => {
                self.index.remove(name);
            }
        }
    }

    /// Drops a page from every tier. Returns its bytes, each tier counted.
    fn drop_page(&mut self, name: &PageKey) -> u64 {
        let Some(page) = self.index.remove(name) else { return 0 };
        let mut freed = 0;
        if page.mem_node != NO_NODE {
            self.mem_evictor.remove(page.mem_node);
        }
        if let Some(memory) = &page.memory
            && page.in_mem
        {
            self.mem_used_bytes -= memory.allocated_bytes();
            freed += memory.bytes().len() as u64;
            memory.charge_pool(true);
        }
        freed
    }

    pub(super) fn drop_content(&mut self, content: (FileId, Version)) -> u64 {
        self.index.pages_of(content).iter().map(|name| self.drop_page(name)).sum()
    }

    pub(super) fn set_pinned(&mut self, content: (FileId, Version), pinned: bool) {
        if !self.index.set_pinned(content, pinned) {
            return;
        }
        for name in self.index.pages_of(content) {
            let Some(page) = self.index.get_mut(&name) else { continue };
            if pinned && page.mem_node != NO_NODE {
                self.mem_evictor.remove(page.mem_node);
                page.mem_node = NO_NODE;
            } else if !pinned && page.in_mem && page.mem_node == NO_NODE {
                page.mem_node = self.mem_evictor.insert(name);
            }
        }
    }
}
