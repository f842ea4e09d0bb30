//! What a core's store holds: files, and their pages by tier. Pure, owned by one core.
//!
//! Invariants: a page is listed in its file exactly while it has an entry; an entry has memory, or is on a disk, or
//! both. A page's generation is new with every entry, so that work that began with another entry is recognised.

use crate::evict::{NO_NODE, Node};
use crate::key::{FileKey, PageKey};
use crate::memory::PageMemory;
use forebay_base::{FileId, PageIndex, Version};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where a page stands on its way to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnDisk {
    /// It is not there and is not going there.
    No,
    /// Waiting to be written, or being written; its memory stays until then.
    Queued { directory: u8 },
    /// Committed. `record` names a small file's record.
    Present { directory: u8, record: u32 },
}

/// One page.
pub(crate) struct Page {
    pub(crate) memory: Option<Rc<PageMemory>>,
    /// The memory is charged to the MEM tier.
    pub(crate) in_mem: bool,
    pub(crate) mem_node: Node,
    pub(crate) disk: OnDisk,
    pub(crate) disk_node: Node,
    pub(crate) generation: u32,
    /// 4 KiB units read from the disk since it was last promoted.
    pub(crate) heat: u16,
    /// Charged to the pages that may not leave; 0 when it may.
    pub(crate) held_bytes: u64,
    /// Somebody asked that it be kept.
    pub(crate) is_wanted: bool,
}

/// One content.
pub(crate) struct FileEntry {
    pub(crate) key: FileKey,
    pub(crate) pages: BTreeSet<u32>,
    /// Where its pages go: one directory for all of them.
    pub(crate) directory: Option<u8>,
}

/// Files and pages.
#[derive(Default)]
pub(crate) struct Index {
    files: HashMap<FileId, Vec<FileEntry>>,
    pages: HashMap<PageKey, Page>,
    generation: u32,
}

impl Index {
    pub(crate) fn file(&self, content: (FileId, Version)) -> Option<&FileEntry> {
        self.files.get(&content.0)?.iter().find(|file| file.key.version == content.1)
    }

    pub(crate) fn file_mut(&mut self, content: (FileId, Version)) -> Option<&mut FileEntry> {
        self.files.get_mut(&content.0)?.iter_mut().find(|file| file.key.version == content.1)
    }

    pub(crate) fn versions(&self, file_id: FileId) -> Vec<Version> {
        self.files.get(&file_id).map(|files| files.iter().map(|file| file.key.version).collect()).unwrap_or_default()
    }

    pub(crate) fn contents(&self) -> Vec<(FileId, Version)> {
        self.files.values().flatten().map(|file| file.key.content()).collect()
    }

    /// The page, if what is held is the very content asked for.
    pub(crate) fn page(&self, key: &FileKey, page: PageIndex) -> Option<&Page> {
        let held = self.pages.get(&key.page(page))?;
        (self.file(key.content())?.key == *key).then_some(held)
    }

    pub(crate) fn get(&self, key: &PageKey) -> Option<&Page> {
        self.pages.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &PageKey) -> Option<&mut Page> {
        self.pages.get_mut(key)
    }

    /// Adds an empty entry; the page must not be there, nor another content of the same name.
    pub(crate) fn add(&mut self, key: &FileKey, page: PageIndex) -> &mut Page {
        let files = self.files.entry(key.file_id).or_default();
        let at = files.iter().position(|file| file.key.version == key.version).unwrap_or_else(|| {
            files.push(FileEntry { key: *key, pages: BTreeSet::new(), directory: None });
            files.len() - 1
        });
        files[at].pages.insert(page.0);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        self.pages
            .entry(key.page(page))
            .insert(Page {
                memory: None,
                in_mem: false,
                mem_node: NO_NODE,
                disk: OnDisk::No,
                disk_node: NO_NODE,
                generation,
                heat: 0,
                held_bytes: 0,
                is_wanted: false,
            })
            .into_mut()
    }

    /// Forgets a page, and its file with the last one.
    pub(crate) fn remove(&mut self, key: &PageKey) -> Option<Page> {
        let page = self.pages.remove(key)?;
        if let Some(files) = self.files.get_mut(&key.file_id) {
            if let Some(at) = files.iter().position(|file| file.key.version == key.version) {
                files[at].pages.remove(&key.page.0);
                if files[at].pages.is_empty() {
                    files.swap_remove(at);
                }
            }
            if files.is_empty() {
                self.files.remove(&key.file_id);
            }
        }
        Some(page)
    }

    /// The pages held of a content.
    pub(crate) fn pages_of(&self, content: (FileId, Version)) -> Vec<PageKey> {
        let (file_id, version) = content;
        let pages = self.file(content).map(|file| &file.pages);
        pages.into_iter().flatten().map(|&page| PageKey { file_id, version, page: PageIndex(page) }).collect()
    }

    pub(crate) fn all_pages(&self) -> impl Iterator<Item = (&PageKey, &Page)> {
        self.pages.iter()
    }
}
