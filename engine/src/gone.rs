//! What left this core's tiers of late, or was not let in, and why: for `admin explain`. Owned by one core.
//!
//! Invariant: at most `NOTES_MAX` notes; pages of one content that leave one tier for one cause one after the other share
//! a note, so that a large file does not push everything else out.

use crate::Tier;
use crate::disk::now;
use crate::key::PageKey;
use forebay_base::{FileId, Version};
use std::collections::VecDeque;
use std::time::Instant;

/// Notes kept.
const NOTES_MAX: usize = 1024;

/// Why a page left, or was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// Others needed the room.
    Room,
    /// Its file has a newer content, or is gone.
    Dead,
    /// Somebody asked for it.
    Freed,
    /// It was not what had been written.
    Corrupt,
    /// The disk did not give it back.
    Unreadable,
    /// Its directory was given up.
    DirectoryLost,
    /// There was no room for it on the disk, or the write failed.
    NotWritten,
    /// The policy expects no second use of it.
    NotAdmitted,
    /// Pins hold as much as they may.
    PinRefused,
}

/// Pages of one content that left a tier, or were refused by it, for one cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// The content.
    pub version: Version,
    /// Which tier they left or did not get into.
    pub tier: Tier,
    /// Why.
    pub cause: Cause,
    /// How many pages.
    pub pages: u64,
    /// The last of them left then.
    pub when: Instant,
}

/// The notes, oldest first.
#[derive(Default)]
pub(crate) struct Notes(VecDeque<(FileId, Gone)>);

impl Notes {
    /// Notes a page.
    pub(crate) fn add(&mut self, name: &PageKey, tier: Tier, cause: Cause) {
        self.add_pages((name.file_id, name.version), tier, cause, 1);
    }

    /// Notes pages of a content.
    pub(crate) fn add_pages(&mut self, content: (FileId, Version), tier: Tier, cause: Cause, pages: u64) {
        let (file_id, version) = content;
        let when = now();
        if let Some((last, note)) = self.0.back_mut()
            && (*last, note.version, note.tier, note.cause) == (file_id, version, tier, cause)
        {
            note.pages += pages;
            note.when = when;
            return;
        }
        if self.0.len() == NOTES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((file_id, Gone { version, tier, cause, pages, when }));
    }

    /// What is noted of a file, the latest first.
    pub(crate) fn of(&self, file_id: FileId) -> Vec<Gone> {
        self.0.iter().rev().filter(|(file, _)| *file == file_id).map(|(_, note)| *note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::PageIndex;

    fn page(file: u64, page: u32) -> PageKey {
        PageKey { file_id: FileId(file), version: Version(1), page: PageIndex(page) }
    }

    #[test]
    fn notes_are_joined_bounded_and_found_by_file() {
        let mut notes = Notes::default();
        (0..500).for_each(|number| notes.add(&page(1, number), Tier::Ssd, Cause::Room));
        notes.add(&page(1, 7), Tier::Hdd, Cause::Room);
        notes.add(&page(2, 0), Tier::Ssd, Cause::Freed);
        let of: Vec<_> = notes.of(FileId(1)).iter().map(|gone| (gone.tier, gone.pages)).collect();
        assert_eq!(of, [(Tier::Hdd, 1), (Tier::Ssd, 500)], "the latest first");
        (10..10 + 2 * NOTES_MAX as u64).for_each(|file| notes.add(&page(file, 0), Tier::Mem, Cause::Room));
        assert_eq!(notes.0.len(), NOTES_MAX);
        assert!(notes.of(FileId(1)).is_empty());
    }
}
