//! What a core's store holds: files, and their pages by tier. Pure, owned by one core.
//!
//! Files and pages are numbered; hash tables hold numbers only, so that a page costs its own size and little more. The pages of
//! a file are a list. Page 0, if it is held, comes first and is in no table, so that a small file costs one entry; all others are
//! found through leaves, each one cache line for 14 neighbours, so that finding one costs one miss of the processor's caches.
//! Invariants: a page is listed in its file exactly while it has an entry; an entry has memory, or is on a disk, or
//! both. A page's generation is new with every entry, so that work that began with another entry is recognised.

use crate::chunked::Slab;
use crate::directory::DISK_TIERS;
use crate::evict::{NO_NODE, Node};
use crate::key::{FileKey, PageKey};
use crate::memory::PageMemory;
use forebay_base::{FileId, FingerprintHash, PageIndex, Version};
use hashbrown::HashTable;
use std::rc::Rc;

/// A page's number, good until the page is removed.
pub(crate) type PageId = u32;
type FileNumber = u32;
type LeafNumber = u32;
const NONE: u32 = u32::MAX;
const LEAF_PAGES: u32 = 14;

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
    file: FileNumber,
    page: PageIndex,
    /// Its neighbours among the pages of its file.
    previous: PageId,
    next: PageId,
    pub(crate) mem_node: Node,
    pub(crate) disk: OnDisk,
    pub(crate) disk_node: Node,
    pub(crate) generation: u32,
    /// Charged to the pages that may not leave; 0 when it may. A page is 4 MiB at most.
    pub(crate) held_bytes: u32,
    /// 4 KiB units read from the disk since it was last promoted.
    pub(crate) heat: u16,
    /// The memory is charged to the MEM tier.
    pub(crate) in_mem: bool,
    /// Somebody asked that it be kept.
    pub(crate) is_wanted: bool,
}

const _: () = assert!(size_of::<Page>() == 56 && size_of::<FileEntry>() == 48 && size_of::<Leaf>() == 64);

impl Page {
    fn new(file: FileNumber, page: PageIndex, generation: u32) -> Page {
        Page {
            memory: None,
            file,
            page,
            previous: NONE,
            next: NONE,
            mem_node: NO_NODE,
            disk: OnDisk::No,
            disk_node: NO_NODE,
            generation,
            held_bytes: 0,
            heat: 0,
            in_mem: false,
            is_wanted: false,
        }
    }
}

/// One content.
pub(crate) struct FileEntry {
    pub(crate) key: FileKey,
    /// The first of its pages.
    first: PageId,
    has_page_0: bool,
    homes: [u8; DISK_TIERS],
}

/// The numbers of neighbouring pages.
#[repr(align(64))]
struct Leaf {
    file: FileNumber,
    /// The first page divided by `LEAF_PAGES`.
    place: u32,
    pages: [PageId; LEAF_PAGES as usize],
}

impl Leaf {
    fn new(file: FileNumber, place: u32) -> Leaf {
        Leaf { file, place, pages: [NONE; LEAF_PAGES as usize] }
    }
}

/// The home of a content that has none in a tier: no directory has this number.
const NO_HOME: u8 = u8::MAX;

impl FileEntry {
    fn new(key: FileKey) -> FileEntry {
        FileEntry { key, first: NONE, has_page_0: false, homes: [NO_HOME; DISK_TIERS] }
    }

    /// Where its pages go in a disk tier: one directory for all of them.
    pub(crate) fn home(&self, tier: usize) -> Option<u8> {
        Some(self.homes[tier]).filter(|home| *home != NO_HOME)
    }

    pub(crate) fn set_home(&mut self, tier: usize, directory: u8) {
        self.homes[tier] = directory;
    }
}

const BLANK: FileKey =
    FileKey { file_id: FileId(0), version: Version(0), fingerprint: FingerprintHash(0), size_bytes: 0 };

fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0x243F_6A88_85A3_08D3) * 0x9E37_79B9_7F4A_7C15;
    (product >> 64) as u64 ^ product as u64
}

fn hash_of_file(file_id: FileId) -> u64 {
    mix(file_id.0)
}

fn hash_of_leaf(file: FileNumber, place: u32) -> u64 {
    mix(u64::from(file) << 32 | u64::from(place))
}

fn place_of(page: PageIndex) -> (u32, usize) {
    (page.0 / LEAF_PAGES, (page.0 % LEAF_PAGES) as usize)
}

/// Files and pages.
#[derive(Default)]
pub(crate) struct Index {
    files: Slab<FileEntry>,
    pages: Slab<Page>,
    leaves: Slab<Leaf>,
    by_file: HashTable<FileNumber>,
    by_place: HashTable<LeafNumber>,
    generation: u32,
}

impl Index {
    fn number(&self, content: (FileId, Version)) -> Option<FileNumber> {
        let is_it = |number: &FileNumber| {
            let key = &self.files[*number].key;
            (key.file_id, key.version) == content
        };
        self.by_file.find(hash_of_file(content.0), is_it).copied()
    }

    pub(crate) fn file(&self, content: (FileId, Version)) -> Option<&FileEntry> {
        Some(&self.files[self.number(content)?])
    }

    pub(crate) fn file_mut(&mut self, content: (FileId, Version)) -> Option<&mut FileEntry> {
        let number = self.number(content)?;
        Some(&mut self.files[number])
    }

    pub(crate) fn versions(&self, file_id: FileId) -> Vec<Version> {
        let files = self.by_file.iter_hash(hash_of_file(file_id)).map(|number| &self.files[*number].key);
        files.filter(|key| key.file_id == file_id).map(|key| key.version).collect()
    }

    pub(crate) fn contents(&self) -> Vec<(FileId, Version)> {
        self.by_file.iter().map(|number| self.files[*number].key.content()).collect()
    }

    fn find(&self, file: FileNumber, page: PageIndex) -> Option<PageId> {
        if page.0 == 0 {
            let held = &self.files[file];
            return held.has_page_0.then_some(held.first);
        }
        let (place, at) = place_of(page);
        let leaf = self.leaf(file, place)?;
        Some(self.leaves[leaf].pages[at]).filter(|id| *id != NONE)
    }

    fn leaf(&self, file: FileNumber, place: u32) -> Option<LeafNumber> {
        let is_it = |leaf: &LeafNumber| self.leaves[*leaf].file == file && self.leaves[*leaf].place == place;
        self.by_place.find(hash_of_leaf(file, place), is_it).copied()
    }

    /// The page, if what is held is the very content asked for.
    pub(crate) fn page(&self, key: &FileKey, page: PageIndex) -> Option<&Page> {
        let file = self.number(key.content()).filter(|number| self.files[*number].key == *key)?;
        Some(&self.pages[self.find(file, page)?])
    }

    pub(crate) fn id(&self, key: &PageKey) -> Option<PageId> {
        self.find(self.number(key.content())?, key.page)
    }

    /// The name of a page that is held.
    pub(crate) fn name(&self, id: PageId) -> PageKey {
        let page = &self.pages[id];
        self.files[page.file].key.page(page.page)
    }

    pub(crate) fn get(&self, key: &PageKey) -> Option<&Page> {
        Some(&self.pages[self.id(key)?])
    }

    pub(crate) fn get_mut(&mut self, key: &PageKey) -> Option<&mut Page> {
        let id = self.id(key)?;
        Some(&mut self.pages[id])
    }

    /// The page with its number.
    pub(crate) fn entry_mut(&mut self, key: &PageKey) -> Option<(PageId, &mut Page)> {
        let id = self.id(key)?;
        Some((id, &mut self.pages[id]))
    }

    /// A generation that no page has.
    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Adds an empty entry; the page must not be there, nor another content of the same name.
    pub(crate) fn add(&mut self, key: &FileKey, page: PageIndex) -> &mut Page {
        let file = self.number(key.content()).unwrap_or_else(|| {
            let number = self.files.put(FileEntry::new(*key));
            let files = &self.files;
            let hash = hash_of_file(key.file_id);
            self.by_file.insert_unique(hash, number, |number| hash_of_file(files[*number].key.file_id));
            number
        });
        let generation = self.next_generation();
        let id = self.pages.put(Page::new(file, page, generation));
        self.link(file, id);
        if page.0 == 0 {
            self.files[file].has_page_0 = true;
            return &mut self.pages[id];
        }
        let (place, at) = place_of(page);
        let leaf = self.leaf(file, place).unwrap_or_else(|| {
            let number = self.leaves.put(Leaf::new(file, place));
            let leaves = &self.leaves;
            let hash = |leaf: &LeafNumber| hash_of_leaf(leaves[*leaf].file, leaves[*leaf].place);
            self.by_place.insert_unique(hash_of_leaf(file, place), number, hash);
            number
        });
        self.leaves[leaf].pages[at] = id;
        &mut self.pages[id]
    }

    /// Puts a page in front of its file's list, or behind page 0.
    fn link(&mut self, file: FileNumber, id: PageId) {
        let first = self.files[file].first;
        if self.files[file].has_page_0 {
            let next = std::mem::replace(&mut self.pages[first].next, id);
            (self.pages[id].previous, self.pages[id].next) = (first, next);
            if next != NONE {
                self.pages[next].previous = id;
            }
            return;
        }
        self.files[file].first = id;
        self.pages[id].next = first;
        if first != NONE {
            self.pages[first].previous = id;
        }
    }

    /// Forgets a page, and its file with the last one.
    pub(crate) fn remove(&mut self, key: &PageKey) -> Option<Page> {
        let id = self.id(key)?;
        let blank = Page::new(NONE, PageIndex(0), 0);
        let page = self.pages.take(id, blank);
        if page.page.0 == 0 {
            self.files[page.file].has_page_0 = false;
        } else {
            self.leave_leaf(page.file, page.page);
        }
        match page.previous {
            NONE => self.files[page.file].first = page.next,
            previous => self.pages[previous].next = page.next,
        }
        if page.next != NONE {
            self.pages[page.next].previous = page.previous;
        }
        if self.files[page.file].first == NONE {
            let blank = FileEntry::new(BLANK);
            let file = self.files.take(page.file, blank);
            let hash = hash_of_file(file.key.file_id);
            if let Ok(entry) = self.by_file.find_entry(hash, |number| *number == page.file) {
                entry.remove();
            }
        }
        Some(page)
    }

    fn leave_leaf(&mut self, file: FileNumber, page: PageIndex) {
        let (place, at) = place_of(page);
        let Some(leaf) = self.leaf(file, place) else { return };
        self.leaves[leaf].pages[at] = NONE;
        if self.leaves[leaf].pages.iter().all(|id| *id == NONE) {
            self.leaves.take(leaf, Leaf::new(NONE, 0));
            if let Ok(entry) = self.by_place.find_entry(hash_of_leaf(file, place), |held| *held == leaf) {
                entry.remove();
            }
        }
    }

    /// The pages held of a content, ascending.
    pub(crate) fn pages_of(&self, content: (FileId, Version)) -> Vec<PageKey> {
        let (file_id, version) = content;
        let mut next = self.file(content).map_or(NONE, |file| file.first);
        let mut pages = Vec::new();
        while next != NONE {
            pages.push(PageKey { file_id, version, page: self.pages[next].page });
            next = self.pages[next].next;
        }
        pages.sort_unstable();
        pages
    }

    pub(crate) fn all_pages(&self) -> impl Iterator<Item = (PageKey, &Page)> {
        let files = self.by_file.iter().map(|number| &self.files[*number]);
        files.flat_map(move |file| {
            let held = |id: PageId| (id != NONE).then(|| &self.pages[id]);
            std::iter::successors(held(file.first), move |page| held(page.next))
                .map(|page| (file.key.page(page.page), page))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::{HashMap, HashSet};
    use proptest::prelude::*;

    fn key(file: u64, version: u64) -> FileKey {
        FileKey {
            file_id: FileId(file),
            version: Version(version),
            fingerprint: FingerprintHash(5),
            size_bytes: 1 << 40,
        }
    }

    proptest! {
        /// Against a plain map: what was added and not removed is there, once, under its name and its number.
        #[test]
        fn holds_what_was_added(
            steps in proptest::collection::vec((any::<bool>(), 0..5u64, 0..3u64, 0..40u32), 1..400)
        ) {
            let mut index = Index::default();
            let mut model: HashMap<PageKey, u32> = HashMap::new();
            for (adds, file, version, page) in steps {
                let (key, page) = (key(file, version), PageIndex(page));
                let name = key.page(page);
                if adds && !model.contains_key(&name) {
                    model.insert(name, index.add(&key, page).generation);
                } else if !adds {
                    let removed = index.remove(&name).map(|page| page.generation);
                    prop_assert_eq!(removed, model.remove(&name));
                }
                for (name, generation) in &model {
                    let id = index.id(name).expect("it was added");
                    prop_assert_eq!(index.name(id), *name);
                    prop_assert_eq!(index.get(name).map(|page| page.generation), Some(*generation));
                }
                let all: HashSet<PageKey> = index.all_pages().map(|(name, _)| name).collect();
                prop_assert_eq!(&all, &model.keys().copied().collect());
                let contents: HashSet<_> = model.keys().map(PageKey::content).collect();
                prop_assert_eq!(index.contents().len(), contents.len());
                for content in contents {
                    let mut pages: Vec<PageKey> =
                        model.keys().filter(|name| name.content() == content).copied().collect();
                    pages.sort_unstable();
                    prop_assert_eq!(index.pages_of(content), pages);
                    prop_assert!(index.versions(content.0).contains(&content.1));
                }
                prop_assert!(index.page(&FileKey { size_bytes: 3, ..key }, page).is_none(), "another content");
            }
        }
    }
}
