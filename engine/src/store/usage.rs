//! What a store holds, where, and what it has done: numbers for reports.

use super::Store;
use crate::directory::Directory;
use crate::index::{OnDisk, Page};
use crate::{CachedPages, DirectoryUsage, EngineCounters, Tier};
use forebay_base::{FileId, Version};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

impl CachedPages {
    fn add(&mut self, page: &Page, bytes: u64, directories: &[Rc<Directory>]) {
        self.mem_bytes += if page.memory.is_some() { bytes } else { 0 };
        if let OnDisk::Present { directory, .. } = page.disk {
            match directories[usize::from(directory)].tier {
                Tier::Hdd => self.hdd_bytes += bytes,
                _ => self.ssd_bytes += bytes,
            }
        }
        self.any_bytes += bytes;
    }
}

impl Store {
    /// What is held of one content.
    #[must_use]
    pub fn cached(&self, file_id: FileId, version: Version) -> CachedPages {
        let tiers = self.tiers.borrow();
        let mut cached = CachedPages::default();
        let Some(file) = tiers.index.file((file_id, version)) else { return cached };
        for key in tiers.index.pages_of((file_id, version)) {
            let Some(page) = tiers.index.get(&key) else { continue };
            cached.add(page, u64::from(file.key.page_length(key.page, self.config.page_bytes)), &self.directories);
        }
        cached
    }

    /// What is held of one content in each group of `group_bytes` (a multiple of a page), ascending by group, from
    /// `first` on.
    #[must_use]
    pub fn cached_groups(
        &self,
        content: (FileId, Version),
        group_bytes: u64,
        first: u32,
    ) -> BTreeMap<u32, CachedPages> {
        let tiers = self.tiers.borrow();
        let mut groups: BTreeMap<u32, CachedPages> = BTreeMap::new();
        let Some(file) = tiers.index.file(content) else { return groups };
        for key in tiers.index.pages_of(content) {
            let Some(page) = tiers.index.get(&key) else { continue };
            let offset = u64::from(key.page.0) * u64::from(self.config.page_bytes);
            let group = u32::try_from(offset / group_bytes.max(1)).unwrap_or(u32::MAX);
            if group >= first {
                let length = u64::from(file.key.page_length(key.page, self.config.page_bytes));
                groups.entry(group).or_default().add(page, length, &self.directories);
            }
        }
        groups
    }

    /// How full each tier is: MEM first, then the directories in the order of the configuration.
    #[must_use]
    pub fn usage(&self) -> Vec<DirectoryUsage> {
        let tiers = self.tiers.borrow();
        let mem = DirectoryUsage {
            tier: Tier::Mem,
            path: PathBuf::new(),
            capacity_bytes: tiers.mem_capacity_bytes,
            used_bytes: tiers.mem_used_bytes,
            pinned_bytes: if self.directories.is_empty() { tiers.pinned_bytes(0) } else { 0 },
            leased_bytes: 0,
            trouble: None,
        };
        let directories = self.directories.iter().map(|directory| DirectoryUsage {
            tier: directory.tier,
            path: directory.path.clone(),
            capacity_bytes: directory.configured_bytes,
            used_bytes: directory.held_bytes(),
            pinned_bytes: tiers.pinned_bytes(directory.number),
            leased_bytes: tiers.leased_bytes(directory.number),
            trouble: directory.trouble.borrow().clone(),
        });
        std::iter::once(mem).chain(directories).collect()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> EngineCounters {
        EngineCounters {
            buffer_bytes: self.pool.used_bytes(),
            buffer_waits: self.pool.waits(),
            demoted_pages: self.tiers.borrow().demoted_pages,
            lifted_pages: self.tiers.borrow().lifted_pages,
            write_queue_pages: self.directories.iter().map(|directory| directory.queue.borrow().len() as u64).sum(),
            ..*self.counters.borrow()
        }
    }
}
