//! Which local files were handed out as a whole, which are to be checked before they may be, and unlinked files that
//! somebody still reads.
//!
//! Invariants: a file that was handed out, by this process or an earlier one, is never punched, truncated or written: it
//! leaves as a whole, by its name. Who had its descriptor may have mapped it and closed it, so nobody can know that it is
//! out of use while it has a name; without one, a look at its open descriptors tells. The space of such a file counts as
//! used until then.

use super::tables::{FileName, Freed, NO_RECORD, Tables};
use super::{Departure, Directory};
use crate::disk::{self, Watch};
use crate::format::CleanMark;
use crate::key::PageKey;
use forebay_base::{FileId, Version};
use hashbrown::HashSet;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// Unlinked files that are watched; beyond it nothing is handed out.
const ORPHANS_MAX: usize = 1024;
/// Of these looked at in one go.
const LOOKS_AT_ONCE: usize = 64;
/// Our own handles of an unlinked file are closed a moment after we let them go.
const OWN_HANDLES_WAIT: Duration = Duration::from_millis(4);
const OWN_HANDLES_LOOKS: u32 = 4;
/// Says that the last stop was a clean one.
const CLEAN_MARK: &str = "clean";

type Content = (FileId, Version);

struct Orphan {
    watch: Box<dyn Watch>,
    bytes: u64,
}

/// What a directory knows of files in other hands.
#[derive(Default)]
pub(crate) struct Lending {
    was_lent: RefCell<HashSet<Content>>,
    unchecked: RefCell<HashSet<Content>>,
    orphans: RefCell<Vec<Orphan>>,
}

impl Lending {
    /// Whether the content's local file was ever handed out.
    pub(crate) fn was_lent(&self, content: Content) -> bool {
        self.was_lent.borrow().contains(&content)
    }

    /// The content's local file is about to be handed out.
    pub(crate) fn lend(&self, content: Content) {
        self.was_lent.borrow_mut().insert(content);
    }

    /// Whether the file has to be compared with its checksums before it may be handed out.
    pub(crate) fn is_unchecked(&self, content: Content) -> bool {
        self.unchecked.borrow().contains(&content)
    }

    /// Every page was compared.
    pub(crate) fn checked(&self, content: Content) {
        self.unchecked.borrow_mut().remove(&content);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.orphans.borrow().len() >= ORPHANS_MAX
    }

    /// Space of unlinked files that somebody reads.
    pub(crate) fn orphan_bytes(&self) -> u64 {
        self.orphans.borrow().iter().map(|orphan| orphan.bytes).sum()
    }

    fn forget(&self, content: Content) {
        self.was_lent.borrow_mut().remove(&content);
        self.unchecked.borrow_mut().remove(&content);
    }
}

impl Directory {
    /// The other pages of local files that were handed out and now lose one: they have to go with it.
    pub(crate) fn rest_of_lent(&self, departures: &[Departure]) -> Vec<PageKey> {
        if self.lending.was_lent.borrow().is_empty() {
            return Vec::new();
        }
        let large = departures.iter().filter(|departure| departure.record == NO_RECORD).map(|departure| departure.name);
        let leaving: HashSet<PageKey> = large.filter(|name| self.lending.was_lent(name.content())).collect();
        let contents: BTreeSet<Content> = leaving.iter().map(PageKey::content).collect();
        let tables = self.tables.borrow();
        contents
            .into_iter()
            .flat_map(|content| tables.large_pages(content))
            .filter(|name| !leaving.contains(name))
            .collect()
    }

    /// Removes the local file of a content. If it was handed out and is in use, its space stays used.
    pub(crate) async fn unlink_content(&self, content: Content) -> io::Result<()> {
        let file = FileName::Large(content.0, content.1);
        if !self.lending.was_lent(content) {
            self.lending.forget(content);
            return self.unlink(file).await;
        }
        self.close_handles(file);
        let watched = self.disk.watch(&self.path_of(file)).await;
        self.unlink(file).await?;
        self.lending.forget(content);
        let (watch, bytes) = match watched {
            Ok(Some(watched)) => watched,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(directory = %self.path.display(), "cannot see who reads {file:?} on: {error}");
                return Ok(());
            }
        };
        for _ in 0..OWN_HANDLES_LOOKS {
            if !watch.in_use() {
                disk::drop_behind(watch);
                return Ok(());
            }
            disk::sleep(OWN_HANDLES_WAIT).await;
        }
        self.lending.orphans.borrow_mut().push(Orphan { watch, bytes });
        self.count_orphans();
        Ok(())
    }

    fn count_orphans(&self) {
        self.tables.borrow_mut().set_orphan_bytes(self.lending.orphan_bytes());
    }

    /// Gives the space back of unlinked files that nobody reads any more.
    pub(crate) fn look_at_orphans(&self) {
        let mut orphans = self.lending.orphans.borrow_mut();
        if orphans.is_empty() {
            return;
        }
        let (mut index, mut looks) = (0, 0);
        while index < orphans.len() && looks < LOOKS_AT_ONCE {
            looks += 1;
            if orphans[index].watch.in_use() {
                index += 1;
            } else {
                disk::drop_behind(orphans.swap_remove(index).watch);
            }
        }
        // Others come first the next time.
        if index < orphans.len() {
            orphans.rotate_left(index);
        }
        drop(orphans);
        self.count_orphans();
    }

    /// At the start: `lent` are the files that bear the mark of having been handed out. One that is not whole any more must
    /// not be punched, so it goes; its pages are cleared in the tables here and the caller writes these.
    pub(crate) fn recover_lending(
        &self,
        tables: &mut Tables,
        lent: &[Content],
        clean: Option<HashSet<Content>>,
    ) -> u64 {
        let mut dropped = 0;
        for &content in lent {
            if tables.is_whole(content) {
                self.lending.lend(content);
                continue;
            }
            let pages = tables.large_pages(content);
            let freed: Vec<Freed> = pages.iter().filter_map(|name| tables.clear(name, NO_RECORD)).collect();
            dropped += freed.len() as u64;
            // What is to be done on the disk for it follows from the tables: the file has no page left.
            tables.freed(&freed);
        }
        let mut unchecked = self.lending.unchecked.borrow_mut();
        *unchecked =
            tables.large_contents().filter(|content| clean.as_ref().is_none_or(|old| old.contains(content))).collect();
        dropped
    }

    /// What was not checked yet when the last process stopped cleanly; none if it did not. The mark is taken away, durably.
    pub(crate) async fn take_clean_mark(&self) -> io::Result<Option<HashSet<Content>>> {
        let path = self.path.join(CLEAN_MARK);
        let Some(bytes) = self.disk.read_whole(&path)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        if let Err(error) = self.disk.write_whole(&path, &[]) {
            // A full disk; a mark that cannot be taken away either is no reason to believe it twice.
            tracing::debug!(directory = %self.path.display(), "cannot empty the mark of a clean stop: {error}");
            self.disk.unlink(&path).await?;
            return Ok(None);
        }
        Ok(CleanMark::decode(&bytes).map(|mark| mark.unchecked.into_iter().collect()))
    }

    /// Notes that everything here was written and synced, and what of it is not checked.
    pub(crate) fn leave_clean_mark(&self) {
        let mut unchecked: Vec<Content> = self.lending.unchecked.borrow().iter().copied().collect();
        unchecked.sort_unstable();
        let Some(bytes) = (CleanMark { unchecked }).encode() else { return };
        if let Err(error) = self.disk.write_whole(&self.path.join(CLEAN_MARK), &bytes) {
            tracing::debug!(directory = %self.path.display(), "no mark of a clean stop: {error}");
        }
    }
}
