//! The scrub: pages on disks are read again in the background, so that what went bad is found before somebody asks for it.
//!
//! One task a core, directory after directory, in the order of the tables, which is that of the files on the disk. It reads at
//! a bounded rate, and waits while readers wait for the same disks. Rows are read from the disk too, not from memory. Where
//! it stood is not kept over a restart. A page that is bad is dropped and counted, like one that a reader found.

use super::Store;
use super::read::Sighting;
use crate::directory::{Directory, FileName};
use crate::disk::{sleep, spawn};
use crate::index::OnDisk;
use crate::key::FileKey;
use forebay_base::stall::{CoreTask, watched};
use forebay_base::{PageIndex, UNIT_BYTES, unit_checksums};
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Read at once: little, so that a reader who comes meanwhile waits for little.
const PIECE_BYTES: u32 = 256 << 10;
/// After a round, and where there is nothing to read.
const PAUSE: Duration = Duration::from_secs(60);
/// How long readers are let go first, and how often it is looked.
const STEP_ASIDE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Starts the scrub, if the configuration wants one. It ends with the store.
pub(super) fn start(store: &Rc<Store>) {
    let rate = store.config.scrub_bytes_per_second;
    if rate == 0 || store.directories.is_empty() {
        return;
    }
    let store = Rc::downgrade(store);
    spawn(watched(CoreTask::Scrub, async move {
        while round(&store, rate).await.is_some() {
            sleep(PAUSE).await;
        }
    }));
}

/// Every page once; `None` when the store is gone.
async fn round(store: &Weak<Store>, rate: u64) -> Option<()> {
    let directories = store.upgrade()?.directories.len();
    for directory in 0..directories {
        for table in [FileName::Headers, FileName::Small] {
            let mut number = 0;
            loop {
                let pages = {
                    let store = store.upgrade()?;
                    let directory = &store.directories[directory];
                    if directory.closed.get() {
                        return None;
                    }
                    if directory.bad.get() {
                        break;
                    }
                    let tables = directory.tables.borrow();
                    tables.pages_of_sector(table, number)
                };
                let Some(pages) = pages else { break };
                number += 1;
                for (key, page, record) in pages {
                    scrub_page(store, directory as u8, &key, page, record, rate).await?;
                }
            }
        }
    }
    store.upgrade()?.count(|counters| counters.scrub_rounds += 1);
    Some(())
}

/// One page, piece by piece. What changes meanwhile is left alone.
async fn scrub_page(
    store: &Weak<Store>,
    directory: u8,
    key: &FileKey,
    page: PageIndex,
    record: u32,
    rate: u64,
) -> Option<()> {
    let (length, seen) = {
        let store = store.upgrade()?;
        let tiers = store.tiers.borrow();
        let Some(held) = tiers.index.page(key, page) else { return Some(()) };
        if held.disk != (OnDisk::Present { directory, record }) {
            return Some(());
        }
        let seen = Sighting { directory, record, generation: held.generation, is_hot: false };
        (key.page_length(page, store.config.page_bytes), seen)
    };
    let mut row = None;
    for start in (0..length).step_by(PIECE_BYTES as usize) {
        let piece = start..length.min(start + PIECE_BYTES);
        let pace = Duration::from_nanos(u64::from(piece.end - piece.start).saturating_mul(1_000_000_000) / rate);
        sleep(pace).await;
        let mut waited = Duration::ZERO;
        while store.upgrade()?.disk_readers.get() > 0 && waited < STEP_ASIDE {
            sleep(LOOK_AGAIN).await;
            waited += LOOK_AGAIN;
        }
        let store = store.upgrade()?;
        if !store.scrub_piece(key, page, piece, seen, &mut row).await {
            return Some(());
        }
    }
    Some(())
}

impl Store {
    /// Reads a piece and compares it; `false` if the page needs no further look.
    async fn scrub_piece(
        &self,
        key: &FileKey,
        page: PageIndex,
        piece: Range<u32>,
        seen: Sighting,
        row: &mut Option<Rc<[u32]>>,
    ) -> bool {
        let directory: Rc<Directory> = self.directories[usize::from(seen.directory)].clone();
        let located = directory.tables.borrow().locate(key, page, seen.record);
        let Some(location) = located.filter(|_| self.tiers.borrow().is_same(key, page, seen)) else { return false };
        let bytes = piece.len();
        let read = async {
            if row.is_none() {
                *row = self.read_row(key, page, &directory, &location, seen).await?;
            }
            let length = bytes.next_multiple_of(UNIT_BYTES);
            self.read_units(&directory, &location, piece.start.into(), length, key, page, seen).await
        }
        .await;
        if !self.tiers.borrow().is_same(key, page, seen) {
            return false;
        }
        self.count(|counters| counters.scrubbed_bytes += bytes as u64);
        let is_intact = match (&read, row.as_ref()) {
            (Err(error), _) => {
                self.read_failed(key, page, &directory, error);
                return false;
            }
            (Ok(read), Some(row)) => {
                let want = row.get(piece.start as usize / UNIT_BYTES..).unwrap_or_default();
                read.len() >= bytes
                    && want.len() >= bytes.div_ceil(UNIT_BYTES)
                    && unit_checksums(&read[..bytes]).zip(want).all(|(got, want)| got == *want)
            }
            (Ok(_), None) => false,
        };
        if !is_intact {
            self.count(|counters| counters.scrub_bad_pages += 1);
            self.corrupt(key, page, &directory, "fails its checksum in the scrub");
        }
        is_intact
    }
}
