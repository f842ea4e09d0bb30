//! The mover: takes the coldest pages of SSD down to HDD before anything has to be dropped for want of room, and hot
//! pages of HDD up, in the background. One task per store; there is none without both tiers.
//!
//! Invariants: what is copied was compared with its checksums; readers are never waited for and never wait; a batch is
//! small and durable before the next one begins, and the bytes moved stay below the rate.

use super::Store;
use super::tiers::Moving;
use crate::Tier;
use crate::disk::{sleep, spawn};
use crate::memory::PageMemory;
use forebay_base::stall::{CoreTask, watched};
use std::rc::Rc;
use std::time::Duration;

/// Moved a second for each HDD directory, all shards together: about half of what one disk does in pages of 1 MiB, so
/// that the other half stays for readers.
const MOVE_BYTES_PER_SECOND: u64 = 64 << 20;
const BATCH_PAGES: usize = 8;
/// Before it looks again when nothing could be moved: no buffer, no room, or a broken disk.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts the mover. It ends with its store.
pub(super) fn start(store: &Rc<Store>) {
    if !store.tiers.borrow().has_both {
        return;
    }
    let (weak, work) = (Rc::downgrade(store), store.moves.clone());
    spawn(watched(CoreTask::Move, async move {
        loop {
            let goes_on = || match weak.upgrade() {
                None => Some(None),
                Some(store) if store.closed.get() => Some(None),
                Some(store) => store.tiers.borrow().wants_moves().then(|| Some(store.clone())),
            };
            let Some(store) = work.until(goes_on).await else { return };
            let rate = store.move_rate();
            let moved = store.move_batch().await;
            drop(store);
            let time = Duration::from_micros(moved.saturating_mul(1_000_000) / rate);
            sleep(if moved == 0 { PAUSE } else { time }).await;
        }
    }));
}

impl Store {
    /// Bytes a second for this shard's moves.
    fn move_rate(&self) -> u64 {
        let slow = self.directories.iter().filter(|directory| directory.tier == Tier::Hdd).count() as u64;
        (MOVE_BYTES_PER_SECOND * slow / u64::from(self.config.shards)).max(1)
    }

    /// Down and up in turns. Returns the bytes moved, durable or given up.
    async fn move_batch(&self) -> u64 {
        let mut bytes = 0;
        let mut touched: Vec<u8> = Vec::new();
        for turn in 0..BATCH_PAGES {
            if self.closed.get() {
                break;
            }
            let moving = {
                let mut tiers = self.tiers.borrow_mut();
                if turn % 2 == 0 {
                    tiers.next_demotion().or_else(|| tiers.next_lift())
                } else {
                    tiers.next_lift().or_else(|| tiers.next_demotion())
                }
            };
            let Some(moving) = moving else { break };
            let handed_over = match self.page_to_move(&moving).await {
                Some(memory) => self.tiers.borrow_mut().copy(&moving, memory),
                None => false,
            };
            if !handed_over {
                self.tiers.borrow_mut().end_move(&moving.key.page(moving.page));
                break;
            }
            bytes += u64::from(moving.length(self.config.page_bytes));
            touched.push(moving.to);
        }
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            self.directories[usize::from(number)].settled().await;
        }
        bytes
    }

    /// The bytes of a page on its way: from memory, or from the disk, checked. `None` too while buffers are scarce.
    async fn page_to_move(&self, moving: &Moving) -> Option<Rc<PageMemory>> {
        // Memory that came from an unchecked read would get checksums of its own in the new place.
        if let (Some(memory), true) = (&moving.memory, self.config.verify_reads) {
            return Some(memory.clone());
        }
        let length = moving.length(self.config.page_bytes);
        let mut buffer = self.pool.spare_page(length as usize)?;
        let read = self.read_disk(&moving.key, moving.page, 0..length, moving.seen, true).await;
        buffer.copy_from_slice(&read.ok()?);
        Some(buffer.seal())
    }
}
