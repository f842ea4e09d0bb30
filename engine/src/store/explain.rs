//! What is known of one file, for people who ask why it is cached or is not.

use super::Store;
use crate::Tier;
use crate::gone::Gone;
use crate::index::OnDisk;
use forebay_base::{FileId, UNIT_BYTES, Version};
use std::path::PathBuf;
use std::time::Instant;

/// Pages of a content in one place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldAt {
    /// Which tier; a page in MEM and on a disk is in two places.
    pub tier: Option<Tier>,
    /// The directory; empty for MEM.
    pub path: PathBuf,
    /// How many.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that pins keep from leaving it.
    pub pinned_pages: u64,
    /// Bytes read from there since the pages came, or were last copied to memory, in whole units.
    pub read_bytes: u64,
}

/// A pin of a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PinState {
    /// Bytes that it may hold, as they take room on a disk.
    pub reserved_bytes: u64,
    /// When it ends unless it is renewed.
    pub until: Instant,
    /// Some of its pages found no room among what is pinned.
    pub is_short: bool,
}

/// What one core knows of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explained {
    /// Where pages of the content are, the fastest first.
    pub places: Vec<HeldAt>,
    /// Pages that wait to be written to a disk.
    pub queued_pages: u64,
    /// Pages on their way to another tier.
    pub moving_pages: u64,
    /// Its pin.
    pub pin: Option<PinState>,
    /// Other contents of the file of which pages are held.
    pub other_versions: Vec<Version>,
    /// What left or was refused of late, of any content, the latest first.
    pub gone: Vec<Gone>,
}

impl Store {
    /// Everything that is known of one content of a file, and what left of any.
    #[must_use]
    pub fn explain(&self, file_id: FileId, version: Version) -> Explained {
        let tiers = self.tiers.borrow();
        let content = (file_id, version);
        let place = |tier, path| HeldAt { tier: Some(tier), path, ..HeldAt::default() };
        let mut places = vec![place(Tier::Mem, PathBuf::new())];
        places.extend(self.directories.iter().map(|directory| place(directory.tier, directory.path.clone())));
        let mut explained = Explained {
            pin: tiers.pin_state(content),
            moving_pages: tiers.moving_of(content),
            other_versions: tiers.index.versions(file_id).into_iter().filter(|other| *other != version).collect(),
            gone: tiers.notes.of(file_id),
            ..Explained::default()
        };
        if let Some(file) = tiers.index.file(content) {
            for name in tiers.index.pages_of(content) {
                let Some(page) = tiers.index.get(&name) else { continue };
                let bytes = u64::from(file.key.page_length(name.page, self.config.page_bytes));
                let mut add = |at: usize, is_pinned: bool, read_units: u16| {
                    let place = &mut places[at];
                    place.pages += 1;
                    place.bytes += bytes;
                    place.pinned_pages += u64::from(is_pinned);
                    place.read_bytes += u64::from(read_units) * UNIT_BYTES as u64;
                };
                let is_pinned = page.held_bytes > 0;
                if page.in_mem {
                    add(0, is_pinned && self.directories.is_empty(), 0);
                }
                match page.disk {
                    OnDisk::Present { directory, .. } => add(1 + usize::from(directory), is_pinned, page.heat),
                    OnDisk::Queued { .. } => explained.queued_pages += 1,
                    OnDisk::No => {}
                }
            }
        }
        explained.places = places.into_iter().filter(|place| place.pages > 0).collect();
        explained
    }
}
